//! Decentralized authentication: an operator, accounts and users, by NKeys and JWTs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::server::config::quote;

/// A user's NKey: the server knows the public key, the user keeps the seed.
#[derive(Clone, Debug)]
pub struct NKey {
    /// `U...`, for [`crate::ServerBuilder::nkey`].
    pub public: String,
    /// `SU...`, for the client.
    pub seed: String,
}

impl NKey {
    /// A new key.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "every key is another one")]
    pub fn new() -> NKey {
        let key = KeyPair::new_user();
        NKey { public: key.public_key(), seed: seed(&key) }
    }
}

/// An operator with one account for applications, which has JetStream, and a system account.
///
/// Users are made without telling the server: it believes what the account has signed.
pub struct Operator {
    key: KeyPair,
    account: KeyPair,
    system: KeyPair,
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operator").field("account", &self.account.public_key()).finish()
    }
}

impl Operator {
    /// New keys for all three.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "every operator is another one")]
    pub fn new() -> Operator {
        Operator {
            key: KeyPair::new_operator(),
            account: KeyPair::new_account(),
            system: KeyPair::new_account(),
        }
    }

    /// The text of a `.creds` file for a new user of the account.
    #[must_use]
    pub fn credentials(&self, user: &str) -> String {
        self.user(user, None)
    }

    /// [`Operator::credentials`] that the server refuses after `life`, in whole seconds. It then
    /// also closes the connections that use them.
    #[must_use]
    pub fn credentials_for(&self, user: &str, life: Duration) -> String {
        self.user(user, Some(now() + life.as_secs()))
    }

    /// The config of a server that trusts this operator.
    pub(crate) fn render(&self) -> String {
        let system = self.system.public_key();
        let operator = json!({ "type": "operator", "version": 2, "system_account": system });
        let operator = jwt(&self.key, &self.key, "operator", &operator, None);
        let accounts: String = [("APP", &self.account), ("SYS", &self.system)]
            .into_iter()
            .map(|(name, key)| {
                // The system account must not have JetStream.
                let storage = if name == "APP" { -1 } else { 0 };
                let limits = json!({
                    "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
                    "wildcards": true, "conn": -1, "leaf": -1,
                    "mem_storage": storage, "disk_storage": storage,
                });
                let claims = json!({ "type": "account", "version": 2, "limits": limits });
                let token = jwt(&self.key, key, name, &claims, None);
                format!("  {}: {token}\n", key.public_key())
            })
            .collect();
        format!(
            "operator: {}\nsystem_account: {system}\nresolver: MEMORY\n\
             resolver_preload: {{\n{accounts}}}",
            quote(&operator)
        )
    }

    fn user(&self, name: &str, expires: Option<u64>) -> String {
        let key = KeyPair::new_user();
        let claims = json!({
            "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1,
            "pub": {}, "sub": {},
        });
        let token = jwt(&self.account, &key, name, &claims, expires);
        let seed = seed(&key);
        format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }
}

/// What `issuer` says of `subject`, signed (ADR-14).
fn jwt(
    issuer: &KeyPair,
    subject: &KeyPair,
    name: &str,
    nats: &Value,
    expires: Option<u64>,
) -> String {
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let mut claims = json!({
        "jti": subject.public_key(), "iat": now(), "iss": issuer.public_key(),
        "sub": subject.public_key(), "name": name, "nats": nats,
    });
    if let Some(expires) = expires {
        claims["exp"] = json!(expires);
    }
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let signature = issuer.sign(signed.as_bytes()).expect("the issuer has its seed");
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
}

fn seed(key: &KeyPair) -> String {
    key.seed().expect("a new key has its seed")
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs()
}

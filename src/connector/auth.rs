//! Proves who we are, anew at every connect: credentials and NKey files are read each time, so
//! rotating them needs no restart.

use std::path::Path;

use async_nats::Auth as Proof;
use nkeys::KeyPair;

use super::key_name;
use crate::error::{Error, ErrorKind, Result};
use crate::settings::{Auth, Settings};

/// Answers the server's `nonce` with what the settings say.
pub(crate) async fn prove(settings: &Settings, nonce: &[u8]) -> Result<Proof> {
    let mut proof = Proof::new();
    match settings.auth() {
        Auth::None => {}
        Auth::Token(token) => proof.token = Some(token.expose().to_owned()),
        Auth::UserPassword { username, password } => {
            proof.username = Some(username.clone());
            proof.password = Some(password.expose().to_owned());
        }
        Auth::NkeyFile(path) => {
            let key = read_nkey(settings, path).await?;
            proof.nkey = Some(key.public_key());
            proof.signature = Some(sign(&key, nonce)?);
        }
        Auth::Credentials(path) => {
            let (jwt, key) = read_credentials(settings, path).await?;
            proof.jwt = Some(jwt);
            proof.signature = Some(sign(&key, nonce)?);
        }
    }
    Ok(proof)
}

fn sign(key: &KeyPair, nonce: &[u8]) -> Result<Vec<u8>> {
    key.sign(nonce).map_err(|_| {
        Error::new(ErrorKind::InvalidSettings, "the key cannot sign: it holds no private seed")
    })
}

async fn read_nkey(settings: &Settings, path: &Path) -> Result<KeyPair> {
    let setting = key_name(settings, "NKEY_FILE");
    let text = read(&setting, path).await?;
    let seed = text.lines().map(str::trim).find(|line| line.starts_with('S'));
    let seed =
        seed.ok_or_else(|| bad(&setting, path, "no NKey seed found, which begins with SU"))?;
    KeyPair::from_seed(seed).map_err(|_| bad(&setting, path, "the NKey seed is damaged"))
}

async fn read_credentials(settings: &Settings, path: &Path) -> Result<(String, KeyPair)> {
    let setting = key_name(settings, "CREDENTIALS");
    let text = read(&setting, path).await?;
    let jwt = armored(&text, "NATS USER JWT")
        .ok_or_else(|| bad(&setting, path, "no user JWT found; expected a .creds file"))?;
    let seed = armored(&text, "USER NKEY SEED")
        .ok_or_else(|| bad(&setting, path, "no NKey seed found; expected a .creds file"))?;
    let key =
        KeyPair::from_seed(seed).map_err(|_| bad(&setting, path, "the NKey seed is damaged"))?;
    Ok((jwt.to_owned(), key))
}

/// The one line of content between `BEGIN <label>` and `END <label>`.
fn armored<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| line.contains("BEGIN") && line.contains(label))?;
    lines.find(|line| !line.is_empty()).filter(|line| !line.starts_with('-'))
}

async fn read(setting: &str, path: &Path) -> Result<String> {
    tokio::fs::read_to_string(path).await.map_err(|error| {
        bad(setting, path, "the file cannot be read; check path and permissions").with_source(error)
    })
}

/// An error about a file that a setting names.
pub(crate) fn bad(setting: &str, path: &Path, what: &str) -> Error {
    Error::new(ErrorKind::InvalidSettings, format!("{setting}: {}: {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::armored;

    #[test]
    fn armored_lines_are_found_whatever_their_content() {
        let text =
            "-----BEGIN NATS USER JWT-----\r\n\r\neyEND.BEGIN\r\n------END NATS USER JWT------";
        assert_eq!(armored(text, "NATS USER JWT"), Some("eyEND.BEGIN"));
        assert_eq!(armored(text, "USER NKEY SEED"), None);
        assert_eq!(armored("-----BEGIN A-----\n-----END A-----", "A"), None);
    }
}

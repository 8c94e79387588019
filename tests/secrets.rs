//! No secret is ever logged or printed, at any level and by any crate. One test, in a process of
//! its own: everything that the process logs is captured.

use std::fmt::Write as _;
use std::fs;

use nats_connector::pubsub::Message;
use nats_connector::{Connector, Settings};
use testkit::logs::Logs;
use testkit::{Authority, NKey, Operator, Server};

/// Something of each kind that must not be seen, and something that must.
const PASSWORD: &str = "pass-of-Ann-7f3a";
const WRONG: &str = "wrong-word-91bc";
const TOKEN: &str = "token-of-all-52de";
const IN_URL: &str = "userinfo-word-08ef";
const CONTROL: &str = "control-name-c0de";

/// All that was printed of values.
#[derive(Default)]
struct Printed(String);

impl Printed {
    fn add(&mut self, value: &dyn std::fmt::Debug) {
        write!(self.0, "{value:?}\n{value:#?}\n").unwrap();
    }
}

/// Connects, uses the connection, and prints everything on the way.
async fn visit(printed: &mut Printed, pairs: &[(&str, &str)]) -> bool {
    let builder = pairs.iter().fold(Settings::builder(), |builder, (key, value)| {
        builder.set(format!("NATS.{key}"), value)
    });
    let builder = builder.set("NATS.NAME", CONTROL).set("NATS.RECONNECT_WAIT", "10ms");
    printed.add(&builder);
    let settings = match builder.build() {
        Ok(settings) => settings,
        Err(error) => {
            printed.add(&error);
            printed.0 += &error.to_string();
            return false;
        }
    };
    printed.add(&settings);
    printed.add(settings.auth());
    write!(printed.0, "{}", settings.table()).unwrap();
    match Connector::connect(&settings).await {
        Ok(connector) => {
            printed.add(&connector);
            printed.add(&connector.pubsub());
            let ignore = |_: Message| async {};
            connector.pubsub().subscribe("a", ignore).await.unwrap();
            connector.pubsub().publish("a", "hello").await.unwrap();
            connector.client().unwrap().force_reconnect().await.unwrap();
            testkit::eventually(std::time::Duration::from_secs(60), || async {
                connector.health().await.is_ready()
            })
            .await;
            printed.add(&connector.health().await);
            printed.add(&*connector.capabilities().await.unwrap());
            printed.add(&connector.drain().await);
            true
        }
        Err(error) => {
            printed.add(&error);
            printed.0 += &error.to_string();
            false
        }
    }
}

#[tokio::test]
async fn no_secret_is_logged_or_printed() {
    let logs = Logs::global();
    let mut printed = Printed::default();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let operator = Operator::new();
    let key = NKey::new();
    let stranger = NKey::new();
    let (good, other) = (operator.credentials("app"), Operator::new().credentials("app"));
    let (good_creds, other_creds) = (file("good.creds", &good), file("other.creds", &other));
    let damaged = format!("{}X\n", key.seed);
    let (seed, bad_seed) = (file("user.nk", &key.seed), file("other.nk", &stranger.seed));
    let broken_seed = file("broken.nk", &damaged);

    let users = Server::builder().user("ann", PASSWORD).user("bob", IN_URL).start().await;
    let tokens = Server::builder().token(TOKEN).start().await;
    let nkeys = Server::builder().nkey(&key.public).start().await;
    let jwts = Server::builder().operator(&operator).start().await;
    let authority = Authority::new();
    let tls = Server::builder().tls(&authority.server()).user("ann", PASSWORD).start().await;
    let [users, tokens, nkeys, jwts, tls] = [&users, &tokens, &nkeys, &jwts, &tls].map(Server::url);
    let ca = authority.file();
    let ca = ca.to_str().unwrap();
    let with = |url: &str, userinfo: &str| url.replace("://", &format!("://{userinfo}@"));
    let (in_url, wrong_in_url) =
        (with(&users, &format!("bob:{IN_URL}")), with(&users, &format!("bob:{WRONG}")));
    let token_in_url = with(&tokens, TOKEN);
    let bad_url = with("nats://127.0.0.1:4222:4222", &format!("bob:{IN_URL}"));
    let two_users = format!("{in_url},{wrong_in_url}");

    let visits: [(bool, &[(&str, &str)]); 16] = [
        (true, &[("SERVER", &users), ("USERNAME", "ann"), ("PASSWORD", PASSWORD)]),
        (false, &[("SERVER", &users), ("USERNAME", "ann"), ("PASSWORD", WRONG)]),
        (false, &[("SERVER", &users), ("PASSWORD", PASSWORD)]),
        (true, &[("SERVER", &in_url)]),
        (false, &[("SERVER", &wrong_in_url)]),
        (false, &[("SERVER", &bad_url)]),
        (false, &[("SERVER", &two_users)]),
        (true, &[("SERVER", &token_in_url)]),
        (true, &[("SERVER", &tokens), ("TOKEN", TOKEN), ("USERNAME", "a"), ("PASSWORD", PASSWORD)]),
        (false, &[("SERVER", &tokens), ("TOKEN", WRONG)]),
        (true, &[("SERVER", &nkeys), ("NKEY_FILE", &seed)]),
        (false, &[("SERVER", &nkeys), ("NKEY_FILE", &bad_seed)]),
        (false, &[("SERVER", &nkeys), ("NKEY_FILE", &broken_seed)]),
        (true, &[("SERVER", &jwts), ("CREDENTIALS", &good_creds)]),
        (false, &[("SERVER", &jwts), ("CREDENTIALS", &other_creds)]),
        (true, &[("SERVER", &tls), ("TLS_CA", ca), ("USERNAME", "ann"), ("PASSWORD", PASSWORD)]),
    ];
    for (welcome, pairs) in visits {
        assert_eq!(visit(&mut printed, pairs).await, welcome, "{:?}", pairs.last().unwrap().0);
    }

    // What is captured is really everything: names are there, and the client's own words.
    let logged = logs.text();
    assert!(printed.0.contains(CONTROL));
    tracing::trace!(password = CONTROL, "proof that the capture would see one");
    assert!(logs.text().contains(CONTROL));
    assert!(logged.contains("TRACE") && logged.contains("async_nats"));

    let line = |text: &str, begin: &str| {
        let mut lines = text.lines();
        lines.find(|line| line.starts_with(begin)).expect("a line of its own").to_owned()
    };
    let mut secrets = [PASSWORD, WRONG, TOKEN, IN_URL, damaged.trim()].map(str::to_owned).to_vec();
    for seed in [&key.seed, &stranger.seed, &line(&good, "SU"), &line(&other, "SU")] {
        secrets.push(seed.clone());
        // Nor a good part of one.
        secrets.push(seed[4..24].to_owned());
    }
    secrets.extend([line(&good, "eyJ"), line(&other, "eyJ")]);
    for (number, secret) in secrets.iter().enumerate() {
        for (place, text) in [("log", &logged), ("print", &printed.0)] {
            let found = text.lines().find(|line| line.contains(secret.as_str()));
            let shown = found.map(|line| line.replace(secret.as_str(), "<SECRET>"));
            assert_eq!(shown, None, "secret {number} in a {place}");
        }
    }
}

//! Who we are: every way to authenticate, which one counts, bad files, rotation.

use std::fs;
use std::time::Duration;

use nats_connector::{Connector, ErrorKind};
use tempfile::TempDir;
use testkit::logs::Logs;
use testkit::{NKey, Operator, Proxy, Server, eventually};

use crate::{LONG, connect, refused, settings};

/// Files of one test.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Files(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

async fn works(pairs: &[(&str, &str)]) -> Connector {
    let connector = connect(pairs).await;
    connector.pubsub().flush().await.unwrap();
    connector
}

/// The user of the server's one connection: its name or public key.
async fn connected_as(server: &Server) -> String {
    let page = server.monitor("/connz?auth=1").await;
    assert_eq!(page["num_connections"], 1, "{page:#}");
    page["connections"][0]["authorized_user"].as_str().unwrap().to_owned()
}

async fn unauthorized(pairs: &[(&str, &str)], setting: &str) {
    let error = refused(pairs).await;
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    let text = error.to_string();
    assert!(text.contains("unauthorized") && text.contains(setting), "{text}");
}

#[tokio::test]
async fn credentials_file() {
    let operator = Operator::new();
    let server = Server::builder().operator(&operator).start().await;
    let files = Files::new();
    let (url, good) = (server.url(), files.write("good.creds", operator.credentials("app")));
    let _connector = works(&[("SERVER", &url), ("CREDENTIALS", &good)]).await;

    let stranger = files.write("stranger.creds", Operator::new().credentials("app"));
    unauthorized(&[("SERVER", &url), ("CREDENTIALS", &stranger)], "NATS.CREDENTIALS").await;
    let text = operator.credentials_for("app", Duration::from_secs(1));
    let expired = files.write("expired.creds", text);
    // Times are whole seconds there: within the last one both can happen.
    let user = settings(&[("SERVER", &url), ("CREDENTIALS", &expired)]);
    eventually(LONG, || async {
        Connector::connect(&user).await.is_err_and(|e| e.kind() == ErrorKind::Unauthorized)
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    unauthorized(&[("SERVER", &url), ("CREDENTIALS", &expired)], "NATS.CREDENTIALS").await;
    unauthorized(&[("SERVER", &url)], "NATS.CREDENTIALS").await;
}

#[tokio::test]
async fn nkey_file() {
    let key = NKey::new();
    let server = Server::builder().nkey(&key.public).start().await;
    let files = Files::new();
    let url = server.url();
    let good = files.write("good.nk", format!("# the seed\n\n  {}  \n", key.seed));
    let connector = works(&[("SERVER", &url), ("NKEY_FILE", &good)]).await;
    assert_eq!(connected_as(&server).await, key.public);
    drop(connector);

    let stranger = files.write("stranger.nk", NKey::new().seed);
    unauthorized(&[("SERVER", &url), ("NKEY_FILE", &stranger)], "NATS.NKEY_FILE").await;
}

#[tokio::test]
async fn token_also_in_the_url() {
    let server = Server::builder().token("t0p s3cr3t").start().await;
    let url = server.url();
    works(&[("SERVER", &url), ("TOKEN", "t0p s3cr3t")]).await;
    works(&[("SERVER", &url.replace("://", "://t0p%20s3cr3t@"))]).await;
    unauthorized(&[("SERVER", &url), ("TOKEN", "wrong")], "NATS.TOKEN").await;
}

#[tokio::test]
async fn user_and_password_also_in_the_url() {
    let server = Server::builder().user("ann", "p@ss: w,rd").start().await;
    let url = server.url();
    works(&[("SERVER", &url), ("USERNAME", "ann"), ("PASSWORD", "p@ss: w,rd")]).await;
    works(&[("SERVER", &url.replace("://", "://ann:p%40ss%3A%20w%2Crd@"))]).await;
    unauthorized(&[("SERVER", &url), ("USERNAME", "ann"), ("PASSWORD", "wrong")], "NATS.USERNAME")
        .await;
}

/// Connects with two ways at once: `first` counts, and one warning names `second`.
async fn first_wins(pairs: &[(&str, &str)], second: &str) -> Connector {
    let (logs, _guard) = Logs::scoped();
    let connector = works(pairs).await;
    let text = logs.text();
    let warnings: Vec<_> = text.lines().filter(|line| line.contains("ignored beside it")).collect();
    assert_eq!(warnings.len(), 1, "{text}");
    let (_, ignored) = warnings[0].split_once("ignored beside it").unwrap();
    assert!(warnings[0].contains("WARN") && ignored.contains(second), "{}", warnings[0]);
    connector
}

#[tokio::test]
async fn of_two_ways_the_first_wins_and_a_warning_names_the_other() {
    let files = Files::new();

    let operator = Operator::new();
    let server = Server::builder().operator(&operator).start().await;
    let creds = files.write("user.creds", operator.credentials("app"));
    let url = server.url();
    first_wins(&[("SERVER", &url), ("CREDENTIALS", &creds), ("TOKEN", "x")], "NATS.TOKEN").await;

    let key = NKey::new();
    let server = Server::builder().nkey(&key.public).user("ann", "pw").user("bob", "pw");
    let server = server.start().await;
    let seed = files.write("user.nk", &key.seed);
    let url = server.url();
    let user = [("USERNAME", "ann"), ("PASSWORD", "pw")];
    let both = [&[("SERVER", url.as_str()), ("NKEY_FILE", seed.as_str())], &user[..]].concat();
    let connector = first_wins(&both, "NATS.USERNAME").await;
    assert_eq!(connected_as(&server).await, key.public);
    drop(connector);

    eventually(LONG, || async { server.varz().await["connections"] == 0 }).await;
    let with_bob = url.replace("://", "://bob:pw@");
    let both = [&[("SERVER", with_bob.as_str())], &user[..]].concat();
    let connector = first_wins(&both, "the user in NATS.SERVER").await;
    assert_eq!(connected_as(&server).await, "ann");
    drop(connector);

    let server = Server::builder().token("t").start().await;
    let url = server.url();
    let both = [&[("SERVER", url.as_str()), ("TOKEN", "t")], &user[..]].concat();
    first_wins(&both, "NATS.USERNAME").await;
}

#[tokio::test]
async fn bad_files_are_named_before_any_connect() {
    let proxy = Proxy::start("127.0.0.1:1".parse().unwrap());
    let url = proxy.url();
    let files = Files::new();
    let good = Operator::new().credentials("app");
    let (jwt_part, seed_part) = good.split_once("\n\n").unwrap();
    let damaged_seed = good.replace("\nSU", "\nSUX");
    let public = NKey::new().public;
    let seed = NKey::new().seed;
    let damaged = seed[..20].to_owned() + &seed[21..];
    let cases: [(&str, Option<&[u8]>, &str); 9] = [
        ("CREDENTIALS", None, "cannot be read"),
        ("CREDENTIALS", Some(b""), "no user JWT found"),
        ("CREDENTIALS", Some(seed_part.as_bytes()), "no user JWT found"),
        ("CREDENTIALS", Some(jwt_part.as_bytes()), "no NKey seed found"),
        ("CREDENTIALS", Some(damaged_seed.as_bytes()), "the NKey seed is damaged"),
        ("CREDENTIALS", Some(b"\xff\xfe"), "cannot be read"),
        ("NKEY_FILE", None, "cannot be read"),
        ("NKEY_FILE", Some(public.as_bytes()), "no NKey seed found"),
        ("NKEY_FILE", Some(damaged.as_bytes()), "the NKey seed is damaged"),
    ];
    for (number, (setting, content, expected)) in cases.into_iter().enumerate() {
        let name = format!("file-{number}");
        let path = match content {
            Some(content) => files.write(&name, content),
            None => files.0.path().join(&name).to_str().unwrap().to_owned(),
        };
        let error = refused(&[("SERVER", &url), (setting, &path)]).await;
        assert_eq!(error.kind(), ErrorKind::InvalidSettings, "{error}");
        let text = error.to_string();
        for part in [&format!("NATS.{setting}"), &path, expected] {
            assert!(text.contains(part), "{text} lacks {part}");
        }
        assert!(!text.contains(&seed[2..20]), "{text}");
    }
    assert_eq!(proxy.accepted(), 0);
}

#[tokio::test]
async fn a_new_credentials_file_is_used_at_the_next_connect() {
    let operator = Operator::new();
    let server = Server::builder().operator(&operator).start().await;
    let files = Files::new();
    let short = operator.credentials_for("first", Duration::from_secs(3));
    let creds = files.write("user.creds", short);
    let connector = works(&[
        ("SERVER", &server.url()),
        ("CREDENTIALS", &creds),
        ("RECONNECT_WAIT", "50ms"),
        ("MAX_RECONNECT", "-1"),
    ])
    .await;
    let before = connected_as(&server).await;
    // The server ends the connection when the first user expires; its file is replaced already.
    files.write("user.creds", operator.credentials("second"));
    eventually(LONG, || async {
        let health = connector.health().await;
        health.reconnects > 0 && health.is_ready()
    })
    .await;
    let after = connected_as(&server).await;
    assert!(after != before, "{before} {after}");
}

#[tokio::test]
async fn a_new_nkey_file_is_used_at_the_next_connect() {
    let (first, second) = (NKey::new(), NKey::new());
    let mut server = Server::builder().nkey(&first.public).nkey(&second.public).start().await;
    let files = Files::new();
    let seed = files.write("user.nk", &first.seed);
    let connector = works(&[
        ("SERVER", &server.url()),
        ("NKEY_FILE", &seed),
        ("RECONNECT_WAIT", "50ms"),
        ("MAX_RECONNECT", "-1"),
    ])
    .await;
    assert_eq!(connected_as(&server).await, first.public);

    // A damaged file keeps it from connecting and is named; mended, it connects.
    files.write("user.nk", "nothing");
    server.restart().await;
    eventually(LONG, || async {
        let error = connector.health().await.last_error.unwrap_or_default();
        error.contains("NATS.NKEY_FILE") && error.contains("no NKey seed found")
    })
    .await;
    files.write("user.nk", &second.seed);
    eventually(LONG, || async { connector.health().await.is_ready() }).await;
    assert_eq!(connected_as(&server).await, second.public);
}

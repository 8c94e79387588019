//! The doctor on healthy and on sick servers: each fault is found, once, with its advice.

use nats_connector::doctor::{self, Diagnosis, Verdict};
use nats_connector::{Settings, SettingsBuilder};
use std::time::{Duration, Instant};
use testkit::{Authority, Permissions, Proxy, Server, Version};

async fn examine(settings: SettingsBuilder) -> Diagnosis {
    doctor::examine(&settings.build().unwrap()).await
}

fn at(url: &str) -> SettingsBuilder {
    Settings::builder().set("NATS.SERVER", url).set("NATS.REQUEST_TIMEOUT", "5s")
}

/// The only fault: what it is about, its text and its advice.
#[track_caller]
fn fault(diagnosis: &Diagnosis) -> (&'static str, String, String) {
    let faults: Vec<_> = diagnosis.faults().collect();
    assert_eq!(faults.len(), 1, "{diagnosis}");
    assert_eq!((diagnosis.is_healthy(), diagnosis.exit_code()), (false, 1));
    let finding = faults[0];
    let Verdict::Fault { advice } = &finding.verdict else { panic!("{finding}") };
    assert_eq!(diagnosis.to_string().matches("->").count(), 1, "{diagnosis}");
    (finding.about, finding.text.clone(), advice.clone())
}

#[track_caller]
fn text(diagnosis: &Diagnosis, about: &str) -> String {
    let findings: Vec<_> = diagnosis.findings().iter().filter(|f| f.about == about).collect();
    assert_eq!(findings.len(), 1, "{about}: {diagnosis}");
    findings[0].text.clone()
}

#[tokio::test]
async fn a_healthy_server() {
    let server = Server::builder().jetstream().user("app", "s3cr3t-word").start().await;
    let settings =
        at(&server.url()).set("NATS.USERNAME", "app").set("NATS.PASSWORD", "s3cr3t-word");
    let settings = settings.env_from([("NATS_SERVR", "typo")]);
    let diagnosis = examine(settings).await;
    assert!(diagnosis.is_healthy(), "{diagnosis}");
    assert_eq!(diagnosis.exit_code(), 0);
    assert_eq!(text(&diagnosis, "connection"), format!("{}: connected", server.url()));
    assert_eq!(text(&diagnosis, "tls"), "not in use");
    assert!(text(&diagnosis, "server").starts_with("nats-server 2."));
    assert!(text(&diagnosis, "round trip").ends_with(" ms"));
    assert!(text(&diagnosis, "permissions").contains("listen and publish"));
    assert!(text(&diagnosis, "jetstream").contains("0 streams"));
    assert!(text(&diagnosis, "capabilities").contains("per-key TTL"));
    assert!(text(&diagnosis, "settings").contains("NATS_SERVR"));

    let report = diagnosis.to_string();
    assert!(report.contains("NATS.USERNAME = app  (code)"), "{report}");
    assert!(report.ends_with("\nhealthy"), "{report}");
    assert!(!report.contains("s3cr3t-word") && !format!("{diagnosis:?}").contains("s3cr3t-word"));
    // Nothing is left behind.
    let connections = || async { server.varz().await["connections"] == 0 };
    testkit::eventually(Duration::from_secs(10), connections).await;
}

#[tokio::test]
async fn no_server_among_two() {
    let server = Server::builder().jetstream().start().await;
    let diagnosis = examine(at(&format!("{},nats://127.0.0.1:1", server.url()))).await;
    let (about, what, advice) = fault(&diagnosis);
    assert_eq!(about, "connection");
    assert!(what.contains("nats://127.0.0.1:1: connection refused"), "{what}");
    assert!(advice.contains("start nats-server there"), "{advice}");
    // The other one is examined all the same.
    assert!(text(&diagnosis, "round trip").ends_with(" ms"));
}

#[tokio::test]
async fn a_server_that_does_not_answer_costs_its_time_limit_only() {
    let server = Server::builder().start().await;
    let proxy = Proxy::start(server.address());
    proxy.black_hole();
    let begun = Instant::now();
    let diagnosis = examine(at(&proxy.url()).set("NATS.CONNECT_TIMEOUT", "300ms")).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    let (about, what, advice) = fault(&diagnosis);
    assert_eq!(about, "connection");
    assert!(what.contains("timed out"), "{what}");
    assert!(advice.contains("NATS.CONNECT_TIMEOUT"), "{advice}");
}

#[tokio::test]
async fn a_wrong_password() {
    let server = Server::builder().jetstream().user("app", "right").start().await;
    let settings = at(&server.url()).set("NATS.USERNAME", "app").set("NATS.PASSWORD", "hunter2");
    let diagnosis = examine(settings).await;
    let (about, what, advice) = fault(&diagnosis);
    assert_eq!(about, "connection");
    assert!(what.contains("unauthorized"), "{what}");
    assert!(advice.contains("NATS.PASSWORD"), "{advice}");
    assert!(!format!("{diagnosis} {diagnosis:?}").contains("hunter2"));
}

#[tokio::test]
async fn jetstream_is_off() {
    let server = Server::builder().start().await;
    let diagnosis = examine(at(&server.url())).await;
    let (about, what, advice) = fault(&diagnosis);
    assert_eq!(about, "jetstream");
    assert!(what.contains("not available"), "{what}");
    assert!(advice.contains("--jetstream"), "{advice}");
}

#[tokio::test]
async fn the_jetstream_limit_of_the_account_is_reached() {
    let server = Server::builder().jetstream();
    let server = server
        .config("accounts { A { users: [{user: a, password: a}], jetstream: {max_streams: 1} } }");
    let server = server.start().await;
    let settings = || at(&server.url()).set("NATS.USERNAME", "a").set("NATS.PASSWORD", "a");
    assert!(text(&examine(settings()).await, "jetstream").contains("0 of 1 streams"));
    let connector = nats_connector::Connector::connect(&settings().build().unwrap()).await.unwrap();
    connector.kv().set("key", "value").await.unwrap();
    let (about, what, advice) = fault(&examine(settings()).await);
    assert_eq!(about, "jetstream");
    assert!(what.contains("1 of 1 streams"), "{what}");
    assert!(advice.contains("raise the limit"), "{advice}");
}

#[tokio::test]
async fn narrow_permissions() {
    let deaf = Permissions::default().publish(&[">"]).subscribe(&["orders.>"]);
    let dumb = Permissions::default().publish(&["$JS.API.>"]).subscribe(&["_INBOX.>"]);
    let bare = Permissions::default().publish(&["orders.>"]).subscribe(&["_INBOX.>"]);
    let server = Server::builder().jetstream();
    let server = server.user_with("deaf", "x", &deaf).user_with("dumb", "x", &dumb);
    let server = server.user_with("bare", "x", &bare).start().await;
    let user = |name: &str| at(&server.url()).set("NATS.USERNAME", name).set("NATS.PASSWORD", "x");

    let (about, what, advice) = fault(&examine(user("deaf")).await);
    assert_eq!(about, "permissions");
    assert!(what.contains("subscribing to the inbox is not permitted"), "{what}");
    assert!(advice.contains("NATS.INBOX_PREFIX"), "{advice}");

    let diagnosis = examine(user("dumb")).await;
    assert!(diagnosis.is_healthy(), "{diagnosis}");
    assert!(text(&diagnosis, "permissions").contains("may not publish to inboxes"));
    assert!(text(&diagnosis, "round trip").ends_with(" ms"));

    let (about, what, advice) = fault(&examine(user("bare")).await);
    assert_eq!(about, "jetstream");
    assert!(what.contains("not permitted"), "{what}");
    assert!(advice.contains("$JS.API.INFO"), "{advice}");
}

#[tokio::test]
async fn tls() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = Server::builder().jetstream().tls(&authority.server()).start().await;
    let with_ca = |ca: &Authority| at(&server.url()).set("NATS.TLS_CA", ca.file().display());

    let diagnosis = examine(with_ca(&authority)).await;
    assert!(diagnosis.is_healthy(), "{diagnosis}");
    assert!(text(&diagnosis, "tls").starts_with("in use, "), "{diagnosis}");

    let (about, what, advice) = fault(&examine(with_ca(&stranger)).await);
    assert_eq!(about, "connection");
    assert!(what.contains("TLS failed"), "{what}");
    assert!(advice.contains("NATS.TLS_CA"), "{advice}");

    let missing = at(&server.url()).set("NATS.TLS_CA", "no-such.pem");
    let (about, what, _) = fault(&examine(missing).await);
    assert_eq!(about, "connection");
    assert!(what.contains("NATS.TLS_CA: no-such.pem"), "{what}");
}

#[tokio::test]
async fn an_old_server_lacks_features_and_that_is_no_fault() {
    if !testkit::require(Version::V2_10) {
        return;
    }
    let server = Server::builder().version(Version::V2_10).jetstream().start().await;
    let diagnosis = examine(at(&server.url())).await;
    assert!(diagnosis.is_healthy(), "{diagnosis}");
    assert!(diagnosis.to_string().contains("per-key TTL needs nats-server 2.11"), "{diagnosis}");
}

#[tokio::test]
async fn in_process_there_is_nothing_to_connect_to() {
    let diagnosis = examine(Settings::builder().set("NATS.SERVER", "memory:")).await;
    assert!(diagnosis.is_healthy());
    assert!(text(&diagnosis, "connection").contains("in process"));
}

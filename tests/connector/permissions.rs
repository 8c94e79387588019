//! What the server does not permit is told, by name, to whoever tried it.

use futures::StreamExt;
use nats_connector::{Connector, Error, ErrorKind, Result};
use testkit::logs::Logs;
use testkit::{Permissions, Proxy, Server, eventually};

use crate::{LONG, connect};

async fn user(may: &Permissions, more: &[(&str, &str)]) -> (Server, Connector) {
    let server = Server::builder().user("admin", "pw").user_with("ann", "pw", may).start().await;
    let ann = as_user(&server, "ann", more).await;
    (server, ann)
}

async fn as_user(server: &Server, name: &str, more: &[(&str, &str)]) -> Connector {
    let url = server.url();
    let base = [("SERVER", url.as_str()), ("USERNAME", name), ("PASSWORD", "pw")];
    let base = [&base[..], &[("RECONNECT_WAIT", "50ms"), ("MAX_RECONNECT", "-1")]].concat();
    connect(&[&base[..], more].concat()).await
}

fn names<T>(result: Result<T>, parts: &[&str]) {
    let error: Error = result.err().expect("a refusal");
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{error} lacks {part}");
    }
}

#[tokio::test]
async fn a_denied_request_fails_at_once_and_names_its_subject() {
    let may = Permissions::default().deny_publish(&["Private.>"]);
    let (_server, ann) = user(&may, &[]).await;
    // A limit far beyond the test's own: the refusal ends it, not time.
    let call = ann.pubsub().request("Private.Data", "x").timeout(10 * LONG);
    names(tokio::time::timeout(LONG, call).await.expect("at once"), &["subject=Private.Data"]);
    // Two at once are both told.
    let pubsub = ann.pubsub();
    let both = tokio::join!(pubsub.request("Private.A", "x"), pubsub.request("Private.B", "x"));
    names(both.0, &["subject=Private.A"]);
    names(both.1, &["subject=Private.B"]);
}

#[tokio::test]
async fn a_denied_publish_is_told_by_a_flush_that_follows() {
    let may = Permissions::default().deny_publish(&["private"]);
    let (_server, ann) = user(&may, &[]).await;
    let (logs, _guard) = Logs::scoped();
    ann.pubsub().publish("private", "x").await.unwrap();
    let mut told = ann.pubsub().flush().await;
    // Another task takes the refusal in: on a busy machine a later flush can be the one.
    while told.is_ok() {
        told = ann.pubsub().flush().await;
    }
    names(told, &["subject=private", "publishing"]);
    ann.pubsub().flush().await.unwrap();
    let health = ann.health().await;
    assert!(health.is_ready() && health.last_error.unwrap().contains("private"));
    assert!(logs.text().contains("Permissions Violation"), "{}", logs.text());
}

#[tokio::test]
async fn a_denied_subscription_is_told_by_name() {
    let may = Permissions::default().deny_subscribe(&["private.>"]);
    let (_server, ann) = user(&may, &[]).await;
    let pubsub = ann.pubsub();
    names(pubsub.messages("private.a").await, &["subject=private.a", "subscribing"]);
    names(pubsub.messages("private.a").queue("q").await, &["subject=private.a"]);
    let ignore = |_: nats_connector::pubsub::Message| async {};
    names(pubsub.subscribe("private.*", ignore).await, &["subject=private.*"]);
    // What may be subscribed to is not held up by it.
    let mut heard = pubsub.messages("public").await.unwrap();
    pubsub.publish("public", "x").await.unwrap();
    assert!(heard.next().await.is_some());
}

#[tokio::test]
async fn a_denied_inbox_is_told_with_the_setting_that_helps() {
    let may = Permissions::default().subscribe(&["public", "_MINE.>"]);
    let (server, ann) = user(&may, &[]).await;
    let admin = as_user(&server, "admin", &[]).await;
    let answer =
        |message: nats_connector::pubsub::Message| async move { message.respond("answer").await };
    admin.pubsub().subscribe("service", answer).await.unwrap();
    // The refusal ends them, not time.
    for _ in 0..2 {
        let asked = ann.pubsub().request("service", "x").timeout(10 * LONG);
        let asked = tokio::time::timeout(LONG, asked).await.expect("at once");
        names(asked, &["_INBOX.", "NATS.INBOX_PREFIX"]);
    }

    let own = as_user(&server, "ann", &[("INBOX_PREFIX", "_MINE.ann")]).await;
    let answer = own.pubsub().request("service", "x").await.unwrap();
    assert_eq!(answer.decode::<String>().unwrap(), "answer");
    assert!(own.health().await.is_ready());
}

#[tokio::test]
async fn a_denied_queue_group_ends_nothing_else_on_its_subject() {
    let may = Permissions::default().subscribe(&["_INBOX.>", "jobs", "jobs workers"]);
    let (_server, ann) = user(&may, &[]).await;
    let mut plain = ann.pubsub().messages("jobs").await.unwrap();
    let mut worker = ann.pubsub().messages("jobs").queue("workers").await.unwrap();
    names(ann.pubsub().messages("jobs").queue("others").await, &["subject=jobs"]);
    ann.pubsub().publish("jobs", "x").await.unwrap();
    for stream in [&mut plain, &mut worker] {
        assert!(tokio::time::timeout(LONG, stream.next()).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn an_inbox_denied_by_one_server_is_asked_for_at_the_next() {
    let may = Permissions::default().deny_subscribe(&["_INBOX.>"]);
    let strict = Server::builder().user_with("ann", "pw", &may).start().await;
    let open = Server::builder().user("ann", "pw").start().await;
    let proxy = Proxy::start(strict.address());
    let connector = connect(&[
        ("SERVER", &proxy.url()),
        ("USERNAME", "ann"),
        ("PASSWORD", "pw"),
        ("RECONNECT_WAIT", "50ms"),
    ])
    .await;
    names(connector.pubsub().flush().await, &["NATS.INBOX_PREFIX"]);
    proxy.set_target(open.address());
    proxy.cut();
    eventually(LONG, || async { connector.pubsub().flush().await.is_ok() }).await;
}

#[tokio::test]
async fn who_may_publish_nothing_can_subscribe() {
    let may = Permissions::default().deny_publish(&[">"]);
    let (server, ann) = user(&may, &[]).await;
    let admin = as_user(&server, "admin", &[]).await;
    for round in 0..20 {
        let topic = format!("news.{round}");
        let mut heard = ann.pubsub().messages(topic.clone()).await.unwrap();
        // The call has returned, so the server has it.
        admin.pubsub().publish(topic.clone(), "x").await.unwrap();
        let message = tokio::time::timeout(LONG, heard.next()).await.unwrap();
        assert!(message.is_some(), "{topic}");
    }
    assert!(ann.health().await.is_ready());
    assert!(ann.drain().await.is_clean());
}

#[tokio::test]
async fn a_permission_lost_at_a_reconnect_ends_the_subscription_with_a_log() {
    let may = Permissions::default();
    let open = Server::builder().user_with("ann", "pw", &may).start().await;
    let may = Permissions::default().deny_subscribe(&["private"]);
    let strict = Server::builder().user_with("ann", "pw", &may).start().await;
    let proxy = Proxy::start(open.address());
    let connector = connect(&[
        ("SERVER", &proxy.url()),
        ("USERNAME", "ann"),
        ("PASSWORD", "pw"),
        ("RECONNECT_WAIT", "50ms"),
        ("MAX_RECONNECT", "-1"),
    ])
    .await;
    let (logs, _guard) = Logs::scoped();
    let mut first = connector.pubsub().messages("private").await.unwrap();
    let mut second = connector.pubsub().messages("private").await.unwrap();
    let mut public = connector.pubsub().messages("public").await.unwrap();
    proxy.set_target(strict.address());
    proxy.cut();
    for stream in [&mut first, &mut second] {
        assert!(tokio::time::timeout(LONG, stream.next()).await.unwrap().is_none());
    }
    let text = logs.text();
    let ended = |line: &&str| line.contains("a subscription has ended") && line.contains("private");
    assert_eq!(text.lines().filter(ended).count(), 2, "{text}");
    eventually(LONG, || async { connector.health().await.is_ready() }).await;
    connector.pubsub().publish("public", "x").await.unwrap();
    assert!(tokio::time::timeout(LONG, public.next()).await.unwrap().is_some());
}

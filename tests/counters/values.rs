//! What adds, reads and resets give, in process and on a server.

use std::time::Duration;

use async_nats::HeaderMap;
use futures::future::join_all;
use nats_connector::counters::CountersConfig;
use nats_connector::kv::Storage;
use nats_connector::{Connector, ErrorKind};
use serde_json::{Value, json};
use testkit::{Server, Version, eventually, logs, require};

use super::connect;

async fn api(connector: &Connector, subject: &str, body: Value) -> Value {
    let client = connector.client().unwrap();
    let answer = client.request(format!("$JS.API.{subject}"), body.to_string().into()).await;
    serde_json::from_slice(&answer.unwrap().payload).unwrap()
}

/// The same everywhere.
async fn count(connector: &Connector) {
    let hits = connector.counters("hits");
    assert_eq!(hits.get("page").await.unwrap(), None);
    assert_eq!(hits.get("page").consistent().await.unwrap(), None);
    assert_eq!(hits.keys().await.unwrap(), Vec::<String>::new());
    assert!(!hits.reset("page").await.unwrap());
    assert!(!hits.reset_all().await.unwrap());
    assert!(!hits.delete_store().await.unwrap());

    assert_eq!(hits.increment("page", 1).await.unwrap(), 1);
    assert_eq!(hits.increment("page", 41).await.unwrap(), 42);
    assert_eq!(hits.increment("page", 0).await.unwrap(), 42);
    assert_eq!(hits.decrement("page", 1).await.unwrap(), 41);
    assert_eq!(hits.increment("page", -50).await.unwrap(), -9);
    assert_eq!(hits.get("page").await.unwrap(), Some(-9));
    assert_eq!(connector.counters("hits").get("page").consistent().await.unwrap(), Some(-9));
    assert_eq!(connector.counters("misses").get("page").await.unwrap(), None);
    assert_eq!(hits.increment("zero", 0).await.unwrap(), 0);
    assert_eq!(hits.get("zero").await.unwrap(), Some(0));

    // Any key, and namespaces.
    let ada = hits.clone().with_prefix("user:ada");
    let odd = ["page:/a b", "..", "é*>", "page"];
    for (n, key) in (1..).zip(odd) {
        assert_eq!(ada.increment(key, n).await.unwrap(), n, "{key}");
    }
    let mut sorted = odd.to_vec();
    sorted.sort_unstable();
    assert_eq!(ada.keys().await.unwrap(), sorted);
    assert_eq!(hits.keys().await.unwrap().len(), 6);
    let values = ada.get_many(["page", "none", ".."]).await.unwrap();
    assert_eq!(values, [Some(4), None, Some(2)]);
    assert_eq!(ada.get_many(["page"]).consistent().await.unwrap(), [Some(4)]);
    assert_eq!(hits.get_many(Vec::<String>::new()).await.unwrap(), []);

    // At once from one process, each with its own value.
    let mut values = join_all((0..200).map(|_| hits.increment("ticket", 1))).await;
    values.sort_by_key(|value| *value.as_ref().unwrap());
    let values: Vec<i64> = values.into_iter().map(Result::unwrap).collect();
    assert_eq!(values, (1..=200).collect::<Vec<_>>());

    assert!(hits.reset("page").await.unwrap());
    assert!(!hits.reset("page").await.unwrap());
    assert_eq!(hits.get("page").consistent().await.unwrap(), None);
    assert_eq!(hits.increment("page", 1).await.unwrap(), 1);
    assert!(ada.reset_all().await.unwrap());
    assert_eq!(ada.keys().await.unwrap(), Vec::<String>::new());
    assert_eq!(hits.keys().await.unwrap(), ["page", "ticket", "zero"]);

    // Beyond an i64 the add is made and its value cannot be told.
    assert_eq!(hits.increment("page", i64::MAX - 1).await.unwrap(), i64::MAX);
    let error = hits.increment("page", 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert_eq!(error.context("key"), Some("page"));
    assert_eq!(error.context("counters"), Some("hits"));
    assert!(error.to_string().contains("the add was made"), "{error}");
    let error = hits.get("page").consistent().await.unwrap_err();
    assert_eq!((error.kind(), error.context("key")), (ErrorKind::Decode, Some("page")));
    assert_eq!(hits.decrement("page", 1).await.unwrap(), i64::MAX);

    assert!(hits.delete_store().await.unwrap());
    assert_eq!(hits.get("page").await.unwrap(), None);
    assert_eq!(hits.increment("page", 1).await.unwrap(), 1);

    for (store, key) in [("", "a"), ("a.b", "a"), ("hits", "")] {
        let error = connector.counters(store).increment(key, 1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    let error = hits.get("k".repeat(2000)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let wrong = CountersConfig::new("hits").replicas(0);
    let error = connector.counters(wrong).keys().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn in_process() {
    let connector = Connector::memory();
    count(&connector).await;
    connector.drain().await;
    let error = connector.counters("hits").increment("page", 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_server() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    count(&connector).await;
    connector.drain().await;
    let error = connector.counters("hits").increment("page", 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_made_as_asked_and_its_differences_are_told() {
    let logs = logs::Logs::global();
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let config = CountersConfig::new("votes")
        .storage(Storage::Memory)
        .duplicate_window(Duration::from_secs(30));
    connector.counters(config).increment("a", 1).await.unwrap();
    let stream = &api(&connector, "STREAM.INFO.COUNTERS_votes", json!({})).await["config"];
    assert_eq!(stream["subjects"], json!(["$COUNTERS._.votes.>"]));
    assert_eq!(stream["storage"], "memory");
    assert_eq!(stream["duplicate_window"], 30_000_000_000_u64);
    assert_eq!(stream["allow_msg_counter"], true);

    let other = connect(&server).await;
    let config = CountersConfig::new("votes").storage(Storage::File);
    assert_eq!(other.counters(config).increment("a", 1).await.unwrap(), 2);
    let told = || async { logs.text().contains("is not as asked") };
    eventually(Duration::from_secs(30), told).await;

    // A cluster is needed for copies.
    let config = CountersConfig::new("copies").replicas(3);
    let error = connector.counters(config).increment("a", 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");

    // A stream of that name that does not count.
    let plain = json!({ "name": "COUNTERS_plain", "subjects": ["plain.>"] });
    api(&connector, "STREAM.CREATE.COUNTERS_plain", plain).await;
    let error = connector.counters("plain").increment("a", 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!(error.context("stream"), Some("COUNTERS_plain"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_deleted_elsewhere_is_made_anew() {
    let server = Server::builder().jetstream().start().await;
    let (connector, other) = (connect(&server).await, connect(&server).await);
    let hits = connector.counters("hits");
    assert_eq!(hits.increment("page", 5).await.unwrap(), 5);
    assert!(other.counters("hits").delete_store().await.unwrap());
    assert_eq!(hits.get("page").await.unwrap(), None);
    assert_eq!(hits.increment("page", 1).await.unwrap(), 1);
    assert!(other.counters("hits").delete_store().await.unwrap());
    assert_eq!(hits.increment("page", 1).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_clients_count_along_and_as_far_as_they_like() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let hits = connector.counters("hits");
    assert_eq!(hits.increment("page", 5).await.unwrap(), 5);
    let add = async |n: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Incr", n);
        let context = connector.jetstream().unwrap();
        let subject = "$COUNTERS._.hits.page";
        let ack = context.publish_with_headers(subject, headers, "".into()).await.unwrap();
        ack.await.unwrap().value
    };
    assert_eq!(add("+7").await.as_deref(), Some("12"));
    assert_eq!(hits.increment("page", 1).await.unwrap(), 13);
    let huge = "9".repeat(60);
    add(&format!("+{huge}")).await;
    for consistent in [false, true] {
        let read = hits.get("page");
        let read = if consistent { read.consistent() } else { read };
        assert_eq!(read.await.unwrap_err().kind(), ErrorKind::Decode);
    }
    let error = hits.increment("page", 1).await.unwrap_err();
    assert_eq!((error.kind(), error.context("key")), (ErrorKind::Decode, Some("page")));
    add(&format!("-{huge}")).await;
    assert_eq!(hits.get("page").consistent().await.unwrap(), Some(14));
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_of_two_domains_do_not_count_together() {
    let hub = Server::builder().jetstream_domain("hub").leaf_nodes().start().await;
    let leaf = Server::builder().jetstream_domain("edge").leaf_of(&hub).start().await;
    let (at_hub, at_leaf) = (connect(&hub).await, connect(&leaf).await);
    let settings = nats_connector::Settings::builder()
        .set("NATS.SERVER", hub.url())
        .set("NATS.JETSTREAM_DOMAIN", "edge");
    let from_hub = Connector::connect(&settings.build().unwrap()).await.unwrap();
    assert_eq!(at_hub.counters("hits").increment("page", 1).await.unwrap(), 1);
    assert_eq!(at_leaf.counters("hits").increment("page", 10).await.unwrap(), 10);
    // The leaf's new subjects reach the hub a moment later.
    let edge = from_hub.counters("hits");
    assert_eq!(edge.increment("page", 10).await.unwrap(), 20);
    assert_eq!(edge.get("page").await.unwrap(), Some(20));
    assert_eq!(edge.keys().await.unwrap(), ["page"]);
    assert_eq!(at_leaf.counters("hits").get("page").consistent().await.unwrap(), Some(20));
    assert_eq!(at_hub.counters("hits").get("page").consistent().await.unwrap(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_server_is_refused() {
    if !require(Version::V2_11) {
        return;
    }
    let server = Server::builder().version(Version::V2_11).jetstream().start().await;
    let hits = connect(&server).await.counters("hits");
    let errors = [
        hits.increment("page", 1).await.unwrap_err(),
        hits.get("page").await.unwrap_err(),
        hits.keys().await.unwrap_err(),
        hits.reset("page").await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let text = error.to_string();
        assert!(text.contains("nats-server 2.12 or newer; connected to 2.11"), "{text}");
    }
}

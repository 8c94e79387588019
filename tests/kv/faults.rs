//! An outage is an error, never a miss, and nothing hangs.

use std::time::{Duration, Instant};

use futures::future;
use nats_connector::ErrorKind;
use nats_connector::kv::{BucketConfig, Kv};
use testkit::{Cluster, Proxy, Server, eventually};

use super::{connect, connect_with, stream};

/// A limit for calls that cannot succeed, and the slack that a busy machine may add.
const LIMIT: Duration = Duration::from_millis(700);
const SLACK: Duration = Duration::from_secs(4);

/// Every call ends in time with one of these kinds.
async fn all_fail(kv: &Kv, kinds: &[ErrorKind]) {
    let begun = Instant::now();
    let errors = [
        kv.get::<u32>("key").timeout(LIMIT).await.map(drop),
        kv.exists("key").timeout(LIMIT).await.map(drop),
        kv.set("key", &1).timeout(LIMIT).await.map(drop),
        kv.replace("key", &1).timeout(LIMIT).await.map(drop),
        kv.delete("key").timeout(LIMIT).await,
        kv.bucket("unknown").get_raw("key").timeout(LIMIT).await.map(drop),
        kv.create_bucket(BucketConfig::new("new")).timeout(LIMIT).await.map(drop),
    ];
    assert!(begun.elapsed() < LIMIT * 7 + SLACK, "took {:?}", begun.elapsed());
    for (n, error) in errors.into_iter().enumerate() {
        let error = error.expect_err("a call succeeded in an outage");
        assert!(kinds.contains(&error.kind()), "call {n}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_is_no_miss() {
    let mut server = Server::builder().jetstream().start().await;
    let connector = connect_with(&server, &[("NATS.MAX_RECONNECT", "-1")]).await;
    let kv = connector.kv();
    kv.set("key", &1).await.unwrap();
    server.kill().await;
    all_fail(&kv, &[ErrorKind::Unavailable, ErrorKind::Timeout]).await;
    server.restart().await;
    eventually(Duration::from_secs(20), || async {
        kv.get::<u32>("key").await.is_ok_and(|value| value == Some(1))
    })
    .await;
    kv.set("key", &2).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_network_is_no_miss() {
    let server = Server::builder().jetstream().start().await;
    let proxy = Proxy::start(server.address());
    let settings = nats_connector::Settings::builder().set("NATS.SERVER", proxy.url());
    let settings = settings.build().unwrap();
    let connector = nats_connector::Connector::connect(&settings).await.unwrap();
    let kv = connector.kv();
    kv.set("key", &1).await.unwrap();
    proxy.black_hole();
    all_fail(&kv, &[ErrorKind::Timeout, ErrorKind::Unavailable]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_jetstream_is_no_miss() {
    let server = Server::builder().start().await;
    let connector = connect(&server).await;
    all_fail(&connector.kv(), &[ErrorKind::Unavailable]).await;
    let error = connector.kv().get_raw("key").await.unwrap_err();
    assert!(error.to_string().contains("JetStream does not answer"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_takes_the_keys_of_a_missing_bucket_is_told() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let kv = connector.kv().bucket("b");
    kv.set("key", &1).await.unwrap();
    super::delete_stream(&connector, "b").await;
    let greedy = async_nats::jetstream::stream::Config {
        name: "GREEDY".to_owned(),
        subjects: vec!["$KV.>".to_owned()],
        ..Default::default()
    };
    // The server may still be busy with the deleted stream's files.
    let context = connector.jetstream().unwrap();
    eventually(Duration::from_secs(10), || async {
        context.create_stream(greedy.clone()).await.is_ok()
    })
    .await;
    let error = kv.set("key", &2).await.unwrap_err();
    assert_eq!(error.context("stream"), Some("GREEDY"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_keeps_replaces_apart_and_tells_the_loss_of_its_majority() {
    let mut cluster = Cluster::start(Server::builder().jetstream()).await;
    let connector = connect(&cluster.nodes()[0]).await;
    let config = BucketConfig::new("b").replicas(3);
    let kv = connector.kv().create_bucket(config).await.unwrap();
    kv.set("key", &0).await.unwrap();
    let replaces = (1..=20).map(|n| tokio::spawn(kv.replace("key", &n)));
    for replaced in future::join_all(replaces).await {
        assert!(replaced.unwrap().unwrap().is_some());
    }
    assert_eq!(stream(&connector, "b").await["state"]["last_seq"], 21);
    kv.delete("key").await.unwrap();
    assert_eq!(kv.replace("key", &1).await.unwrap(), None);
    kv.set("key", &1).await.unwrap();

    for node in &mut cluster.nodes_mut()[1..] {
        node.kill().await;
    }
    let begun = Instant::now();
    let outage = [ErrorKind::Unavailable, ErrorKind::Timeout];
    let error = kv.set("key", &2).timeout(LIMIT).await.unwrap_err();
    assert!(outage.contains(&error.kind()), "{error:?}");
    // The write before may still be on its way to the others, and is then in conflict with this one.
    let error = kv.replace("key", &2).timeout(LIMIT).await.unwrap_err();
    assert!(outage.contains(&error.kind()) || error.is_conflict(), "{error:?}");
    // A copy may still answer; a miss it is not.
    match kv.get::<u32>("key").timeout(LIMIT).await {
        Ok(value) => assert!(value.is_some()),
        Err(error) => assert!(outage.contains(&error.kind()), "{error:?}"),
    }
    assert!(begun.elapsed() < LIMIT * 3 + SLACK, "took {:?}", begun.elapsed());
}

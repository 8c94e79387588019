//! Every object store of this crate runs the whole suite, NATS on every server it supports.

mod adjusted;

use std::sync::Arc;
use std::time::Duration;

use adjusted::Adjusted;
use nats_connector::objects::{BucketConfig, Objects, Storage};
use nats_connector::{Connector, Settings, conformance};
use testkit::{Cluster, Server, Version, require};

#[tokio::test]
async fn memory() {
    let objects = Objects::memory();
    conformance::objects::run(|| objects.clone()).await;
}

#[tokio::test]
async fn connector_in_process() {
    let connector = Connector::memory();
    conformance::objects::run(|| connector.objects()).await;
    is_closed_after(&connector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats() {
    nats_on(Version::V2_15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_of_2_12() {
    nats_on(Version::V2_12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_of_2_11() {
    nats_on(Version::V2_11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_of_2_10() {
    nats_on(Version::V2_10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_of_2_9() {
    nats_on(Version::Debian29).await;
}

async fn nats_on(version: Version) {
    if !require(version) {
        return;
    }
    let server = Server::builder().version(version).jetstream().start().await;
    let connector = connect(&server.url()).await;
    conformance::objects::run(|| connector.objects()).await;
    is_closed_after(&connector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_in_memory_of_the_server() {
    if !require(Version::V2_15) {
        return;
    }
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server.url()).await;
    let driver = connector.objects().driver();
    let adjust = |config: BucketConfig| {
        let is_asked_for = config.clone().storage(Storage::File) == config;
        if is_asked_for { config } else { config.storage(Storage::Memory) }
    };
    let objects = Objects::new(Adjusted { driver, adjust, cluster: None });
    conformance::objects::run(|| objects.clone()).await;
}

/// Three copies of every bucket.
#[tokio::test(flavor = "multi_thread")]
async fn nats_in_a_cluster() {
    if !require(Version::V2_15) {
        return;
    }
    let cluster = Arc::new(Cluster::start(Server::builder().jetstream()).await);
    let connector = connect(&cluster.url()).await;
    let driver = connector.objects().driver();
    let adjust = |config: BucketConfig| config.replicas(3);
    let objects = Objects::new(Adjusted { driver, adjust, cluster: Some(cluster) });
    // Three servers that write everything three times share the machine with the suites.
    let objects = objects.with_timeout(Duration::from_secs(60));
    conformance::objects::run(|| objects.clone()).await;
    assert!(connector.drain().await.is_clean());
}

/// A user of a leaf node whose buckets are on the hub, in another JetStream domain.
#[tokio::test(flavor = "multi_thread")]
async fn nats_in_another_domain() {
    if !require(Version::V2_15) {
        return;
    }
    let hub = Server::builder().jetstream_domain("hub").leaf_nodes().start().await;
    let leaf = Server::builder().jetstream_domain("leaf").leaf_of(&hub).start().await;
    let settings = Settings::builder().set("NATS.SERVER", leaf.url());
    let settings = settings.set("NATS.JETSTREAM_DOMAIN", "hub").build().unwrap();
    let connector = Connector::connect(&settings).await.unwrap();
    conformance::objects::run(|| connector.objects()).await;

    // What is put is on the hub.
    connector.objects().bucket("where").put_bytes("name", "bytes").await.unwrap();
    let client = async_nats::connect(hub.url()).await.unwrap();
    let store = async_nats::jetstream::new(client).get_object_store("where").await.unwrap();
    assert_eq!(store.info("name").await.unwrap().size, 5);
}

async fn connect(url: &str) -> Connector {
    let settings = Settings::builder().set("NATS.SERVER", url).build().unwrap();
    Connector::connect(&settings).await.unwrap()
}

async fn is_closed_after(connector: &Connector) {
    let objects = connector.objects();
    objects.put_bytes("name", "bytes").await.unwrap();
    assert!(connector.drain().await.is_clean());
    assert!(objects.put_bytes("name", "bytes").await.unwrap_err().is_closed());
    assert!(objects.get_bytes("name").await.unwrap_err().is_closed());
    assert!(objects.info("name").await.unwrap_err().is_closed());
}

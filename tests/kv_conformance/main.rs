//! Every key-value driver of this crate runs the whole suite, NATS on every server it supports.

mod replicated;

use std::sync::Arc;
use std::time::Duration;

use nats_connector::kv::{Kv, RedisConfig, RedisDriver};
use nats_connector::{Connector, Settings, conformance};
use replicated::Replicated;
use testkit::{Cluster, Redis, Server, Version, require, require_redis};

#[tokio::test]
async fn memory() {
    let kv = Kv::memory();
    conformance::kv::run(|| kv.clone()).await;
}

#[tokio::test]
async fn connector_in_process() {
    let connector = Connector::memory();
    conformance::kv::run(|| connector.kv()).await;
    let kv = connector.kv();
    assert!(connector.drain().await.is_clean());
    assert!(kv.set("key", &1).await.unwrap_err().is_closed());
    assert!(kv.get::<u32>("key").await.unwrap_err().is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn redis() {
    if !require_redis() {
        return;
    }
    let server = Redis::builder().start().await;
    let driver = RedisDriver::connect(RedisConfig::new(server.url())).await.unwrap();
    let kv = Kv::new(driver.clone());
    conformance::kv::run(|| kv.clone()).await;
    driver.close();
    assert!(kv.set("key", &1).await.unwrap_err().is_closed());
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
    let settings = Settings::builder().set("NATS.SERVER", server.url()).build().unwrap();
    let connector = Connector::connect(&settings).await.unwrap();
    conformance::kv::run(|| connector.kv()).await;
    let kv = connector.kv();
    assert!(connector.drain().await.is_clean());
    assert!(kv.set("key", &1).await.unwrap_err().is_closed());
}

/// Three copies of every bucket; reads see every write, as a single server's do.
#[tokio::test(flavor = "multi_thread")]
async fn nats_in_a_cluster() {
    if !require(Version::V2_15) {
        return;
    }
    let cluster = Arc::new(Cluster::start(Server::builder().jetstream()).await);
    let settings = Settings::builder().set("NATS.SERVER", cluster.url()).build().unwrap();
    let connector = Connector::connect(&settings).await.unwrap();
    let kv = Kv::new(Replicated::new(connector.kv().driver().unwrap(), cluster));
    // Three servers that write everything three times share the machine with the suites.
    let kv = kv.with_timeout(Duration::from_secs(60));
    conformance::kv::run(|| kv.clone()).await;
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
    conformance::kv::run(|| connector.kv()).await;

    // What is written is on the hub.
    connector.kv().bucket("where").set("key", &1).await.unwrap();
    let client = async_nats::connect(hub.url()).await.unwrap();
    let context = async_nats::jetstream::new(client);
    let store = context.get_key_value("where").await.unwrap();
    assert_eq!(store.get("key").await.unwrap().as_deref(), Some(&b"1"[..]));
}

//! The pub/sub suites, run by this crate's own drivers, NATS on every server it supports.

use std::sync::Arc;

use nats_connector::conformance::pubsub as suite;
use nats_connector::pubsub::Driver;
use nats_connector::pubsub::memory::MemoryDriver;
use nats_connector::streams::{Storage, StreamConfig};
use nats_connector::{Connector, Settings};
use testkit::{Cluster, Server, Version, require};

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    let driver: Arc<dyn Driver> = Arc::new(MemoryDriver::default());
    all(driver, &in_files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats() {
    nats_on(Version::V2_15, &in_files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_in_memory() {
    nats_on(Version::V2_15, &in_memory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_of_2_12() {
    nats_on(Version::V2_12, &in_files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_of_2_10() {
    nats_on(Version::V2_10, &in_files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_of_2_9() {
    nats_on(Version::Debian29, &in_files).await;
}

/// Three copies of every stream and consumer.
#[tokio::test(flavor = "multi_thread")]
async fn nats_in_a_cluster() {
    if !require(Version::V2_15) {
        return;
    }
    let cluster = Cluster::start(Server::builder().jetstream()).await;
    let connector = connect(&cluster.url()).await;
    let driver = connector.pubsub().driver().unwrap();
    suite::run_streams(driver.clone(), &in_three_copies).await;
    suite::run_durable(driver, &in_three_copies).await;
    assert!(connector.drain().await.is_clean());
}

async fn nats_on(version: Version, shape: suite::Shape<'_>) {
    if !require(version) {
        return;
    }
    let server = Server::builder().version(version).jetstream().start().await;
    let connector = connect(&server.url()).await;
    all(connector.pubsub().driver().unwrap(), shape).await;
    assert!(connector.drain().await.is_clean());
}

async fn all(driver: Arc<dyn Driver>, shape: suite::Shape<'_>) {
    suite::run(driver.clone()).await;
    suite::run_streams(driver.clone(), shape).await;
    suite::run_durable(driver.clone(), shape).await;
    let stream = shape(StreamConfig::new("SUITE", ["suite.>"]));
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    driver.streams().unwrap().create_stream(&stream, deadline).await.unwrap();
    suite::acked_publish(&driver, "suite.acked").await;
}

async fn connect(url: &str) -> Connector {
    let settings = Settings::builder().set("NATS.SERVER", url).build().unwrap();
    Connector::connect(&settings).await.unwrap()
}

fn in_files(config: StreamConfig) -> StreamConfig {
    config.storage(Storage::File)
}

fn in_memory(config: StreamConfig) -> StreamConfig {
    config.storage(Storage::Memory)
}

fn in_three_copies(config: StreamConfig) -> StreamConfig {
    config.storage(Storage::Memory).replicas(3)
}

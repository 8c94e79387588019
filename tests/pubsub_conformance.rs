//! The pub/sub suite, run by this crate's own drivers.

use std::sync::Arc;

use nats_connector::pubsub::memory::MemoryDriver;
use nats_connector::{Connector, Settings, conformance};
use testkit::{Server, Version, require};

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    conformance::pubsub::run(Arc::new(MemoryDriver::default())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats() {
    nats_on(Version::V2_15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_of_2_10() {
    nats_on(Version::V2_10).await;
}

async fn nats_on(version: Version) {
    if !require(version) {
        return;
    }
    let server = Server::builder().version(version).jetstream().start().await;
    let settings = Settings::builder().set("NATS.SERVER", server.url()).build().unwrap();
    let connector = Connector::connect(&settings).await.unwrap();
    let driver = connector.pubsub().driver().unwrap();
    conformance::pubsub::run(driver.clone()).await;

    let stream = async_nats::jetstream::stream::Config {
        name: "SUITE".to_owned(),
        subjects: vec!["suite.>".to_owned()],
        ..Default::default()
    };
    connector.jetstream().unwrap().create_stream(stream).await.unwrap();
    conformance::pubsub::acked_publish(&driver, "suite.acked").await;
    assert!(connector.drain().await.is_clean());
}

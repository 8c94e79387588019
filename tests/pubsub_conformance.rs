//! The pub/sub suite, run by this crate's own drivers.

use std::sync::Arc;

use nats_connector::conformance;
use nats_connector::pubsub::MemoryDriver;

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    conformance::pubsub::run(Arc::new(MemoryDriver::default())).await;
}

//! Every object store of this crate runs the whole suite, NATS on every server it supports.

use nats_connector::conformance;
use nats_connector::objects::Objects;

#[tokio::test]
async fn memory() {
    let objects = Objects::memory();
    conformance::objects::run(|| objects.clone()).await;
}

//! Every key-value driver of this crate runs the whole suite.

use nats_connector::conformance;
use nats_connector::kv::Kv;

#[tokio::test]
async fn memory() {
    let kv = Kv::memory();
    conformance::kv::run(|| kv.clone()).await;
}

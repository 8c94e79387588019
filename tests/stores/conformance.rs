//! A store does what its driver does: everything goes through, to the end of the suites.

use nats_connector::conformance;
use testkit::{Redis, Server};

use super::stores;

#[tokio::test(flavor = "multi_thread")]
async fn on_nats() {
    let server = Server::builder().jetstream().start().await;
    let kv = stores(&format!("NATS.SERVER={}\nSTORES.S.HISTORY=2", server.url())).get("s").unwrap();
    conformance::kv::run(|| kv.clone()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory() {
    let kv = stores("STORES.S.DRIVER=memory\nSTORES.S.TTL=1h").get("s").unwrap();
    conformance::kv::run(|| kv.clone()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_redis() {
    if testkit::require_redis() {
        let server = Redis::builder().start().await;
        let text = format!("STORES.S.DRIVER=redis\nSTORES.S.ADDR={}", server.url());
        let kv = stores(&text).get("s").unwrap();
        conformance::kv::run(|| kv.clone()).await;
    }
}

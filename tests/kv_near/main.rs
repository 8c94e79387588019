//! Near caches: what they answer from memory, and that it is right.

mod faults;
mod local;

use std::time::Duration;

use nats_connector::kv::Kv;
use nats_connector::{Connector, Settings};
use testkit::eventually;

async fn connect(url: &str) -> Connector {
    let settings = Settings::builder().set("NATS.SERVER", url).set("NATS.MAX_RECONNECT", "-1");
    let settings = settings.set("NATS.RECONNECT_WAIT", "50ms").build().unwrap();
    Connector::connect(&settings).await.unwrap()
}

fn is_current(kv: &Kv) -> bool {
    kv.near_cache_stats().is_some_and(|stats| stats.current)
}

async fn until_current(kv: &Kv) {
    eventually(Duration::from_secs(20), || async { is_current(kv) }).await;
}

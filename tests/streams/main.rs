//! Streams on real servers: made, checked, changed, emptied, deleted, and what is refused.

mod cluster;
mod core_only;
mod driver;
mod provision;
mod refused;
mod settings;

use std::time::Duration;

use nats_connector::{Connector, Settings};
use testkit::Server;
use tokio::time::Instant;

async fn connect(server: &Server) -> Connector {
    connect_to(&server.url()).await
}

/// A connector that outlives outages.
async fn connect_to(url: &str) -> Connector {
    let settings = Settings::builder()
        .set("NATS.SERVER", url)
        .set("NATS.MAX_RECONNECT", "-1")
        .set("NATS.RECONNECT_WAIT", "20ms")
        .set("NATS.WHEN_DISCONNECTED", "wait")
        .set("NATS.REQUEST_TIMEOUT", "30s")
        .build()
        .unwrap();
    Connector::connect(&settings).await.unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(15)
}

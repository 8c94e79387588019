//! Counters that the server adds to: values, refusals, and exact sums whatever happens on the way.

mod faults;
mod values;

use nats_connector::{Connector, Settings};
use testkit::Server;

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
        .build()
        .unwrap();
    Connector::connect(&settings).await.unwrap()
}

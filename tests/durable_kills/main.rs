//! Durable subscriptions whose servers and workers are killed: nothing that was acknowledged is
//! lost, effects take place once, poison ends in the dead letters.

mod exactly_once;
mod loss;
mod poison;
mod run;
mod worker;

use std::time::Duration;

use nats_connector::{Connector, Settings};

/// How long anything may take on a slow machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A connector that outlives every kill.
async fn connect(url: &str) -> Connector {
    let settings = Settings::builder()
        .set("NATS.SERVER", url)
        .set("NATS.MAX_RECONNECT", "-1")
        .set("NATS.RECONNECT_WAIT", "50ms")
        .set("NATS.REQUEST_TIMEOUT", "5s")
        .build()
        .unwrap();
    Connector::connect(&settings).await.unwrap()
}

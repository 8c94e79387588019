//! Locks: one holder at a time, whatever happens to holders, links and servers.

mod faults;
mod guarded;
mod shared;
mod waiting;

use std::time::Duration;

use nats_connector::kv::Kv;
use nats_connector::{Connector, Settings};
use testkit::Server;

/// Far above what anything here takes.
const LIMIT: Duration = Duration::from_secs(60);
/// The shortest lease.
const LEASE: Duration = Duration::from_secs(1);

async fn connect(server: &Server) -> Connector {
    connect_to(&server.url()).await
}

async fn connect_to(url: &str) -> Connector {
    let settings = Settings::builder()
        .set("NATS.SERVER", url)
        .set("NATS.MAX_RECONNECT", "-1")
        .set("NATS.RECONNECT_WAIT", "20ms")
        .set("NATS.RANDOMIZE", "true");
    Connector::connect(&settings.build().unwrap()).await.unwrap()
}

/// A server, and handles on its default bucket from as many connections.
async fn handles<const N: usize>() -> (Server, [Kv; N]) {
    let server = Server::builder().jetstream().start().await;
    let mut handles = Vec::new();
    for _ in 0..N {
        handles.push(connect(&server).await.kv().with_timeout(LIMIT));
    }
    (server, handles.try_into().unwrap())
}

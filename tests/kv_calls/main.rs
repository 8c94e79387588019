//! Calls that are more than one read or write: counters, batches, loading, transactions.

mod batch;
mod counter;
mod load;
mod transaction;

use nats_connector::kv::Kv;
use nats_connector::{Connector, Settings};
use testkit::Server;

async fn connect(url: &str) -> Connector {
    let settings = Settings::builder().set("NATS.SERVER", url).set("NATS.MAX_RECONNECT", "-1");
    Connector::connect(&settings.build().unwrap()).await.unwrap()
}

/// The stores that answer alike: a server, and memory.
struct Stores {
    _server: Server,
    nats: Kv,
    memory: Kv,
}

impl Stores {
    async fn start() -> Self {
        let server = Server::builder().jetstream().start().await;
        let nats = connect(&server.url()).await.kv();
        Stores { _server: server, nats, memory: Kv::memory() }
    }

    fn all(&self) -> [(&'static str, Kv); 2] {
        [("memory", self.memory.clone()), ("nats", self.nats.clone())]
    }
}

//! Generated services, run.

mod json;
mod keys;
mod services;

use std::time::Duration;

use nats_connector::{Connector, Settings};
use testkit::Server;

/// Long enough for a busy machine: only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

async fn connect(server: &Server) -> Connector {
    let settings = Settings::builder()
        .set("NATS.SERVER", server.url())
        .set("NATS.REQUEST_TIMEOUT", "30s")
        .build()
        .unwrap();
    Connector::connect(&settings).await.unwrap()
}

async fn raw(server: &Server) -> async_nats::Client {
    let options = async_nats::ConnectOptions::new().request_timeout(Some(PATIENCE));
    options.connect(server.url()).await.unwrap()
}

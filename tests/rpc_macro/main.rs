//! Services made of traits: what comes of one works as if it were written by hand.

mod calls;
mod shapes;
mod stored;
mod streams;

use std::time::Duration;

use nats_connector::{Connector, Settings};
use serde::{Deserialize, Serialize};
use testkit::Server;

/// Long enough for a busy machine: only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Customer {
    id: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct GetOrder {
    id: String,
    customer: Customer,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    id: String,
    total: f64,
}

fn get(id: &str) -> GetOrder {
    GetOrder { id: id.to_owned(), customer: Customer { id: 7 } }
}

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

//! Calls that are more than one read or write: counters, batches, loading, transactions.

mod counter;

use nats_connector::{Connector, Settings};

async fn connect(url: &str) -> Connector {
    let settings = Settings::builder().set("NATS.SERVER", url).build().unwrap();
    Connector::connect(&settings).await.unwrap()
}

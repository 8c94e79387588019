//! Publishing later, on real nats-servers and in process.

mod cancel;
mod once;
mod outages;
mod refusals;
mod repeating;

use std::time::{Duration, SystemTime};

use nats_connector::pubsub::PubSub;
use nats_connector::pubsub::driver::Stored;
use nats_connector::streams::StreamConfig;
use nats_connector::{Connector, Settings};
use testkit::{Server, Version, eventually};
use tokio::time::Instant;

/// Long enough for a busy machine: only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

async fn connect(server: &Server) -> Connector {
    let settings =
        Settings::builder().set("NATS.SERVER", server.url()).set("NATS.MAX_RECONNECT", "-1");
    Connector::connect(&settings.build().unwrap()).await.unwrap()
}

async fn jetstream(version: Version) -> Server {
    Server::builder().version(version).jetstream().start().await
}

fn orders() -> StreamConfig {
    StreamConfig::new("ORDERS", ["orders.>"]).schedules(true)
}

async fn create(pubsub: &PubSub, config: &StreamConfig) {
    let made = pubsub.stream(config.clone()).await.unwrap();
    assert!(made.created && made.differences.is_empty(), "{made:?}");
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// What `stream` has now for these subjects, in order.
async fn stored(pubsub: &PubSub, stream: &str, filter: &str) -> Vec<Stored> {
    let driver = pubsub.driver().unwrap();
    let (mut found, mut next) = (Vec::new(), 1);
    while let Some(message) =
        driver.streams().unwrap().message_from(stream, filter, next, soon()).await.unwrap()
    {
        next = message.sequence + 1;
        found.push(message);
    }
    found
}

/// Waits until `stream` has so many messages for these subjects.
async fn wait_for(pubsub: &PubSub, stream: &str, filter: &str, count: usize) -> Vec<Stored> {
    eventually(PATIENCE, || async { stored(pubsub, stream, filter).await.len() >= count }).await;
    stored(pubsub, stream, filter).await
}

fn payloads(messages: &[Stored]) -> Vec<String> {
    messages
        .iter()
        .map(|message| String::from_utf8(message.message.payload.to_vec()).unwrap())
        .collect()
}

fn header<'a>(message: &'a Stored, name: &str) -> Option<&'a str> {
    message.message.headers.as_ref()?.get(name).map(|value| value.as_str())
}

fn in_seconds(seconds: f64) -> SystemTime {
    SystemTime::now() + Duration::from_secs_f64(seconds)
}

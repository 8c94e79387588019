//! Durable subscriptions on real nats-servers: outcomes, dead letters, order, extension, leaving.

mod dead_letters;
mod extension;
mod leaving;
mod memory;
mod options;
mod order;
mod outcomes;

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream::context::PublishAckFuture;
use nats_connector::pubsub::{Message, PubSub};
use nats_connector::streams::StreamConfig;
use nats_connector::{Connector, Error, Settings};
use serde::Serialize;
use serde_json::Value;
use testkit::{Server, eventually};
use tokio::time::Instant;

/// Long enough for a busy machine: only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(30);
const STREAM: &str = "ORDERS";

type Handled = Result<(), Error>;

/// A server with a stream `ORDERS` of `orders.>`, and a connection.
struct Bench {
    server: Server,
    connector: Connector,
    pubsub: PubSub,
}

impl Bench {
    async fn start() -> Self {
        let server = Server::builder().jetstream().start().await;
        let connector = connect(&server.url(), &[]).await;
        let bench = Bench { pubsub: connector.pubsub(), server, connector };
        bench.stream(StreamConfig::new(STREAM, ["orders.>"])).await;
        bench
    }

    async fn stream(&self, config: StreamConfig) {
        let driver = self.pubsub.driver().unwrap();
        let deadline = Instant::now() + PATIENCE;
        driver.streams().unwrap().create_stream(&config, deadline).await.unwrap();
    }

    /// Publishes these values in this order, each acknowledged.
    async fn publish<T: Serialize>(&self, topic: &str, values: impl IntoIterator<Item = T>) {
        let context = self.connector.jetstream().unwrap();
        let mut acks = Vec::new();
        for value in values {
            let payload = serde_json::to_vec(&value).unwrap();
            acks.push(context.publish(topic.to_owned(), payload.into()).await.unwrap());
            if acks.len() == 500 {
                acknowledged(&mut acks).await;
            }
        }
        acknowledged(&mut acks).await;
    }

    /// An answer of the JetStream API.
    async fn api(&self, subject: &str, body: Value) -> Value {
        let client = self.connector.client().unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = client.request(format!("$JS.API.{subject}"), body.into()).await.unwrap();
        serde_json::from_slice(&answer.payload).unwrap()
    }

    async fn consumer(&self, name: &str) -> Value {
        self.api(&format!("CONSUMER.INFO.{STREAM}.{name}"), Value::Null).await
    }

    /// Waits until a consumer has nothing more to deliver and all is settled.
    async fn settled(&self, name: &str) {
        eventually(PATIENCE, || async {
            let info = self.consumer(name).await;
            info["num_pending"] == 0 && info["num_ack_pending"] == 0
        })
        .await;
    }

    /// All that a stream holds.
    async fn stored(&self, stream: &str) -> u64 {
        let info = self.api(&format!("STREAM.INFO.{stream}"), Value::Null).await;
        info["state"]["messages"].as_u64().unwrap()
    }
}

async fn acknowledged(acks: &mut Vec<PublishAckFuture>) {
    for ack in acks.drain(..) {
        ack.await.unwrap();
    }
}

async fn connect(url: &str, settings: &[(&str, &str)]) -> Connector {
    let mut builder = Settings::builder()
        .set("NATS.SERVER", url)
        .set("NATS.MAX_RECONNECT", "-1")
        .set("NATS.CONNECT_TIMEOUT", "30s")
        .set("NATS.REQUEST_TIMEOUT", "30s")
        .set("NATS.RECONNECT_WAIT", "20ms");
    for (key, value) in settings {
        builder = builder.set(*key, *value);
    }
    Connector::connect(&builder.build().unwrap()).await.unwrap()
}

/// What handlers saw, in order.
#[derive(Debug)]
struct Seen<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Seen<T> {
    fn clone(&self) -> Self {
        Seen(self.0.clone())
    }
}

impl<T: Clone + Debug + Eq + Hash> Seen<T> {
    fn new() -> Self {
        Seen(Arc::default())
    }

    fn push(&self, item: T) {
        self.0.lock().unwrap().push(item);
    }

    fn all(&self) -> Vec<T> {
        self.0.lock().unwrap().clone()
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn times(&self, item: &T) -> usize {
        self.0.lock().unwrap().iter().filter(|seen| *seen == item).count()
    }

    async fn reach(&self, count: usize) {
        eventually(PATIENCE, || async { self.len() >= count }).await;
    }

    /// How often each was seen.
    fn counts(&self) -> HashMap<T, usize> {
        let mut counts = HashMap::new();
        for item in self.all() {
            *counts.entry(item).or_default() += 1;
        }
        counts
    }
}

fn header<'a>(message: &'a Message, name: &str) -> &'a str {
    message.header(name).unwrap_or_else(|| panic!("no {name} in {:?}", message.headers()))
}

fn failed(text: &str) -> Error {
    Error::new(nats_connector::ErrorKind::Other, text.to_owned())
}

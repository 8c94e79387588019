//! Durable consumers of the NATS driver on real nats-servers: how they are made, what they deliver,
//! and how they live through faults.

mod delivery;
mod faults;
mod made;
mod moves;

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use nats_connector::pubsub::driver::{
    ConsumerConfig, Consuming, Deliveries, Delivery, Driver, Settlement, Streams,
};
use nats_connector::pubsub::nats::NatsDriver;
use nats_connector::{Connector, Settings};
use serde_json::Value;
use testkit::Server;
use tokio::time::Instant;

/// More than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);
const STREAM: &str = "ORDERS";
const CONSUMER: &str = "workers";

fn soon() -> Instant {
    Instant::now() + LONG
}

/// A connection with its driver, as portable code sees it.
struct Bench {
    connector: Connector,
    driver: std::sync::Arc<dyn Driver>,
}

impl Bench {
    async fn connect(url: &str, settings: &[(&str, &str)]) -> Self {
        let mut builder =
            Settings::builder().set("NATS.SERVER", url).set("NATS.MAX_RECONNECT", "-1");
        for (key, value) in settings {
            builder = builder.set(*key, *value);
        }
        let connector = Connector::connect(&builder.build().unwrap()).await.unwrap();
        let driver = connector.pubsub().driver().unwrap();
        assert!((&*driver as &dyn std::any::Any).is::<NatsDriver>());
        Bench { connector, driver }
    }

    async fn of(server: &Server) -> Self {
        Bench::connect(&server.url(), &[]).await
    }

    fn streams(&self) -> &dyn Streams {
        self.driver.streams().unwrap()
    }

    /// A request to the JetStream API as it is.
    async fn api(&self, subject: &str, body: Value) -> Value {
        let client = self.connector.client().unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = client.request(format!("$JS.API.{subject}"), body.into()).await.unwrap();
        serde_json::from_slice(&answer.payload).unwrap()
    }

    async fn make_stream(&self, replicas: usize) {
        let config = serde_json::json!({
            "name": STREAM, "subjects": ["orders.>"], "num_replicas": replicas, "storage": "file",
        });
        let made = self.api(&format!("STREAM.CREATE.{STREAM}"), config).await;
        assert!(made["error"].is_null(), "{made}");
    }

    async fn consumer(&self) -> Value {
        self.api(&format!("CONSUMER.INFO.{STREAM}.{CONSUMER}"), Value::Null).await
    }

    async fn delete_consumer(&self) {
        assert!(self.streams().delete_consumer(STREAM, CONSUMER, soon()).await.unwrap());
    }

    /// Publishes numbers, each acknowledged by the stream.
    async fn publish(&self, numbers: std::ops::Range<u64>) {
        let context = self.connector.jetstream().unwrap();
        let mut acks = Vec::new();
        for number in numbers {
            let payload = Bytes::from(number.to_string());
            acks.push(context.publish("orders.new", payload).await.unwrap());
            if acks.len() == 500 {
                for ack in acks.drain(..) {
                    ack.await.unwrap();
                }
            }
        }
        for ack in acks {
            ack.await.unwrap();
        }
    }

    async fn join(&self, config: &ConsumerConfig) -> Box<dyn Deliveries> {
        let Consuming { deliveries, differences, .. } =
            self.streams().consume(config, false, soon()).await.unwrap();
        assert_eq!(differences, []);
        deliveries
    }

    async fn settle(&self, delivery: &Delivery, settlement: Settlement) {
        self.streams().settle(&delivery.receipt, settlement, soon()).await.unwrap();
    }

    /// Takes and settles this many messages; their numbers.
    async fn work(&self, member: &mut dyn Deliveries, count: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.len() < count {
            let delivery = next(member).await;
            self.settle(&delivery, Settlement::Done).await;
            numbers.push(number(&delivery));
        }
        numbers
    }
}

fn config() -> ConsumerConfig {
    ConsumerConfig::new(STREAM, CONSUMER)
}

/// Every number was seen, and no other but the one behind them, which was published last and may not
/// have been acknowledged; how many were seen more than once.
fn all_of(seen: &[u64], numbers: std::ops::Range<u64>) -> usize {
    let mut sorted = seen.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let missing: Vec<_> =
        numbers.clone().filter(|number| sorted.binary_search(number).is_err()).collect();
    assert!(missing.is_empty(), "never delivered: {missing:?}");
    assert!(sorted.last().is_none_or(|last| *last <= numbers.end), "{:?}", sorted.last());
    seen.len() - sorted.len()
}

fn number(delivery: &Delivery) -> u64 {
    std::str::from_utf8(&delivery.message.payload).unwrap().parse().unwrap()
}

/// The next message, with room for many.
async fn next(member: &mut dyn Deliveries) -> Delivery {
    let next = poll_fn(|cx| member.poll_next(256, cx));
    tokio::time::timeout(LONG, next).await.expect("no message in time").expect("it has ended")
}

/// The next message, or that all have come.
async fn next_until(member: &mut dyn Deliveries, all: impl Fn() -> bool) -> Option<Delivery> {
    let limit = soon();
    while !all() {
        assert!(Instant::now() < limit, "no message in time: {:?}", member.events());
        let next = poll_fn(|cx| member.poll_next(8, cx));
        if let Ok(next) = tokio::time::timeout(Duration::from_millis(50), next).await {
            return Some(next.expect("it has ended"));
        }
    }
    None
}

/// Nothing comes for this long.
async fn quiet(member: &mut dyn Deliveries, time: Duration) {
    let next = poll_fn(|cx| member.poll_next(256, cx));
    let came = tokio::time::timeout(time, next).await;
    assert!(came.is_err(), "{:?}", came.unwrap().map(|delivery| delivery.receipt));
}

//! Dead letters: listed, inspected, replayed, discarded; on a real nats-server and in process.

mod faults;
mod inspect;
mod replay;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::TryStreamExt;
use nats_connector::pubsub::driver::Stored;
use nats_connector::pubsub::{DeadLetter, DeadLetters, Message, Outcome, PubSub, Subscription};
use nats_connector::streams::StreamConfig;
use nats_connector::{Connector, Settings};
use testkit::{Server, eventually};
use tokio::time::Instant;

/// Long enough for a busy machine: only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

async fn connect(server: &Server) -> Connector {
    let settings =
        Settings::builder().set("NATS.SERVER", server.url()).set("NATS.MAX_RECONNECT", "-1");
    Connector::connect(&settings.build().unwrap()).await.unwrap()
}

async fn jetstream() -> Server {
    Server::builder().jetstream().start().await
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

async fn create(pubsub: &PubSub, name: &str, subject: &str) {
    pubsub.stream(StreamConfig::new(name, [subject])).ignore_prefix().await.unwrap();
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

/// A handler that rejects everything, with the payload in the reason, until it is repaired.
#[derive(Clone, Default)]
struct Billing {
    repaired: Arc<AtomicBool>,
}

impl Billing {
    async fn subscribe(&self, pubsub: &PubSub) -> Subscription {
        let repaired = self.repaired.clone();
        let handler = move |message: Message| {
            let repaired = repaired.load(Ordering::SeqCst);
            async move {
                match repaired {
                    true => Outcome::Ack,
                    false => Outcome::reject(format!(
                        "no tax for {}",
                        String::from_utf8_lossy(message.payload())
                    )),
                }
            }
        };
        pubsub.subscribe("orders.>", handler).durable("billing").await.unwrap()
    }

    fn repair(&self) {
        self.repaired.store(true, Ordering::SeqCst);
    }
}

/// A stream of orders, the first `count` of which are dead letters of `billing`.
async fn dead_orders(pubsub: &PubSub, count: u32) -> DeadLetters {
    create(pubsub, "ORDERS", "orders.>").await;
    let subscription = Billing::default().subscribe(pubsub).await;
    for n in 1..=count {
        let publish = pubsub.publish(format!("orders.{n}"), &n).header("Trace", "a");
        let publish = publish.header("Trace", &n.to_string());
        publish.jetstream().message_id(format!("order-{n}")).await.unwrap();
    }
    let dead = pubsub.dead_letters("billing");
    wait_for(&dead, u64::from(count)).await;
    subscription.drain().await.unwrap();
    dead
}

async fn wait_for(dead: &DeadLetters, count: u64) {
    eventually(PATIENCE, || async { dead.count().await.unwrap() == count }).await;
}

async fn all(dead: &DeadLetters) -> Vec<DeadLetter> {
    dead.list().await.unwrap().try_collect().await.unwrap()
}

async fn values(dead: &DeadLetters) -> Vec<u32> {
    all(dead).await.iter().map(|letter| letter.decode().unwrap()).collect()
}

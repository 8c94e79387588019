//! Dead letters: orders that cannot be billed are put aside with the reason, looked at, and replayed
//! once the handler is repaired.
//!
//! - A rate that is missing is an error: the order is tried 3 times, and then it is a dead letter.
//! - An order that is malformed is rejected: no further try would help.
//! - The operator lists what is there, discards the malformed ones and replays the others.
//!
//! ```text
//! cargo run --example dead_letters
//! ```

#![expect(clippy::print_stdout, reason = "the output is what this example is for")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::TryStreamExt;
use nats_connector::pubsub::{DeadLetters, Message, Outcome, PubSub, with};
use nats_connector::streams::StreamConfig;
use nats_connector::{Backoff, Connector, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Order {
    id: u32,
    country: String,
    total: f64,
}

/// Percent of tax by country.
type Rates = Arc<Mutex<HashMap<String, f64>>>;

#[tokio::main]
async fn main() -> Result<()> {
    let connector = Connector::from_settings().await?;
    let pubsub = connector.pubsub().with_prefix("dead-letters-example.");
    pubsub.stream(StreamConfig::new("DEAD_LETTERS_EXAMPLE", ["orders"])).await?;

    let rates = Rates::default();
    set_rate(&rates, "de", 19.0);
    let billing = pubsub.subscribe("orders", with(rates.clone(), bill)).durable("billing");
    let backoff = Backoff::fixed(Duration::from_millis(100));
    let billing = billing.max_deliver(3).backoff(backoff).await?;

    let dead = pubsub.dead_letters("billing");
    // What an earlier run has left is not ours to look at.
    dead.discard_all().await?;
    for (id, country) in (1..).zip(["de", "fr", "de", "fr", "de"]) {
        let order = Order { id, country: country.to_owned(), total: 100.0 };
        pubsub.publish("orders", &order).jetstream().await?;
    }
    pubsub.publish("orders", &"six, please").jetstream().await?;

    wait_for(&dead, 3).await?;
    let mut letters = dead.list().await?;
    while let Some(letter) = letters.try_next().await? {
        let (tries, cause) = (letter.deliveries(), letter.cause());
        println!(
            "dead after {tries} deliveries: {} {:?}: {cause}",
            letter.topic(),
            letter.payload()
        );
    }

    let malformed = dead.clone().matching(|letter| letter.decode::<Order>().is_err());
    println!("{} discarded", malformed.discard_all().await?);
    set_rate(&rates, "fr", 20.0);
    let report = dead.replay_all().await?;
    println!("{} replayed, {} failed", report.replayed, report.failed.len());

    while billing.stats().handled < 5 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("{} dead letters are left", dead.count().await?);
    tidy_up(&pubsub).await?;
    let drained = connector.drain().await;
    std::process::exit(i32::from(!drained.is_clean()));
}

async fn bill(rates: Rates, message: Message) -> Result<Outcome> {
    let Ok(order) = message.decode::<Order>() else {
        return Ok(Outcome::reject("not an order"));
    };
    let rate = rates.lock().unwrap_or_else(PoisonError::into_inner).get(&order.country).copied();
    let Some(rate) = rate else {
        return Err(Error::new(ErrorKind::Other, "no tax rate").with("country", order.country));
    };
    println!("order {} costs {} with tax", order.id, order.total * (100.0 + rate) / 100.0);
    Ok(Outcome::Ack)
}

fn set_rate(rates: &Rates, country: &str, percent: f64) {
    rates.lock().unwrap_or_else(PoisonError::into_inner).insert(country.to_owned(), percent);
}

async fn wait_for(dead: &DeadLetters, count: u64) -> Result<()> {
    while dead.count().await? < count {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// A real application keeps its streams.
async fn tidy_up(pubsub: &PubSub) -> Result<()> {
    pubsub.streams().delete("DEAD_LETTERS_EXAMPLE").await?;
    Ok(())
}

//! Orders handled in parallel, and yet each customer's one after the other.
//!
//! `.concurrency(8)` makes eight lanes, and `.ordered_by(..)` gives each customer one of them: what
//! it gives for a message is its key, and messages of one key are handled in the stream's order, also
//! when one of them fails and is tried again. Customers do not wait for each other, but for those
//! that share their lane.
//!
//! The order is that of one process: a second one with the same durable name shares the customers'
//! orders with it, message by message.
//!
//! ```text
//! cargo run --example ordered_by_customer
//! ```

#![expect(clippy::print_stdout, reason = "the output is what this example is for")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nats_connector::pubsub::{Message, with};
use nats_connector::streams::StreamConfig;
use nats_connector::{Connector, Result};
use rand::Rng;
use tokio::sync::watch;

const CUSTOMERS: u32 = 40;
const ORDERS_OF_EACH: u32 = 15;

/// What the handlers saw.
#[derive(Default)]
struct Seen {
    /// Each customer's last order.
    last: HashMap<String, u32>,
    out_of_order: u32,
    at_work: u32,
    most_at_work: u32,
    handled: u32,
}

#[derive(Clone)]
struct Shop {
    seen: Arc<Mutex<Seen>>,
    handled: watch::Sender<u32>,
}

impl Shop {
    fn note<T>(&self, note: impl FnOnce(&mut Seen) -> T) -> T {
        note(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let connector = Connector::from_settings().await?;
    let pubsub = connector.pubsub();
    pubsub.stream(StreamConfig::new("CUSTOMERS", ["customers.*.orders"])).await?;
    // What an earlier run left behind.
    pubsub.streams().purge("CUSTOMERS").await?;

    let shop = Shop { seen: Arc::default(), handled: watch::Sender::new(0) };
    let mut handled = shop.handled.subscribe();
    pubsub
        .subscribe("customers.*.orders", with(shop.clone(), handle))
        .durable("shop")
        .concurrency(8)
        .ordered_by(customer)
        .await?;

    // The orders of all customers, mixed, each customer's numbered from 1.
    for order in 1..=ORDERS_OF_EACH {
        for customer in 1..=CUSTOMERS {
            let topic = format!("customers.{customer}.orders");
            pubsub.publish(topic, &order).jetstream().await?;
        }
    }
    let all = CUSTOMERS * ORDERS_OF_EACH;
    // The sender lives as long as the shop.
    let _ = handled.wait_for(|handled| *handled == all).await;
    let (out_of_order, at_once) = shop.note(|seen| (seen.out_of_order, seen.most_at_work));
    println!("{all} orders of {CUSTOMERS} customers, up to {at_once} at once");
    match out_of_order {
        0 => println!("the orders of each customer were handled in order"),
        n => println!("{n} ORDERS WERE HANDLED OUT OF ORDER"),
    }
    let drained = connector.drain().await;
    std::process::exit(i32::from(!drained.is_clean() || out_of_order > 0));
}

/// The key of the order: the second word of `customers.<id>.orders`.
fn customer(message: &Message) -> String {
    message.topic().split('.').nth(1).unwrap_or_default().to_owned()
}

/// Handles an order, which takes some at random longer than others.
async fn handle(shop: Shop, message: Message) -> Result<()> {
    let (customer, order) = (customer(&message), message.decode::<u32>()?);
    shop.note(|seen| {
        seen.at_work += 1;
        seen.most_at_work = seen.most_at_work.max(seen.at_work);
    });
    let takes = rand::rng().random_range(0..=20);
    tokio::time::sleep(Duration::from_millis(takes)).await;
    let handled = shop.note(|seen| {
        seen.at_work -= 1;
        let last = seen.last.insert(customer, order).unwrap_or_default();
        // At least once: the same order again is not out of order.
        if order != last {
            seen.handled += 1;
            seen.out_of_order += u32::from(order != last + 1);
        }
        seen.handled
    });
    shop.handled.send_replace(handled);
    Ok(())
}

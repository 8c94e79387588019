//! Orders come in, two workers keep totals per customer, and a signal in the middle loses nothing.
//!
//! `orders.jsonl` is published at a steady pace, faster than the two workers of the queue group can
//! handle it. Stop it with Ctrl-C or SIGTERM: publishing ends, the workers finish what is under way,
//! and the report compares what was published with what is in the key-value bucket.
//!
//! ```text
//! cargo run --example orders          # against the server of settings.conf, NATS_SERVER or --NATS.SERVER
//! cargo xtask demo                    # brings a server, and sends SIGTERM halfway
//! ```

#![expect(clippy::print_stdout, reason = "the output is what this example is for")]

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nats_connector::pubsub::{Message, Subscription, with};
use nats_connector::shutdown::{self, ShutdownReport};
use nats_connector::{BoxError, Connector, Settings, kv, pubsub};
use serde::{Deserialize, Serialize};

const SETTINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/orders/settings.conf");
const ORDERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/orders/orders.jsonl");

/// The pause between two orders, and how long a worker takes for one.
const PACE: Duration = Duration::from_millis(10);
const WORK: Duration = Duration::from_millis(25);
const WORKERS: [&str; 2] = ["worker-1", "worker-2"];
/// One order in so many is shown.
const SHOWN: u32 = 25;

#[derive(Serialize, Deserialize)]
struct Order {
    id: u32,
    customer: String,
    cents: u64,
}

/// What a customer has ordered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Total {
    orders: u64,
    cents: u64,
}

type Totals = BTreeMap<String, Total>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().with_env_filter("warn").with_writer(std::io::stderr).init();
    let settings = Settings::builder().file(SETTINGS).env().args().build()?;
    let orders = read_orders()?;

    let connector = nats_connector::register_with(settings.clone()).await?;
    println!("connect    {}", settings.servers().join(", "));
    forget_earlier_runs(&orders).await?;

    let mut workers = Vec::new();
    for worker in WORKERS {
        let subscribe = pubsub::subscribe("orders.created", with(worker, on_order));
        let subscription = subscribe.queue("workers").await?;
        println!("subscribe  {worker} to {}, queue group workers", subscription.topic());
        workers.push(subscription);
    }

    // Hooks run before the connector drains: nothing is published to a closing connection.
    let published = Arc::new(Mutex::new(Totals::new()));
    let publishing = tokio::spawn(publish(orders, published.clone()));
    shutdown::on_shutdown("stop publishing", || async { publishing.await? })?;

    let report = shutdown::wait().await;

    // The connector is closed by now. What it has stored is read by another one, as anybody could.
    drop(connector);
    let published = published.lock().expect("no panic while it was locked").clone();
    let stored = read_totals(&settings, &published).await?;
    let complete = show(&report, &workers, &published, &stored);
    std::process::exit(if complete { report.exit_code() } else { 1 });
}

/// Publishes until the orders or the process end.
async fn publish(orders: Vec<Order>, published: Arc<Mutex<Totals>>) -> Result<(), BoxError> {
    let outcome = async {
        let mut pace = tokio::time::interval(PACE);
        for (n, order) in (1..).zip(&orders) {
            tokio::select! {
                () = shutdown::requested() => {
                    println!("shutdown   requested after {} of {} orders", n - 1, orders.len());
                    return Ok(());
                }
                _ = pace.tick() => {}
            }
            pubsub::publish("orders.created", order).await?;
            let mut totals = published.lock().expect("no panic while it was locked");
            *totals.entry(order.customer.clone()).or_default() += order;
            drop(totals);
            if order.id % SHOWN == 1 {
                println!("publish    {order}");
            }
            if n == orders.len() / 2 {
                println!("halfway    {n} of {} orders are published", orders.len());
            }
        }
        println!("publish    all {} orders are published", orders.len());
        Ok(())
    };
    let outcome = outcome.await;
    shutdown::trigger();
    outcome
}

/// Each worker has totals of its own, so no two write to one key.
async fn on_order(worker: &'static str, message: Message) -> nats_connector::Result<()> {
    let order: Order = message.decode()?;
    tokio::time::sleep(WORK).await;
    let key = key(worker, &order.customer);
    let mut total: Total = kv::get(&key).await?.unwrap_or_default();
    total += &order;
    kv::set(&key, &total).await?;
    if order.id % SHOWN == 1 {
        println!("handle     {order}, KV {key} = {total}");
    }
    Ok(())
}

fn key(worker: &str, customer: &str) -> String {
    format!("{worker}:{customer}")
}

fn read_orders() -> Result<Vec<Order>, BoxError> {
    let text = std::fs::read_to_string(ORDERS)?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

async fn forget_earlier_runs(orders: &[Order]) -> nats_connector::Result<()> {
    let customers: std::collections::BTreeSet<_> = orders.iter().map(|o| &o.customer).collect();
    for worker in WORKERS {
        for customer in &customers {
            kv::delete(key(worker, customer)).await?;
        }
    }
    Ok(())
}

/// The totals of all workers together.
async fn read_totals(settings: &Settings, published: &Totals) -> nats_connector::Result<Totals> {
    let connector = Connector::connect(settings).await?;
    let kv = connector.kv();
    let mut totals = Totals::new();
    for customer in published.keys() {
        for worker in WORKERS {
            if let Some(total) = kv.get::<Total>(key(worker, customer)).await? {
                *totals.entry(customer.clone()).or_default() += total;
            }
        }
    }
    connector.drain().await;
    Ok(totals)
}

/// Prints the report; whether everything that was published was handled and stored.
fn show(
    report: &ShutdownReport,
    workers: &[Subscription],
    published: &Totals,
    stored: &Totals,
) -> bool {
    let sent: u64 = published.values().map(|total| total.orders).sum();
    let handled: Vec<u64> = workers.iter().map(|worker| worker.stats().handled).collect();
    let by_worker = WORKERS.iter().zip(&handled).map(|(name, n)| format!("{name} {n}"));
    let by_worker = by_worker.collect::<Vec<_>>().join(", ");
    let handled = handled.iter().sum::<u64>();

    println!("\nreport");
    println!("  published      {sent:>4} orders");
    println!("  handled        {handled:>4} orders ({by_worker})");
    println!("  at shutdown    {report}");
    println!("\n  {:12}{:>24}{:>24}", "customer", "published", "in KV");
    for (customer, total) in published {
        let in_kv = stored.get(customer).copied().unwrap_or_default();
        println!("  {customer:12}{:>24}{:>24}", total.to_string(), in_kv.to_string());
    }
    let complete = handled == sent && stored == published;
    println!("\n{}", if complete { "nothing was lost" } else { "ORDERS WERE LOST" });
    complete
}

impl AddAssign<Total> for Total {
    fn add_assign(&mut self, other: Total) {
        self.orders += other.orders;
        self.cents += other.cents;
    }
}

impl AddAssign<&Order> for Total {
    fn add_assign(&mut self, order: &Order) {
        *self += Total { orders: 1, cents: order.cents };
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.orders == 1 { "order" } else { "orders" };
        write!(f, "{} {noun}, {}", self.orders, Euros(self.cents))
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "order {:>3} of {}, {}", self.id, self.customer, Euros(self.cents))
    }
}

/// Cents, shown as euros.
struct Euros(u64);

impl fmt::Display for Euros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02} EUR", self.0 / 100, self.0 % 100)
    }
}

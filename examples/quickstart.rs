//! The whole of it in one file: register, subscribe, publish, request and reply, key-value and a
//! graceful shutdown.
//!
//! ```text
//! NATS_SERVER=nats://127.0.0.1:4222 cargo run --example quickstart
//! ```

#![expect(clippy::print_stdout, reason = "the output is what this example is for")]

use nats_connector::pubsub::Message;
use nats_connector::{kv, pubsub, shutdown};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    id: u32,
    total: f64,
}

#[tokio::main]
async fn main() -> nats_connector::Result<()> {
    // One connection, from settings.conf, NATS_* variables and --NATS.* arguments.
    nats_connector::register().await?;

    // Of the members of a queue group one gets each message.
    pubsub::subscribe("orders.created", on_order).queue("workers").await?;
    pubsub::subscribe("orders.price", on_price).await?;

    pubsub::publish("orders.created", &Order { id: 1, total: 9.5 }).await?;

    let answer = pubsub::request("orders.price", &Order { id: 2, total: 20.0 }).await?;
    let price: f64 = answer.decode()?;
    println!("request    order 2 costs {price} with tax");

    // The first write makes the bucket. A key can be any text.
    let users = kv::bucket("users");
    users.set("user:1", &"Ada").await?;
    let name: Option<String> = users.get("user:1").await?;
    println!("key-value  user:1 = {name:?}");

    // Drains the connection on Ctrl-C or SIGTERM, which are caught from this call on.
    let end = shutdown::wait();
    println!("waiting for Ctrl-C");
    let report = end.await;
    println!("shut down: {report}");
    std::process::exit(report.exit_code());
}

async fn on_order(message: Message) -> nats_connector::Result<()> {
    let order: Order = message.decode()?;
    kv::set("last:order", &order).await?;
    println!("handler    {} {order:?}", message.topic());
    Ok(())
}

async fn on_price(message: Message) -> nats_connector::Result<()> {
    let order: Order = message.decode()?;
    message.respond(&(order.total * 1.2)).await
}

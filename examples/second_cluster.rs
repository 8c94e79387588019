//! Two clusters side by side: orders are worked on in one and audited in another.
//!
//! The second connector reads the same sources under a domain of its own: `AUDIT_SERVER`,
//! `AUDIT.SERVER=..` in the file, `--AUDIT.SERVER=..`. One shutdown drains both.
//!
//! ```text
//! NATS_SERVER=nats://shop:4222 AUDIT_SERVER=nats://audit:4222 cargo run --example second_cluster
//! ```

#![expect(clippy::print_stdout, reason = "the output is what this example is for")]

use futures::StreamExt;
use nats_connector::pubsub::{Message, PubSub, with};
use nats_connector::{Connector, Settings, pubsub, shutdown};

#[tokio::main]
async fn main() -> nats_connector::Result<()> {
    // The default connector, behind the functions of `pubsub` and `kv` ...
    let shop = nats_connector::register().await?;
    // ... and a second one, which is used by its handles.
    let audit = Connector::connect(&Settings::domain("AUDIT")?).await?;
    println!("shop   {:?}", shop.settings().servers());
    println!("audit  {:?}", audit.settings().servers());

    let mut records = audit.pubsub().messages("audit.>").await?;
    pubsub::subscribe("orders.*", with(audit.pubsub(), on_order)).await?;

    for id in 1..=3 {
        pubsub::publish("orders.created", &id).await?;
    }
    for message in records.by_ref().take(3).collect::<Vec<_>>().await {
        println!("audit  {} {}", message.topic(), message.decode::<u32>()?);
    }
    // A stream that is read no more holds up a drain.
    drop(records);

    let report = shutdown::run().await;
    println!("both shut down: {report}");
    std::process::exit(report.exit_code());
}

async fn on_order(audit: PubSub, message: Message) -> nats_connector::Result<()> {
    let topic = format!("audit.{}", message.topic());
    audit.publish_bytes(topic, message.payload().clone()).await
}

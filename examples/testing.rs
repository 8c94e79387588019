//! Testing an application without a server: it takes a [`Connector`], and its test gives it
//! [`Connector::memory()`].
//!
//! ```text
//! cargo run --example testing      # against a server
//! cargo test --example testing     # in memory
//! ```

#![cfg_attr(not(test), expect(clippy::print_stdout, reason = "an example talks to its user"))]

use nats_connector::pubsub::{Message, with};
use nats_connector::{Connector, kv::Kv};

/// The application: counts the orders of each customer, and answers how many there were.
async fn start(connector: &Connector) -> nats_connector::Result<()> {
    let subscribe = connector.pubsub().subscribe("orders.created", with(connector.kv(), on_order));
    subscribe.await?;
    Ok(())
}

async fn on_order(kv: Kv, message: Message) -> nats_connector::Result<()> {
    let customer: String = message.decode()?;
    let orders = kv.get(&customer).await?.unwrap_or(0) + 1;
    kv.set(&customer, &orders).await?;
    message.respond(&orders).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn orders_are_counted() -> nats_connector::Result<()> {
        let connector = Connector::memory();
        start(&connector).await?;
        for expected in 1..=2 {
            let answer = connector.pubsub().request("orders.created", "ada").await?;
            assert_eq!(answer.decode::<u32>()?, expected);
        }
        assert_eq!(connector.kv().get("ada").await?, Some(2));
        assert!(connector.drain().await.is_clean());
        Ok(())
    }
}

#[cfg(not(test))]
#[tokio::main]
async fn main() -> nats_connector::Result<()> {
    let connector = Connector::from_settings().await?;
    start(&connector).await?;
    let answer = connector.pubsub().request("orders.created", "ada").await?;
    println!("order {} of ada", answer.decode::<u32>()?);
    std::process::exit(i32::from(!connector.drain().await.is_clean()));
}

//! Durable subscriptions, their dead letters, and deduplication.

use std::time::Duration;

use futures::{FutureExt, TryStreamExt};
use nats_connector::layers::Dedupe;
use nats_connector::pubsub::{Message, Outcome, Subscription};
use nats_connector::streams::StreamConfig;
use nats_connector::{Connector, Error, ErrorKind, Result};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::{Feature, PATIENCE, make, orders, told};

pub(crate) const FEATURES: &[(&str, Feature)] = &[
    ("Durable subscription: consumer found", |user, admin| {
        async move {
            orders(&admin).await?;
            let _ = consume(&admin).await?.drain().await;
            let billing = consume(&user).await?;
            settled(&billing, &admin).await
        }
        .boxed()
    }),
    ("Durable subscription: consumer made", |user, admin| {
        async move {
            orders(&admin).await?;
            let billing = consume(&user).await?;
            settled(&billing, &admin).await
        }
        .boxed()
    }),
    ("Durable subscription: consumer overwritten", |user, admin| {
        async move {
            orders(&admin).await?;
            let _ = consume(&admin).await?.drain().await;
            let ignore = |_: Message| async {};
            let billing = user.pubsub().subscribe("orders.*", ignore).durable("billing");
            let billing = billing.without_dead_letters().ack_wait(PATIENCE).overwrite().await?;
            told(billing.differences().is_empty().then_some(()))?;
            settled(&billing, &admin).await
        }
        .boxed()
    }),
    ("Durable subscription: dead letters", |user, admin| {
        async move {
            orders(&admin).await?;
            dead_letter_stream(&admin).await?;
            reject(&user, &admin).await.map(drop)
        }
        .boxed()
    }),
    ("Durable subscription: dead letters, their stream made", |user, admin| {
        async move {
            orders(&admin).await?;
            reject(&user, &admin).await.map(drop)
        }
        .boxed()
    }),
    ("Dead letters: list, get, count", |user, admin| {
        async move {
            let sequence = dead(&admin).await?;
            let dead = user.pubsub().dead_letters("billing");
            let listed: Vec<_> = dead.list().await?.try_collect().await?;
            told((listed.len() == 1 && dead.count().await? == 1).then_some(()))?;
            told(dead.get(sequence).await?)
        }
        .boxed()
    }),
    ("Dead letters: replay", |user, admin| {
        async move {
            let sequence = dead(&admin).await?;
            told(user.pubsub().dead_letters("billing").replay(sequence).await?)
        }
        .boxed()
    }),
    ("Dead letters: replay_all", |user, admin| {
        async move {
            dead(&admin).await?;
            let mut report = user.pubsub().dead_letters("billing").replay_all().await?;
            match report.failed.pop() {
                Some(failure) => Err(failure.error),
                None => told((report.replayed == 1).then_some(())),
            }
        }
        .boxed()
    }),
    ("Dead letters: discard", |user, admin| {
        async move {
            let sequence = dead(&admin).await?;
            let dead = user.pubsub().dead_letters("billing");
            told(dead.discard(sequence).await?.then_some(()))
        }
        .boxed()
    }),
    ("Layers: Dedupe", |user, admin| {
        async move {
            admin.kv().bucket("users").set("other", &1).await?;
            let (sender, mut heard) = mpsc::unbounded_channel();
            let handler = move |_: Message| {
                let sender = sender.clone();
                async move { sender.send(()) }
            };
            let dedupe = Dedupe::new(user.kv().bucket("users"), "billing");
            let call = user.pubsub().subscribe("orders.*", handler).layer(dedupe.clone());
            let billing = call.await?;
            for _ in 0..2 {
                let order = admin.pubsub().publish("orders.created", &1);
                order.header("Nats-Msg-Id", "one").await?;
            }
            // A failed claim is the handler's failure, and is counted.
            until(|| {
                let stats = dedupe.stats();
                match billing.stats().failed {
                    0 => Ok(stats.handled == 1 && stats.skipped == 1),
                    _ => Err(Error::new(ErrorKind::Other, "the claim failed")),
                }
            })
            .await?;
            told(timeout(PATIENCE, heard.recv()).await.ok().flatten())
        }
        .boxed()
    }),
];

/// Joins the durable subscription, which handles everything.
async fn consume(connector: &Connector) -> Result<Subscription> {
    let ignore = |_: Message| async {};
    let billing = connector.pubsub().subscribe("orders.*", ignore).durable("billing");
    billing.without_dead_letters().await
}

/// A message that is published is handled, and the server knows.
async fn settled(billing: &Subscription, admin: &Connector) -> Result<()> {
    admin.pubsub().publish("orders.created", &1).jetstream().await?;
    until(|| Ok(billing.stats().handled == 1)).await?;
    acknowledged(admin).await
}

async fn acknowledged(admin: &Connector) -> Result<()> {
    let raw = admin.jetstream()?;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let other = |error: &dyn ToString| Error::new(ErrorKind::Other, error.to_string());
        let stream = raw.get_stream("ORDERS").await.map_err(|error| other(&error))?;
        let consumer = stream.consumer_info("billing").await.map_err(|error| other(&error))?;
        // Which sequence the message has is the stream's: one made again may go on from the last one.
        if consumer.ack_floor.consumer_sequence >= 1 && consumer.num_ack_pending == 0 {
            return Ok(());
        }
        sleep(Duration::from_millis(5)).await;
    }
    Err(Error::new(ErrorKind::Other, "nothing was acknowledged"))
}

/// Waits until `done`.
async fn until(mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if done()? {
            return Ok(());
        }
        sleep(Duration::from_millis(5)).await;
    }
    Err(Error::new(ErrorKind::Other, "nothing happened"))
}

async fn dead_letter_stream(admin: &Connector) -> Result<()> {
    make(admin, StreamConfig::new("DEAD_LETTERS", ["dead.>"])).await
}

/// The user rejects a message, which becomes a dead letter.
async fn reject(user: &Connector, admin: &Connector) -> Result<Subscription> {
    let reject = |_: Message| async { Outcome::reject("not today") };
    let billing = user.pubsub().subscribe("orders.*", reject).durable("billing").await?;
    admin.pubsub().publish("orders.created", &1).jetstream().await?;
    until(|| match billing.stats() {
        stats if stats.not_stored > 0 => {
            Err(Error::new(ErrorKind::Other, "the dead letter was not stored"))
        }
        stats => Ok(stats.dead == 1),
    })
    .await?;
    acknowledged(admin).await?;
    Ok(billing)
}

/// A dead letter; gives its sequence.
async fn dead(admin: &Connector) -> Result<u64> {
    orders(admin).await?;
    reject(admin, admin).await?.drain().await?;
    let mut letters = admin.pubsub().dead_letters("billing").list().await?;
    match letters.try_next().await? {
        Some(letter) => Ok(letter.sequence()),
        None => Err(Error::new(ErrorKind::Other, "there is no dead letter")),
    }
}

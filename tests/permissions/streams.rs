//! Streams.

use std::time::Duration;

use futures::FutureExt;
use nats_connector::Settings;
use nats_connector::pubsub::driver::ConsumerConfig;
use nats_connector::streams::StreamConfig;
use tokio::time::Instant;

use crate::{Feature, PATIENCE, orders, told};

pub(crate) const FEATURES: &[(&str, Feature)] = &[
    ("Streams: make", |user, _| {
        async move {
            let made = user.pubsub().stream(config()).await?;
            told(made.created.then_some(()))
        }
        .boxed()
    }),
    ("Streams: check, status", |user, admin| {
        async move {
            orders(&admin).await?;
            let found = user.pubsub().stream(config()).await?;
            told((!found.created && found.differences.is_empty()).then_some(()))?;
            told(user.streams().status("ORDERS").await?)
        }
        .boxed()
    }),
    ("Streams: change", |user, admin| {
        async move {
            orders(&admin).await?;
            let day = Duration::from_secs(86_400);
            let found = user.pubsub().stream(config().max_age(day)).update().await?;
            told(found.differences.is_empty().then_some(()))?;
            let other = config().max_age(day * 2);
            let changed = user.streams().update(other.clone()).await?;
            told(other.differences(&changed.config).is_empty().then_some(()))
        }
        .boxed()
    }),
    ("Streams: delete", |user, admin| {
        async move {
            orders(&admin).await?;
            told(user.streams().delete("ORDERS").await?.then_some(()))
        }
        .boxed()
    }),
    ("Streams: purge", |user, admin| {
        async move {
            orders(&admin).await?;
            admin.pubsub().publish("orders.created", &1).jetstream().await?;
            told((user.streams().purge("ORDERS").await? == 1).then_some(()))
        }
        .boxed()
    }),
    ("Streams: names", |user, admin| {
        async move {
            orders(&admin).await?;
            told((user.streams().names().await? == ["ORDERS"]).then_some(()))
        }
        .boxed()
    }),
    ("Streams: consumers, delete_consumer", |user, admin| {
        async move {
            orders(&admin).await?;
            let driver = admin.pubsub().driver()?;
            if let Some(streams) = driver.streams() {
                let billing = ConsumerConfig::new("ORDERS", "billing");
                streams.consume(&billing, false, Instant::now() + PATIENCE).await?;
            }
            told((user.streams().consumers("ORDERS").await? == ["billing"]).then_some(()))?;
            told(user.streams().delete_consumer("ORDERS", "billing").await?.then_some(()))
        }
        .boxed()
    }),
    ("Streams of the settings", |user, _| {
        async move {
            let settings =
                Settings::builder().set("STREAMS.ORDERS.SUBJECTS", "orders.*").build()?;
            let applied = user.streams().apply(&settings).await?;
            told((applied.len() == 1 && applied[0].created).then_some(()))
        }
        .boxed()
    }),
];

fn config() -> StreamConfig {
    StreamConfig::new("ORDERS", ["orders.*"])
}

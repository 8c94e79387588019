//! Publishing, subscribing, requests.

use futures::{FutureExt, StreamExt};
use nats_connector::pubsub::Message;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::{Feature, PATIENCE, orders, told};

pub(crate) const FEATURES: &[(&str, Feature)] = &[
    ("Every connection: flush, health, drain", |user, _| {
        async move {
            user.pubsub().flush().await?;
            let health = user.health().await;
            let ready = health.is_ready() && user.drain().await.is_clean();
            told(ready.then_some(()))
        }
        .boxed()
    }),
    ("Publish", |user, admin| {
        async move {
            let mut heard = admin.pubsub().messages("orders.created").await?;
            user.pubsub().publish("orders.created", &1).await?;
            // On a busy machine the refusal may come in later than the first round trips.
            let begun = Instant::now();
            while heard.next().now_or_never().is_none() {
                user.pubsub().flush().await?;
                told((begun.elapsed() < PATIENCE).then_some(()))?;
            }
            Ok(())
        }
        .boxed()
    }),
    ("Publish into a stream", |user, admin| {
        async move {
            orders(&admin).await?;
            user.pubsub().publish("orders.created", &1).jetstream().await.map(drop)
        }
        .boxed()
    }),
    ("Subscribe", |user, admin| {
        async move {
            let (sender, mut heard) = mpsc::unbounded_channel();
            let handler = move |_: Message| {
                let sender = sender.clone();
                async move { sender.send(()) }
            };
            user.pubsub().subscribe("orders.*", handler).await?;
            admin.pubsub().publish("orders.created", &1).await?;
            told(timeout(PATIENCE, heard.recv()).await.ok().flatten())
        }
        .boxed()
    }),
    ("Subscribe in a queue group", |user, admin| {
        async move {
            let mut heard = user.pubsub().messages("orders.*").queue("workers").await?;
            admin.pubsub().publish("orders.created", &1).await?;
            told(timeout(PATIENCE, heard.next()).await.ok().flatten())
        }
        .boxed()
    }),
    ("Request", |user, admin| {
        async move {
            let answer = |message: Message| async move { message.respond(&1).await };
            let service = admin.pubsub().subscribe("price.get", answer).await?;
            let answer = user.pubsub().request("price.get", &1).await;
            service.unsubscribe().await?;
            answer.map(drop)
        }
        .boxed()
    }),
    ("Respond", |user, admin| {
        async move {
            let answer = |message: Message| async move { message.respond(&1).await };
            user.pubsub().subscribe("price.get", answer).await?;
            admin.pubsub().request("price.get", &1).timeout(PATIENCE).await.map(drop)
        }
        .boxed()
    }),
    ("Capabilities, JetStream in health", |user, _| {
        async move {
            let asked = user.capabilities().await?.jetstream();
            told((asked && user.health().await.jetstream == Some(true)).then_some(()))
        }
        .boxed()
    }),
];

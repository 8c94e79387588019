//! Publishing later.

use std::time::Duration;

use futures::FutureExt;
use nats_connector::streams::StreamConfig;
use nats_connector::{Connector, Result};

use crate::{Feature, make, told};

/// Longer than any test.
const LATER: Duration = Duration::from_secs(3600);

pub(crate) const FEATURES: &[(&str, Feature)] = &[
    ("Publish later", |user, admin| {
        async move {
            orders(&admin).await?;
            user.pubsub().publish("orders.created", &1).after(LATER).await.map(drop)
        }
        .boxed()
    }),
    ("Publish later: cancel", |user, admin| {
        async move {
            orders(&admin).await?;
            let scheduled = user.pubsub().publish("orders.created", &1).after(LATER).await?;
            told(scheduled.cancel().await?.then_some(()))
        }
        .boxed()
    }),
    ("Publish later: cancel_schedule", |user, admin| {
        async move {
            orders(&admin).await?;
            admin.pubsub().publish("orders.created", &1).after(LATER).name("one").await?;
            let cancelled = user.pubsub().cancel_schedule("orders.created", "one").await?;
            told(cancelled.then_some(()))
        }
        .boxed()
    }),
];

async fn orders(admin: &Connector) -> Result<()> {
    make(admin, StreamConfig::new("ORDERS", ["orders.*"]).schedules(true)).await
}

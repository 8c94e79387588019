//! Publishing many messages.

use futures::FutureExt;
use nats_connector::Result;
use nats_connector::pubsub::{Outgoing, PubSub, PublishReport, Way};
use nats_connector::streams::StreamConfig;

use crate::{Feature, make, orders, told};

/// Enough for fast ingest.
const MANY: u64 = 1_000;

pub(crate) const FEATURES: &[(&str, Feature)] = &[
    ("Publish many", |user, admin| {
        async move {
            orders(&admin).await?;
            stored(user.pubsub().publish_many(messages(&user.pubsub())).await?, Way::Window)
        }
        .boxed()
    }),
    ("Publish many: fast ingest", |user, admin| {
        async move {
            let fast = StreamConfig::new("ORDERS", ["orders.*"]).fast_ingest(true);
            make(&admin, fast).await?;
            stored(user.pubsub().publish_many(messages(&user.pubsub())).await?, Way::FastIngest)
        }
        .boxed()
    }),
    ("Publish many: all or nothing", |user, admin| {
        async move {
            let atomic = StreamConfig::new("ORDERS", ["orders.*"]).atomic_publish(true);
            make(&admin, atomic).await?;
            let call = user.pubsub().publish_many(messages(&user.pubsub())).all_or_nothing();
            stored(call.await?, Way::Atomic)
        }
        .boxed()
    }),
];

fn messages(pubsub: &PubSub) -> Vec<Outgoing> {
    (0..MANY).map(|n| pubsub.publish("orders.created", &n).into()).collect()
}

fn stored(report: PublishReport, way: Way) -> Result<()> {
    let report = report.into_result()?;
    told((report.stored == MANY && report.way == way).then_some(()))
}

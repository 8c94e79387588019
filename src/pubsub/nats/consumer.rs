//! Durable consumers by the JetStream API, in raw JSON.

#![expect(clippy::unused_async, reason = "in the making")]

use async_nats::Subject;
use tokio::time::Instant;

use crate::connector::Link;
use crate::error::{Error, ErrorKind, Result};
use crate::pubsub::driver::{ConsumerConfig, Consuming, Settlement};

fn unsupported<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "durable consumers are not there yet"))
}

pub(super) async fn names(_: &Link, _: &str, _: Instant) -> Result<Vec<String>> {
    unsupported()
}

pub(super) async fn delete(_: &Link, _: &str, _: &str, _: Instant) -> Result<bool> {
    unsupported()
}

pub(super) async fn consume(
    _: &Link,
    _: &ConsumerConfig,
    _: bool,
    _: Instant,
) -> Result<Consuming> {
    unsupported()
}

pub(super) async fn settle(_: &Link, _: &Subject, _: Settlement, _: Instant) -> Result<()> {
    unsupported()
}

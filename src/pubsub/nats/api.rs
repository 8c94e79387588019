//! Streams by the JetStream API, in raw JSON.

#![expect(clippy::unused_async, reason = "in the making")]

use tokio::time::Instant;

use crate::connector::Link;
use crate::error::{Error, ErrorKind, Result};
use crate::pubsub::driver::Stored;
use crate::streams::{StreamConfig, StreamStatus};

fn unsupported<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "streams are not there yet"))
}

pub(super) async fn stream(_: &Link, _: &str, _: Instant) -> Result<Option<StreamStatus>> {
    unsupported()
}

pub(super) async fn stream_of(_: &Link, _: &str, _: Instant) -> Result<Option<String>> {
    unsupported()
}

pub(super) async fn stream_names(_: &Link, _: Instant) -> Result<Vec<String>> {
    unsupported()
}

pub(super) async fn create_stream(_: &Link, _: &StreamConfig, _: Instant) -> Result<StreamStatus> {
    unsupported()
}

pub(super) async fn update_stream(_: &Link, _: &StreamConfig, _: Instant) -> Result<StreamStatus> {
    unsupported()
}

pub(super) async fn delete_stream(_: &Link, _: &str, _: Instant) -> Result<bool> {
    unsupported()
}

pub(super) async fn purge_stream(_: &Link, _: &str, _: Option<&str>, _: Instant) -> Result<u64> {
    unsupported()
}

pub(super) async fn message_from(
    _: &Link,
    _: &str,
    _: &str,
    _: u64,
    _: Instant,
) -> Result<Option<Stored>> {
    unsupported()
}

pub(super) async fn delete_message(_: &Link, _: &str, _: u64, _: Instant) -> Result<bool> {
    unsupported()
}

//! Messages that are published together or not at all: an atomic batch (ADR-50).

#![expect(clippy::unused_async, reason = "in the making")]

use tokio::time::Instant;

use crate::connector::Link;
use crate::error::{Error, ErrorKind, Result};
use crate::pubsub::Ack;
use crate::pubsub::driver::OutboundMessage;

pub(super) async fn publish(_: &Link, _: &str, _: Vec<OutboundMessage>, _: Instant) -> Result<Ack> {
    Err(Error::new(ErrorKind::Unsupported, "atomic batches are not there yet"))
}

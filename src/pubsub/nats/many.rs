//! Publishing many messages.

#![expect(clippy::unused_async, reason = "in the making")]

use std::sync::Arc;

use tokio::time::Instant;

use crate::connector::Link;
use crate::error::Result;
use crate::pubsub::driver::{Pipeline, PipelineConfig};

pub(super) async fn open(
    _: &Arc<Link>,
    _: PipelineConfig,
    _: Instant,
) -> Result<Option<Box<dyn Pipeline>>> {
    Ok(None)
}

//! A limit on how long a handler may take.

use std::time::Duration;

use super::Layer;
use crate::deadline::within;
use crate::error::{BoxError, Error, ErrorKind};
use crate::pubsub::{Handler, HandlerResult, Message};

/// Fails a message whose handler takes too long: the handler's future is dropped at the limit, at
/// whatever it awaits then, and the message of a durable subscription is delivered again after its
/// backoff.
///
/// A handler that blocks its thread cannot be stopped: the limit is looked at only when it awaits
/// something. Move such work to `tokio::task::spawn_blocking`, and note that what runs there goes on
/// when the handler is dropped.
///
/// No timer is armed for a handler that is done at its first poll.
#[derive(Debug, Clone, Copy)]
pub struct Timeout {
    limit: Duration,
}

impl Timeout {
    /// At most `limit` for each call of the handler.
    #[must_use]
    pub const fn new(limit: Duration) -> Self {
        Timeout { limit }
    }
}

impl<H: Handler> Layer<H> for Timeout {
    fn layer(self, handler: H) -> impl Handler {
        let limit = self.limit;
        move |message: Message| {
            let handling = handler.call(message);
            async move {
                match within(limit, handling).await {
                    Ok(result) => result.into_outcome(),
                    Err(_) => Err(BoxError::from(took_longer(limit))),
                }
            }
        }
    }
}

fn took_longer(limit: Duration) -> Error {
    let limit = humantime::format_duration(limit);
    let message = format!(
        "the handler took longer than its limit of {limit} and was stopped; raise the limit \
                 of its Timeout layer or find what it waits for"
    );
    Error::new(ErrorKind::Timeout, message)
}

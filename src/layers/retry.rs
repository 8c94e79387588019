//! Tries inside the process.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::Layer;
use crate::backoff::Backoff;
use crate::error::{BoxError, Error, ErrorKind};
use crate::pubsub::{Handler, HandlerResult, Message};

/// The waits between tries, unless the layer says so.
const BACKOFF: Backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(10));

/// Calls the handler again when it gives an error, before the subscription learns of it.
///
/// Meanwhile the message is held, and with it one of the subscription's places
/// ([`concurrency`](crate::Call::concurrency)); a durable subscription extends its acknowledgement.
/// So it is for what passes in seconds. The last error is the result.
///
/// An [`Outcome`](crate::pubsub::Outcome) is a decision, not an error: neither `Retry` nor `Reject`
/// is tried again here. What could not be decoded is not tried again either, and a panic passes
/// through.
#[derive(Clone)]
#[must_use = "a layer does nothing until it is given to .layer(..)"]
pub struct Retry {
    times: u32,
    backoff: Backoff,
    when: Arc<dyn Fn(&BoxError) -> bool + Send + Sync>,
}

impl Retry {
    /// Up to `tries` calls of the handler for a message, the first one included; 0 counts as 1.
    /// Pauses of about 100 ms, 200 ms, 400 ms ... up to 10 s.
    pub fn times(tries: u32) -> Self {
        Retry { times: tries, backoff: BACKOFF, when: Arc::new(|_| true) }
    }

    /// Other pauses between the tries.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Tries again only after the errors of which `when` says so. Default: after all.
    ///
    /// ```
    /// use nats_connector::{Error, layers::Retry};
    ///
    /// let retry = Retry::times(5)
    ///     .when(|error| error.downcast_ref::<Error>().is_some_and(Error::is_retryable));
    /// ```
    pub fn when(mut self, when: impl Fn(&BoxError) -> bool + Send + Sync + 'static) -> Self {
        self.when = Arc::new(when);
        self
    }

    fn again(&self, tries: u32, error: &BoxError) -> bool {
        tries < self.times && !is_decode(error) && (self.when)(error)
    }
}

impl<H: Handler> Layer<H> for Retry {
    fn layer(self, handler: H) -> impl Handler {
        let shared = Arc::new((self, handler));
        move |message: Message| {
            let shared = shared.clone();
            async move {
                let (retry, handler) = &*shared;
                let mut tries = 0;
                loop {
                    tries += 1;
                    let error = match handler.call(message.clone()).await.into_outcome() {
                        Ok(outcome) => return Ok(outcome),
                        Err(error) => error,
                    };
                    if message.is_undecodable() || !retry.again(tries, &error) {
                        return Err(error);
                    }
                    tracing::debug!(topic = message.topic(), tries, %error, "a handler is tried again");
                    sleep(retry.backoff.delay(tries.into())).await;
                }
            }
        }
    }
}

/// Bytes that are no value now will be none the next time.
fn is_decode(error: &BoxError) -> bool {
    let mut causes =
        std::iter::successors(Some(&**error as &(dyn std::error::Error + 'static)), |error| {
            error.source()
        });
    causes.any(|cause| {
        cause.downcast_ref::<Error>().is_some_and(|error| error.kind() == ErrorKind::Decode)
    })
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("times", &self.times)
            .field("backoff", &self.backoff)
            .finish_non_exhaustive()
    }
}

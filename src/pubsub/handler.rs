//! What can handle messages: async functions and closures, with or without state.

use std::future::Future;
use std::time::Duration;

use super::Message;
use crate::error::BoxError;

/// Handles the messages of a subscription. Every `Fn(Message) -> impl Future` is one whose output
/// is `()`, an [`Outcome`], or a `Result` of either with any error that boxes, `anyhow::Error` too.
///
/// An error or a panic is counted and logged; the subscription goes on.
pub trait Handler: Send + Sync + 'static {
    /// The future of one message.
    type Future: Future<Output: HandlerResult> + Send;

    /// Handles one message.
    fn call(&self, message: Message) -> Self::Future;
}

impl<F, Fut> Handler for F
where
    F: Fn(Message) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: HandlerResult> + Send,
{
    type Future = Fut;

    fn call(&self, message: Message) -> Fut {
        self(message)
    }
}

/// A handler with state, cloned for each message: `with(state, |state, msg| async move { .. })`.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
/// use nats_connector::pubsub::{Handler, Message, with};
///
/// async fn count(seen: Arc<AtomicU64>, _msg: Message) {
///     seen.fetch_add(1, Ordering::Relaxed);
/// }
/// let handler = with(Arc::new(AtomicU64::new(0)), count);
/// # fn is_handler(_: impl Handler) {}
/// # is_handler(handler);
/// ```
pub fn with<S, F, Fut>(state: S, handler: F) -> impl Fn(Message) -> Fut + Send + Sync + 'static
where
    S: Clone + Send + Sync + 'static,
    F: Fn(S, Message) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: HandlerResult> + Send,
{
    move |message| handler(state.clone(), message)
}

/// What a handler decides for a message of a durable subscription.
///
/// In a core subscription, which has no second delivery, anything but `Ack` is a failure, counted
/// and logged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is handled.
    Ack,
    /// It is to be delivered again: after this long, or as the subscription's backoff says.
    Retry(Option<Duration>),
    /// It can never be handled, for this reason: it goes to the dead letters at once.
    Reject(String),
}

impl Outcome {
    /// Deliver it again after the subscription's backoff, as after an error.
    #[must_use]
    pub const fn retry() -> Self {
        Outcome::Retry(None)
    }

    /// Deliver it again after this long.
    #[must_use]
    pub const fn retry_after(delay: Duration) -> Self {
        Outcome::Retry(Some(delay))
    }

    /// Never deliver it again; it goes to the dead letters with this reason.
    #[must_use]
    pub fn reject(reason: impl Into<String>) -> Self {
        Outcome::Reject(reason.into())
    }
}

/// What a handler's future gives: `()`, an [`Outcome`], or a `Result` of either.
pub trait HandlerResult: Send {
    /// The outcome, or the failure. `()` is [`Outcome::Ack`].
    ///
    /// # Errors
    /// The handler's own.
    fn into_outcome(self) -> Result<Outcome, BoxError>;
}

impl HandlerResult for () {
    fn into_outcome(self) -> Result<Outcome, BoxError> {
        Ok(Outcome::Ack)
    }
}

impl HandlerResult for Outcome {
    fn into_outcome(self) -> Result<Outcome, BoxError> {
        Ok(self)
    }
}

impl<T: HandlerResult, E: Into<BoxError> + Send> HandlerResult for Result<T, E> {
    fn into_outcome(self) -> Result<Outcome, BoxError> {
        self.map_err(Into::into).and_then(T::into_outcome)
    }
}

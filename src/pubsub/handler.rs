//! What can handle messages: async functions and closures, with or without state.

use std::future::Future;

use super::Message;
use crate::error::BoxError;

/// Handles the messages of a subscription. Every `Fn(Message) -> impl Future` is one whose output
/// is `()` or a `Result<(), E>` with any error that boxes, `anyhow::Error` too.
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

/// What a handler's future gives: `()` or a `Result<(), E>`.
pub trait HandlerResult: Send {
    /// The failure, if it is one.
    ///
    /// # Errors
    /// The handler's own.
    fn into_result(self) -> Result<(), BoxError>;
}

impl HandlerResult for () {
    fn into_result(self) -> Result<(), BoxError> {
        Ok(())
    }
}

impl<E: Into<BoxError> + Send> HandlerResult for Result<(), E> {
    fn into_result(self) -> Result<(), BoxError> {
        self.map_err(Into::into)
    }
}

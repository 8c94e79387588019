//! What wraps handlers: a time limit, tries inside the process, one run for each message id, a
//! tracing span.
//!
//! [`Call::layer`](crate::Call::layer) puts a [`Layer`] around a subscription's handler. The one
//! added last is the outermost: it sees a message first and its result last.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> nats_connector::Result<()> {
//! # let nats = nats_connector::Connector::memory();
//! # async fn bill(_: nats_connector::pubsub::Message) {}
//! use std::time::Duration;
//! use nats_connector::layers::{Dedupe, Retry, Timeout, Traced};
//!
//! nats.pubsub()
//!     .subscribe("orders.created", bill)
//!     .layer(Timeout::new(Duration::from_secs(5)))          // each try may take 5 s,
//!     .layer(Retry::times(3))                               // there are up to three tries,
//!     .layer(Dedupe::new(nats.kv().bucket("done"), "bill")) // by one member, until one succeeds,
//!     .layer(Traced::new("bill"))                           // and all of it is one span.
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! The same layers in another order say something else, which is seldom what is meant:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> nats_connector::Result<()> {
//! # let nats = nats_connector::Connector::memory();
//! # async fn bill(_: nats_connector::pubsub::Message) {}
//! # use std::time::Duration;
//! # use nats_connector::layers::{Dedupe, Retry, Timeout, Traced};
//! nats.pubsub()
//!     .subscribe("orders.created", bill)
//!     .layer(Traced::new("bill"))                           // Wrong: a span for each try,
//!     .layer(Dedupe::new(nats.kv().bucket("done"), "bill")) // each try claims the message anew,
//!     .layer(Retry::times(3))                               // and all three tries together,
//!     .layer(Timeout::new(Duration::from_secs(5)))          // with their pauses, have 5 s.
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! A panic passes through every layer; the subscription counts it. A layer costs no boxed future
//! and no task.

mod dedupe;
mod retry;
mod timeout;
mod traced;

use futures::future::BoxFuture;

pub use dedupe::{Dedupe, DedupeStats};
pub use retry::Retry;
pub use timeout::Timeout;
pub use traced::Traced;

use crate::error::Result;
use crate::pubsub::Handler;

/// Makes a handler out of another one. A closure around it will do:
///
/// ```
/// use nats_connector::layers::Layer;
/// use nats_connector::pubsub::{Handler, Message};
///
/// /// Says when a message comes and when its handler is done.
/// struct Noted;
///
/// impl<H: Handler> Layer<H> for Noted {
///     fn layer(self, handler: H) -> impl Handler {
///         move |message: Message| {
///             tracing::debug!(topic = message.topic(), "begun");
///             let handling = handler.call(message);
///             async move {
///                 let result = handling.await;
///                 tracing::debug!("done");
///                 result
///             }
///         }
///     }
/// }
/// # let nats = nats_connector::Connector::memory();
/// let call = nats.pubsub().subscribe("orders.created", async |_: Message| ()).layer(Noted);
/// ```
pub trait Layer<H: Handler>: Sized {
    /// The handler with this layer around it.
    fn layer(self, handler: H) -> impl Handler;

    /// Whether the layer can do its work at all; asked once, before the subscription is made, which
    /// fails with its error. Default: yes.
    fn check(&self) -> Option<BoxFuture<'static, Result<()>>> {
        None
    }
}

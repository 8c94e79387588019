//! What a [`pubsub::driver::Driver`](crate::pubsub::driver::Driver) must do.
//!
//! # For the author of a driver
//!
//! Give [`run`] a connected driver in a test of your own, and [`acked_publish`] a subject that a
//! stream stores if the driver claims it:
//!
//! ```
//! use std::sync::Arc;
//! use nats_connector::conformance;
//! use nats_connector::pubsub::memory::MemoryDriver;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! conformance::pubsub::run(Arc::new(MemoryDriver::default())).await;
//! # }
//! ```
//!
//! What it asks for:
//!
//! - `subscribe` is done when the back end has the subscription: what is published next arrives.
//! - Each subscription gets its own copy, also a duplicate or overlapping one. `*` is one token, `>`
//!   at the end is one or more. Of a queue group one member gets it.
//! - What one publisher sends to one subject arrives in that order, bytes and headers unchanged.
//! - `request` gets its own answer. Nobody there is
//!   [`is_no_responders`](crate::Error::is_no_responders), made by
//!   [`Error::no_responders`](crate::Error::no_responders), and comes at once; nobody answering is
//!   [`Timeout`](crate::ErrorKind::Timeout), at the deadline. (A back end that cannot tell who
//!   listens leaves [`no_responders`] out and runs the other parts one by one.)
//! - A payload of exactly [`max_payload`](crate::pubsub::driver::Capabilities::max_payload) bytes
//!   passes; one byte more, or headers beside it, are [`TooLarge`](crate::ErrorKind::TooLarge)
//!   before anything is sent.
//! - [`Source::drain`](crate::pubsub::driver::Source::drain) loses nothing that the back end gave to
//!   this subscription, under load, and then the source ends. `close` ends it at once. Dropping it
//!   unsubscribes.
//! - What is not claimed is refused as [`Unsupported`](crate::ErrorKind::Unsupported), with no
//!   effect.

mod acked;
mod delivery;
mod ending;
mod messages;
mod probe;
mod requests;

use std::sync::Arc;

pub use acked::{acked_publish, unclaimed_acked_publish};
pub use delivery::{fan_out, order, overlapping_subscriptions, queue_groups, wildcards};
pub use ending::{
    close_ends_at_once, drain_in_a_queue_group, drain_loses_nothing, drop_unsubscribes,
};
pub use messages::{headers, payload_limit, payloads};
pub use requests::{no_responders, request_timeout, requests};

use crate::pubsub::driver::Driver;

/// Runs every part that needs no stream.
pub async fn run(driver: Arc<dyn Driver>) {
    fan_out(&driver).await;
    wildcards(&driver).await;
    overlapping_subscriptions(&driver).await;
    queue_groups(&driver).await;
    order(&driver).await;
    headers(&driver).await;
    payloads(&driver).await;
    payload_limit(&driver).await;
    requests(&driver).await;
    no_responders(&driver).await;
    request_timeout(&driver).await;
    drain_loses_nothing(&driver).await;
    drain_in_a_queue_group(&driver).await;
    close_ends_at_once(&driver).await;
    drop_unsubscribes(&driver).await;
    unclaimed_acked_publish(&driver).await;
}

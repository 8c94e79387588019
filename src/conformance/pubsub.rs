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
//! - A driver with streams ([`Driver::streams`]) passes
//!   [`run_streams`] and [`run_durable`]:
//!   - An acknowledged message is stored, once for each message id within the window; an expectation
//!     that fails is [`Conflict`](crate::ErrorKind::Conflict) and stores nothing. A plain message is
//!     stored too, and a subscriber gets both.
//!   - Every option of a stream holds or is refused as `Unsupported`; a change keeps what it does not
//!     say. Two streams never store one subject.
//!   - What a consumer delivered comes again until it is settled: after the ack wait, no earlier, with
//!     its deliveries counted. `Done` and `Never` are final, also by an earlier receipt; `Working`
//!     begins the wait anew; `Again` keeps its wait.
//!   - Members share; together they have no more than `max_in_flight`. A member that is drained gives
//!     what has arrived and ends, and everything else goes to the others at once. What a dropped or
//!     closed member had comes again.
//!   - A consumer that is there is left as it is and its differences are told, by these names:
//!     `filters`, `ack_wait`, `max_in_flight`. One that somebody deleted is made again.
//! - What is not claimed is refused as [`Unsupported`](crate::ErrorKind::Unsupported), with no
//!   effect.

mod acked;
mod bench;
mod delivery;
pub mod durable;
mod ending;
mod messages;
mod probe;
mod requests;
pub mod streams;

use std::sync::Arc;

pub use acked::{acked_publish, unclaimed_acked_publish};
pub use delivery::{fan_out, order, overlapping_subscriptions, queue_groups, wildcards};
pub use ending::{
    close_ends_at_once, drain_in_a_queue_group, drain_loses_nothing, drop_unsubscribes,
};
pub use messages::{headers, payload_limit, payloads};
pub use requests::{no_responders, request_timeout, requests};

use crate::pubsub::driver::Driver;
use crate::streams::StreamConfig;

/// How the suites' streams are to be: where they are kept, in how many copies.
pub type Shape<'a> = &'a (dyn Fn(StreamConfig) -> StreamConfig + Send + Sync);

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

/// Runs every part about streams, several at a time. Each makes a stream of its own, as `shape` has
/// it, and deletes it.
pub async fn run_streams(driver: Arc<dyn Driver>, shape: Shape<'_>) {
    let (driver, shape) = (&driver, &shape);
    Box::pin(async {
        tokio::join!(
            streams::lifecycle(driver, shape),
            streams::updates(driver, shape),
            streams::subjects(driver, shape),
            streams::stored_messages(driver, shape),
            streams::plain_publishing(driver, shape),
            streams::limits(driver, shape),
            streams::retention(driver, shape),
            streams::expectations(driver, shape),
            streams::atomic_publishing(driver, shape),
            streams::ages(driver, shape),
            streams::lifetimes(driver, shape),
            streams::duplicate_window(driver, shape),
            streams::schedules(driver, shape),
        );
    })
    .await;
}

/// Runs every part about durable consumers, several at a time, as [`run_streams`].
pub async fn run_durable(driver: Arc<dyn Driver>, shape: Shape<'_>) {
    let (driver, shape) = (&driver, &shape);
    Box::pin(async {
        tokio::join!(
            durable::deliveries(driver, shape),
            durable::starts(driver, shape),
            durable::filters(driver, shape),
            durable::members_share(driver, shape),
            durable::most_in_flight(driver, shape),
            durable::found_consumers(driver, shape),
            durable::differences(driver, shape),
            durable::deleted_consumers(driver, shape),
        );
    })
    .await;
    // What waits for a time is by itself: others would keep it busy.
    Box::pin(async {
        tokio::join!(
            durable::redelivery(driver, shape),
            durable::settled_stays_settled(driver, shape),
            durable::again(driver, shape),
            durable::working(driver, shape),
            durable::dropped_members(driver, shape),
            durable::closed_members(driver, shape),
            durable::drained_members(driver, shape),
        );
    })
    .await;
}

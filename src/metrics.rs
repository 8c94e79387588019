//! Metrics of the whole library through the [`metrics`](https://docs.rs/metrics) facade (feature
//! `metrics`): whatever recorder the application installs gets them.
//!
//! [`all`] lists them, `docs/metrics.md` shows them as a table. Nothing is to be switched on.
//!
//! - **Order.** Install the recorder before connecting. One that comes later is found when
//!   something is counted next: counters begin there, and what stands (the connection's state, the
//!   size of a near cache) is told with its next change; the state also with the next
//!   [health check](crate::Connector::health).
//! - **Cost.** Handles are made once for each connector, bucket and subscription, and kept; a message
//!   costs a few atomic operations and, where its time is taken, two looks at the clock. A recorder
//!   without any field of its own is taken for none: box it.
//! - **Labels** name drivers, connectors, buckets, streams, durable consumers and the patterns that
//!   were subscribed to; never a key, a concrete subject of a message, an id, an address or a
//!   credential. Of buckets, and of subscriptions, the first 1,000 of each connector have a label of
//!   their own; what comes later is counted together as `other`.
//! - Without the feature there is no code for it.

mod connection;
mod kv;
mod lazy;
mod list;
mod pubsub;

use std::time::Instant;

use crate::error::Error;

pub(crate) use connection::Connection;
pub(crate) use kv::{Kv, KvOperation, LockHeld, NearMetrics, NearSize};
pub use list::{Kind, Metric, all};
pub(crate) use pubsub::{End, Fate, PubSub, Subscription};

/// When something began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun(Instant);

impl Begun {
    #[inline]
    pub(crate) fn now() -> Self {
        Begun(Instant::now())
    }

    fn seconds(self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// An error as a label: its kind, in the words of [`ErrorKind`](crate::ErrorKind).
fn error_label(error: &Error) -> String {
    if error.is_no_responders() {
        return "no_responders".to_owned();
    }
    error.kind().as_str().replace(' ', "_")
}

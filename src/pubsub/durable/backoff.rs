//! How long a message that was not handled waits for its next delivery.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Backoff;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// The first wait of a dead letter that cannot be stored, where the others are quicker still.
const FIRST_UNDEAD: Duration = Duration::from_millis(100);

/// The waits of a durable subscription.
#[derive(Clone)]
pub(super) enum Waits {
    Backoff(Backoff),
    Computed(Arc<dyn Fn(u64) -> Duration + Send + Sync>),
}

impl Default for Waits {
    fn default() -> Self {
        Waits::Backoff(Backoff::exponential(FIRST, LONGEST))
    }
}

impl Waits {
    /// After so many deliveries.
    pub(super) fn after(&self, deliveries: u64) -> Duration {
        match self {
            Waits::Backoff(backoff) => backoff.delay(deliveries),
            Waits::Computed(compute) => {
                let computed = catch_unwind(AssertUnwindSafe(|| compute(deliveries)));
                computed.unwrap_or_else(|_| {
                    tracing::error!(deliveries, "the function for a backoff panicked");
                    LONGEST
                })
            }
        }
    }

    /// Of a message whose dead letter cannot be stored: the longest wait, where one is known. However
    /// short that is, it grows, so that many of these keep no place from the others.
    pub(super) fn undead(&self, deliveries: u64) -> Duration {
        let longest = match self {
            Waits::Backoff(backoff) => backoff.delay(u64::MAX),
            Waits::Computed(_) => LONGEST,
        };
        longest.max(Backoff::exponential(FIRST_UNDEAD, LONGEST).delay(deliveries))
    }
}

impl fmt::Debug for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Waits::Backoff(backoff) => backoff.fmt(f),
            Waits::Computed(_) => f.write_str("Computed(..)"),
        }
    }
}

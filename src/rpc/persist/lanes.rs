//! Writes of one key go one after another, in the order of the replies.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// What is written to: a bucket's place in its keeper, and a key.
pub(super) type Spot = (usize, Arc<str>);

/// The keys that are being written, or are about to be.
#[derive(Default)]
pub(super) struct Lanes(Mutex<HashMap<Spot, Arc<Lane>>>);

/// One key. Both locks are fair: first come, first served.
#[derive(Default)]
struct Lane {
    /// Held while a reply is sent and its write gets its place, so that writes have the order of the
    /// replies.
    order: Arc<AsyncMutex<()>>,
    /// Held while a value is written.
    write: Arc<AsyncMutex<()>>,
}

/// A call's share in a lane, which lives as long as somebody has one.
pub(super) struct Ticket {
    lanes: Arc<Lanes>,
    spot: Spot,
    lane: Arc<Lane>,
}

impl Lanes {
    pub(super) fn join(self: &Arc<Self>, spot: Spot) -> Ticket {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes.entry(spot.clone()).or_default().clone();
        Ticket { lanes: self.clone(), spot, lane }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Ticket {
    /// Where it goes.
    pub(super) fn spot(&self) -> &Spot {
        &self.spot
    }

    /// The key.
    pub(super) fn key(&self) -> &str {
        &self.spot.1
    }

    /// The right to reply next.
    pub(super) fn order(&self) -> impl Future<Output = OwnedMutexGuard<()>> + Send + 'static {
        self.lane.order.clone().lock_owned()
    }

    /// The right to write next. The place in the row is taken with the first poll.
    pub(super) fn write(&self) -> impl Future<Output = OwnedMutexGuard<()>> + Send + 'static {
        self.lane.write.clone().lock_owned()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut lanes = self.lanes.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's and this one.
        if Arc::strong_count(&self.lane) == 2 {
            lanes.remove(&self.spot);
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("key", &self.key()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Poll;

    use super::*;
    use crate::deadline::poll_once;

    #[tokio::test]
    async fn a_lane_keeps_the_order_of_places_and_ends_with_the_last_share() {
        let lanes = Arc::new(Lanes::default());
        let ticket = |key: &str| lanes.join((0, key.into()));
        let (a, b, other) = (ticket("k"), ticket("k"), ticket("l"));
        assert_eq!(lanes.len(), 2);
        let first = a.write().await;
        let mut second = pin!(b.write());
        assert!(poll_once(second.as_mut()).await.is_pending());
        drop(other.write().await);
        let late = ticket("k");
        let mut third = pin!(late.write());
        assert!(poll_once(third.as_mut()).await.is_pending());
        drop(first);
        // A place that was taken is not lost to who asks the lock first.
        assert!(poll_once(third.as_mut()).await.is_pending());
        let Poll::Ready(second) = poll_once(second.as_mut()).await else { panic!("not its turn") };
        drop(second);
        assert!(poll_once(third).await.is_ready());
        drop((a, b, other, late));
        assert_eq!(lanes.len(), 0);
    }
}

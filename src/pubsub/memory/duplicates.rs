//! The message ids that a stream knows for a while.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::clock::later;

#[derive(Debug, Default)]
pub(super) struct Duplicates {
    known: HashMap<Arc<str>, u64>,
    /// Oldest first, with the moment when it was seen.
    order: VecDeque<(Instant, Arc<str>)>,
    /// The id of the last message that was stored; empty when it had none.
    last: String,
}

impl Duplicates {
    /// The sequence of the message that had this id.
    pub(super) fn find(&self, id: &str) -> Option<u64> {
        self.known.get(id).copied()
    }

    pub(super) fn last(&self) -> &str {
        &self.last
    }

    /// Notes that a message was stored.
    pub(super) fn note(&mut self, id: Option<&str>, sequence: u64, now: Instant) {
        self.last.clear();
        if let Some(id) = id {
            self.last.push_str(id);
            let id: Arc<str> = id.into();
            self.known.insert(Arc::clone(&id), sequence);
            self.order.push_back((now, id));
        }
    }

    /// Forgets what was seen a `window` ago.
    pub(super) fn forget(&mut self, window: Duration, now: Instant) {
        while self.order.front().is_some_and(|(seen, _)| later(*seen, window) <= now) {
            if let Some((_, id)) = self.order.pop_front() {
                self.known.remove(&id);
            }
        }
    }
}

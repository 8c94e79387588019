//! Why messages are to be dead letters that no stream has stored yet: the server does not know it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::DeliveryInfo;

/// As many are remembered; the oldest is forgotten first.
const MOST: usize = 1_024;

/// The causes that a member remembers.
#[derive(Debug, Default)]
pub(super) struct Causes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    causes: HashMap<Key, Cause>,
    order: VecDeque<Key>,
}

/// A stream that was made anew gives the same sequences again, at other times.
type Key = (u64, SystemTime);

/// Why a message is to be a dead letter, and after how many deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cause {
    pub(super) text: String,
    pub(super) deliveries: u64,
}

impl Causes {
    /// Remembers the cause of a message; the first one stays.
    pub(super) fn remember(&self, message: &DeliveryInfo, cause: Cause) {
        let (key, mut state) = (key(message), self.lock());
        if state.causes.contains_key(&key) {
            return;
        }
        if state.order.len() >= MOST
            && let Some(oldest) = state.order.pop_front()
        {
            state.causes.remove(&oldest);
        }
        state.order.push_back(key);
        state.causes.insert(key, cause);
    }

    pub(super) fn of(&self, message: &DeliveryInfo) -> Option<Cause> {
        self.lock().causes.get(&key(message)).cloned()
    }

    pub(super) fn forget(&self, message: &DeliveryInfo) {
        let (key, mut state) = (key(message), self.lock());
        if state.causes.remove(&key).is_some() {
            state.order.retain(|other| *other != key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(message: &DeliveryInfo) -> Key {
    (message.sequence(), message.stored())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::delivered::Consumer;
    use super::*;

    fn message(sequence: u64) -> DeliveryInfo {
        let consumer = Consumer { stream: "S".to_owned(), name: "c".to_owned() };
        DeliveryInfo::new(Arc::new(consumer), sequence, 1, SystemTime::UNIX_EPOCH, 0)
    }

    fn cause(text: &str) -> Cause {
        Cause { text: text.to_owned(), deliveries: 3 }
    }

    #[test]
    fn the_first_cause_stays_and_the_oldest_message_is_forgotten() {
        let causes = Causes::default();
        causes.remember(&message(1), cause("first"));
        causes.remember(&message(1), cause("second"));
        assert_eq!(causes.of(&message(1)), Some(cause("first")));
        causes.forget(&message(1));
        assert_eq!(causes.of(&message(1)), None);
        for sequence in 1..=MOST as u64 + 1 {
            causes.remember(&message(sequence), cause("full"));
        }
        assert_eq!(causes.of(&message(1)), None);
        assert!((2..=MOST as u64 + 1).all(|sequence| causes.of(&message(sequence)).is_some()));
        let state = causes.lock();
        assert_eq!((state.causes.len(), state.order.len()), (MOST, MOST));
    }
}

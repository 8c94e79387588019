//! The locks of one store: who holds one, who waits, and the end.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use futures::future::join_all;
use tokio::time::Instant;

use super::Held;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::slot::Place;

/// Those of all stores that ever had a lock, for the shutdown.
static ALL: LazyLock<Mutex<Vec<Weak<Locks>>>> = LazyLock::new(Mutex::default);

/// The turn to wait for a lock: of those in one process one waits, in the order they came.
pub(in crate::kv) type Turn = Arc<tokio::sync::Mutex<()>>;

/// The locks of one store.
#[derive(Default)]
pub(crate) struct Locks(Mutex<State>);

#[derive(Default)]
struct State {
    held: Vec<Weak<Held>>,
    turns: HashMap<Place, Weak<tokio::sync::Mutex<()>>>,
    known: bool,
    closed: bool,
}

impl Locks {
    /// The turn to wait for a lock.
    pub(in crate::kv) fn turn(&self, lock: Place) -> Turn {
        let mut state = self.lock();
        if let Some(turn) = state.turns.get(&lock).and_then(Weak::upgrade) {
            return turn;
        }
        state.turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Turn::default();
        state.turns.insert(lock, Arc::downgrade(&turn));
        turn
    }

    /// Refuses when the locks are given back for good.
    pub(in crate::kv) fn check_open(&self) -> Result<()> {
        if self.lock().closed {
            return Err(Error::new(
                ErrorKind::Closed,
                "the connector is draining and has given its locks back",
            ));
        }
        Ok(())
    }

    /// Remembers a lock that is held; false when the locks are given back for good.
    pub(in crate::kv) fn add(self: &Arc<Self>, held: &Arc<Held>) -> bool {
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        state.held.retain(|held| held.strong_count() > 0);
        state.held.push(Arc::downgrade(held));
        let first = !std::mem::replace(&mut state.known, true);
        drop(state);
        if first {
            let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|locks| locks.strong_count() > 0);
            all.push(Arc::downgrade(self));
        }
        true
    }

    /// Gives all locks back, for good.
    pub(crate) async fn release_all(&self, deadline: Instant) {
        let held: Vec<_> = {
            let mut state = self.lock();
            state.closed = true;
            state.held.drain(..).filter_map(|held| held.upgrade()).collect()
        };
        for released in join_all(held.iter().map(|held| held.release(deadline))).await {
            if let Err(error) = released {
                tracing::warn!(%error, "a lock was not given back by the end");
            }
        }
    }

    /// Those of every store.
    pub(crate) fn all() -> Vec<Arc<Locks>> {
        let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

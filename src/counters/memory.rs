//! Counters of one process, for tests and first steps.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::add::own_value;
use crate::error::{Error, ErrorKind, Result};

/// All stores of a connector in process. Clones are the same ones.
#[derive(Clone, Default)]
pub(crate) struct Counts(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    stores: HashMap<String, BTreeMap<String, i128>>,
    closed: bool,
}

impl Counts {
    /// Ends it: what it held is gone, and later calls fail with `Closed`.
    pub(crate) fn close(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State { closed: true, ..State::default() };
    }

    pub(super) fn add(&self, store: &str, key: &str, n: i128) -> Result<i64> {
        let mut state = self.open()?;
        let counters = state.stores.entry(store.to_owned()).or_default();
        let value = counters.entry(key.to_owned()).or_default();
        *value = value.saturating_add(n);
        own_value(*value)
    }

    pub(super) fn get(&self, store: &str, key: &str) -> Result<Option<i128>> {
        let state = self.open()?;
        Ok(state.stores.get(store).and_then(|counters| counters.get(key)).copied())
    }

    pub(super) fn keys(&self, store: &str, under: &str) -> Result<Vec<String>> {
        let state = self.open()?;
        let keys = state.stores.get(store).into_iter().flat_map(BTreeMap::keys);
        Ok(keys.filter(|key| key.starts_with(under)).cloned().collect())
    }

    pub(super) fn reset(&self, store: &str, key: &str) -> Result<bool> {
        let mut state = self.open()?;
        Ok(state.stores.get_mut(store).is_some_and(|counters| counters.remove(key).is_some()))
    }

    pub(super) fn reset_all(&self, store: &str, under: &str) -> Result<bool> {
        let mut state = self.open()?;
        let Some(counters) = state.stores.get_mut(store) else { return Ok(false) };
        let before = counters.len();
        counters.retain(|key, _| !key.starts_with(under));
        Ok(counters.len() < before)
    }

    pub(super) fn delete(&self, store: &str) -> Result<bool> {
        Ok(self.open()?.stores.remove(store).is_some())
    }

    fn open(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Err(Error::new(ErrorKind::Closed, "the connector is drained and closed"));
        }
        Ok(state)
    }
}

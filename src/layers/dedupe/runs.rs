//! The messages that a layer and its clones are handling now, with their claims.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::kv::{Claim, SharedClaim};

#[derive(Clone, Default)]
pub(super) struct Runs(Arc<Mutex<HashMap<String, SharedClaim>>>);

/// One message being handled. Dropped, its claim is given back unless it was marked.
pub(super) struct Run {
    runs: Runs,
    key: String,
    claim: SharedClaim,
}

impl Runs {
    pub(super) fn begin(&self, key: String, claim: Claim) -> Run {
        let claim = SharedClaim::new(claim);
        self.lock().insert(key.clone(), claim.clone());
        Run { runs: self.clone(), key, claim }
    }

    /// The claim of what is handled under `key`.
    pub(super) fn claim(&self, key: &str) -> Option<SharedClaim> {
        self.lock().get(key).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, SharedClaim>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Run {
    pub(super) fn claim(&self) -> &SharedClaim {
        &self.claim
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let mut runs = self.runs.lock();
        // A claim that was lost may have been taken anew in this process.
        if runs.get(&self.key).is_some_and(|claim| claim.is(&self.claim)) {
            runs.remove(&self.key);
        }
        drop(runs);
        drop(self.claim.try_take());
    }
}

//! What became of the responses that were to be kept.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::error::Error;

/// The counters of a method.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// There is something to count.
    keeps: bool,
    stored: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    pending: AtomicU64,
    last_error: Mutex<Option<String>>,
}

/// A write that is under way, or waits.
#[derive(Debug)]
pub(super) struct Pending<'a>(&'a Counts);

impl Counts {
    pub(crate) fn of(keeps: bool) -> Self {
        Counts { keeps, ..Counts::default() }
    }

    pub(super) fn keeps(&self) -> bool {
        self.keeps
    }

    pub(super) fn begin(&self) -> Pending<'_> {
        self.pending.fetch_add(1, Ordering::Relaxed);
        Pending(self)
    }

    pub(super) fn stored(&self) {
        self.stored.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, error: &Error) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(error.to_string());
    }

    /// Not even tried, because too many others wait.
    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// As a method's statistics tell them: `failed` counts all that were not kept, `refused` those
    /// of them that were not tried.
    pub(super) fn to_json(&self) -> Value {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        json!({
            "stored": count(&self.stored),
            "failed": count(&self.failed),
            "refused": count(&self.refused),
            "pending": count(&self.pending),
            "last_error": last.as_deref().unwrap_or_default(),
        })
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

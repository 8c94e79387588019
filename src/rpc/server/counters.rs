//! What an endpoint counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::rpc::RpcError;

/// The counts of one endpoint since it started.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    errors: AtomicU64,
    nanos: AtomicU64,
    last_error: Mutex<String>,
    /// Calls refused because the endpoint was full.
    pub(crate) refused: AtomicU64,
    /// Calls that ran out of time.
    pub(crate) timeouts: AtomicU64,
    /// Handlers that panicked.
    pub(crate) panics: AtomicU64,
    /// Answers that could not be sent.
    pub(crate) unanswered: AtomicU64,
    /// Streams that ended, well or not.
    pub(crate) streams: AtomicU64,
}

/// The counts at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) time: Duration,
    pub(crate) last_error: String,
    pub(crate) data: Value,
}

impl Counters {
    /// A call has ended.
    pub(crate) fn ended(&self, took: Duration) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// It ended, or its answer went, with an error.
    pub(crate) fn failed(&self, error: &RpcError) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        // Whoever asks for statistics is told what a caller is told, and no more of it than fits.
        let text: String = error.message().chars().take(1_000).collect();
        let last = format!("{}:{text}", error.code());
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = last;
    }

    /// One more of these.
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            requests: get(&self.requests),
            errors: get(&self.errors),
            time: Duration::from_nanos(get(&self.nanos)),
            last_error: self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            data: json!({
                "refused": get(&self.refused),
                "timeouts": get(&self.timeouts),
                "panics": get(&self.panics),
                "unanswered": get(&self.unanswered),
                "streams": get(&self.streams),
            }),
        }
    }
}

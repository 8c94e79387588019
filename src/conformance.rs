//! The driver suites (feature `conformance`): what every driver must do, as plain async functions
//! that any driver's tests can call. This module is outside semver.
//!
//! Each function panics with a message that names the driver, the part and the step that failed.
//! Every wait has a deadline, and every run uses names of its own, so that suites may run side by
//! side on one back end. They need a Tokio runtime with time enabled.

pub mod kv;
pub mod objects;
pub mod pubsub;

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{ErrorKind, Result};

/// A name that no run before had.
fn unique(what: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("conformance_{what}_{}_{now}_{count}", std::process::id())
}

#[track_caller]
fn ok<T>(step: &str, result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{step}: {error}"),
    }
}

#[track_caller]
fn same<T: PartialEq + Debug>(step: &str, found: Result<T>, expected: &T) {
    let found = ok(step, found);
    assert!(found == *expected, "{step}: found {found:?}, expected {expected:?}");
}

#[track_caller]
fn refused<T>(step: &str, kind: ErrorKind, result: Result<T>) {
    match result {
        Err(error) if error.kind() == kind => {}
        Err(error) => panic!("{step}: found {error:?}, expected an error of kind {kind:?}"),
        Ok(_) => panic!("{step}: it was done, expected an error of kind {kind:?}"),
    }
}

/// What was done, or `None` where the driver refuses it as `Unsupported`, as it may.
#[track_caller]
fn supported<T>(step: &str, result: Result<T>) -> Option<T> {
    match result {
        Err(error) if error.kind() == ErrorKind::Unsupported => None,
        result => Some(ok(step, result)),
    }
}

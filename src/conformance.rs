//! The driver suites (feature `conformance`): what every driver must do, as plain async functions
//! that any driver's tests can call. This module is outside semver.
//!
//! Each function panics with a message that names the driver, the part and the step that failed.
//! Every wait has a deadline, and every run uses names of its own, so that suites may run side by
//! side on one back end. They need a Tokio runtime with time enabled.

pub mod kv;
pub mod pubsub;

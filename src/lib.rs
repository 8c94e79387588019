//! One settings-driven NATS connection for Rust services.

mod error;
pub mod pubsub;

pub use error::{BoxError, Error, ErrorKind, Result};

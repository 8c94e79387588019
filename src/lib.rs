//! One settings-driven NATS connection for Rust services.

mod error;

pub use error::{BoxError, Error, ErrorKind, Result};

//! One settings-driven NATS connection for Rust services.

mod error;
pub mod pubsub;
pub mod serializer;

pub use error::{BoxError, Error, ErrorKind, Result};
pub use serializer::Serializer;

//! Services made of traits.
pub use nats_connector_macros::{key, service};

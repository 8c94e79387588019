//! Streams: what keeps published messages until they are handled, or for as long as they are wanted.
//!
//! A [`StreamConfig`] says what a stream keeps.

mod config;
mod status;

pub use config::{Discard, Retention, StreamConfig};
pub use status::StreamStatus;

pub use crate::kv::Storage;

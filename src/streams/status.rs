//! A stream as it is.

use std::time::SystemTime;

use super::StreamConfig;

/// A stream as it was at the moment of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamStatus {
    /// Its name, its full subjects and its options, all of those that the back end tells.
    pub config: StreamConfig,
    /// How many messages it holds.
    pub messages: u64,
    /// The size of what it holds.
    pub bytes: u64,
    /// The sequence of its first message; 0 before there was one.
    pub first_sequence: u64,
    /// The sequence of its last message; 0 before there was one.
    pub last_sequence: u64,
    /// How many consumers it has.
    pub consumers: usize,
    /// When it was made, where the back end knows: another time is another stream.
    pub created: Option<SystemTime>,
}

impl StreamStatus {
    /// An empty stream, as drivers begin to tell one.
    #[must_use]
    pub const fn new(config: StreamConfig) -> Self {
        StreamStatus {
            config,
            messages: 0,
            bytes: 0,
            first_sequence: 0,
            last_sequence: 0,
            consumers: 0,
            created: None,
        }
    }
}

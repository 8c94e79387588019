//! Publish and subscribe: the portable type and the facade over the default driver.

pub mod driver;
mod headers;
mod memory;
mod subject;

pub use memory::MemoryDriver;

/// A stream's acknowledgement of one published message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ack {
    /// The stream that stored the message.
    pub stream: String,
    /// The message's sequence in that stream.
    pub sequence: u64,
    /// The stream had a message with this message id already and stored nothing.
    pub duplicate: bool,
}

impl Ack {
    /// An acknowledgement, as drivers give it.
    #[must_use]
    pub fn new(stream: impl Into<String>, sequence: u64, duplicate: bool) -> Self {
        Ack { stream: stream.into(), sequence, duplicate }
    }
}

/// Makes `driver` known under its name.
pub fn add_driver() {}

//! One settings-driven NATS connection for Rust services.

mod call;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
pub mod kv;
pub mod pubsub;
mod registry;
pub mod serializer;
mod settings;

pub use call::Call;
pub use error::{BoxError, Error, ErrorKind, Result};
pub use serializer::Serializer;
pub use settings::{
    Auth, Format, Key, KeyCodec, MaxReconnect, Secret, Settings, SettingsBuilder, Table, Tls,
    WhenDisconnected,
};

//! One settings-driven NATS connection for Rust services.

mod error;
pub mod pubsub;
pub mod serializer;
mod settings;

pub use error::{BoxError, Error, ErrorKind, Result};
pub use serializer::Serializer;
pub use settings::{
    Auth, Key, KeyCodec, MaxReconnect, Secret, Settings, SettingsBuilder, Tls, WhenDisconnected,
};

//! One settings-driven NATS connection for Rust services.

mod call;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod connector;
mod deadline;
mod error;
pub mod kv;
pub mod pubsub;
mod registry;
pub mod serializer;
mod settings;
pub mod shutdown;

pub use call::Call;
pub use connector::{Connector, register, register_with};
pub use error::{BoxError, Error, ErrorKind, Result};
pub use serializer::Serializer;
pub use settings::{
    Auth, Format, Key, KeyCodec, MaxReconnect, Secret, Settings, SettingsBuilder, Table, Tls,
    WhenDisconnected,
};

//! Services that answer calls, and the clients that make them: the NATS micro protocol (ADR-32),
//! wire-compatible with protoc-gen-nats-micro, with responses that persist themselves.
//!
//! A [`Method`] describes a call for both sides: its name, how its messages are encoded, its time
//! limit, and where its responses are kept. A [`ServiceConfig`] names the service that it belongs
//! to.

mod codec;
mod config;
mod error;
mod key;
mod message;
mod method;
mod persist;
#[cfg(feature = "protobuf")]
pub mod protobuf;

pub use codec::{Codec, Json, MessagePack};
pub use config::ServiceConfig;
pub use error::{RpcError, code};
pub use key::{KeyPart, KeyText};
pub use message::{Request, Response};
pub use method::Method;
pub use persist::{Persist, Policy, Receipt, StoreStatus};

/// The result of a call, and of what serves one.
pub type Result<T, E = RpcError> = std::result::Result<T, E>;

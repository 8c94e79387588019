//! How the messages of a call become bytes. Both sides must agree: no header tells.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::serializer::Serializer;

/// Turns messages of one type into bytes and back.
pub trait Codec<T>: Send + Sync + 'static {
    /// The bytes of a message.
    ///
    /// # Errors
    /// `Encode`.
    fn encode(&self, message: &T) -> Result<Bytes>;

    /// The message of these bytes.
    ///
    /// # Errors
    /// `Decode`.
    fn decode(&self, bytes: &Bytes) -> Result<T>;
}

/// JSON through serde.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

/// MessagePack with named fields, through serde.
#[derive(Debug, Clone, Copy, Default)]
pub struct MessagePack;

impl<T: Serialize + DeserializeOwned> Codec<T> for Json {
    fn encode(&self, message: &T) -> Result<Bytes> {
        Serializer::json().encode(message)
    }

    fn decode(&self, bytes: &Bytes) -> Result<T> {
        Serializer::json().decode(bytes)
    }
}

impl<T: Serialize + DeserializeOwned> Codec<T> for MessagePack {
    fn encode(&self, message: &T) -> Result<Bytes> {
        Serializer::message_pack().encode(message)
    }

    fn decode(&self, bytes: &Bytes) -> Result<T> {
        Serializer::message_pack().decode(bytes)
    }
}

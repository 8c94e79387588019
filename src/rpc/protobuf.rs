//! Protobuf messages in calls, binary and as JSON, and what generated code stands on.
//!
//! The services of .proto files are made by `nats-connector-build` in a build script, without
//! protoc:
//!
//! ```rs
//! // build.rs
//! fn main() -> Result<(), nats_connector_build::Error> {
//!     nats_connector_build::Builder::new().includes(["proto"]).compile(&["order/v1/service.proto"])
//! }
//! ```
//!
//! and taken into the crate by [`include_proto!`](crate::include_proto).

use std::fmt;
use std::sync::OnceLock;

use bytes::Bytes;
use prost::Message;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor};

use super::Codec;
use crate::error::{Error, ErrorKind, Result};

pub use {prost, prost_types};

/// Takes in what `nats-connector-build` made: all packages as modules, or the one that is named.
///
/// ```rs
/// // All, each in its module: proto::order::v1::OrderServiceClient.
/// pub mod proto {
///     nats_connector::include_proto!();
/// }
///
/// // One, where the modules of others are no concern.
/// pub mod orders {
///     nats_connector::include_proto!("order.v1");
/// }
/// ```
///
/// A package whose messages have fields of another package's types needs the first form: its code
/// finds the other one by the way between their modules.
#[macro_export]
macro_rules! include_proto {
    () => {
        include!(concat!(env!("OUT_DIR"), "/nats_connector_protos.rs"));
    };
    ($package:literal) => {
        include!(concat!(env!("OUT_DIR"), "/", $package, ".rs"));
    };
}

/// Messages in protobuf's binary form.
#[derive(Debug, Clone, Copy, Default)]
pub struct Protobuf;

impl<T: Message + Default + 'static> Codec<T> for Protobuf {
    fn encode(&self, message: &T) -> Result<Bytes> {
        Ok(message.encode_to_vec().into())
    }

    fn decode(&self, bytes: &Bytes) -> Result<T> {
        T::decode(bytes.clone()).map_err(|error| {
            Error::new(ErrorKind::Decode, format!("these bytes are no such message: {error}"))
                .with("type", std::any::type_name::<T>())
                .with_source(error)
        })
    }
}

/// The compiled .proto files of a build, which their JSON form is made by.
pub struct Descriptors {
    bytes: &'static [u8],
    pool: OnceLock<std::result::Result<DescriptorPool, String>>,
}

impl Descriptors {
    /// The files of an encoded `google.protobuf.FileDescriptorSet`. It is read when first needed.
    #[must_use]
    pub const fn new(bytes: &'static [u8]) -> Self {
        Descriptors { bytes, pool: OnceLock::new() }
    }

    /// The files.
    ///
    /// # Errors
    /// `Decode`: the bytes are no such set.
    pub fn pool(&self) -> Result<&DescriptorPool> {
        let read = || DescriptorPool::decode(self.bytes).map_err(|error| error.to_string());
        self.pool.get_or_init(read).as_ref().map_err(|problem| {
            Error::new(ErrorKind::Decode, format!("the descriptors cannot be read: {problem}"))
        })
    }
}

impl fmt::Debug for Descriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Descriptors").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// Messages in JSON as proto3 defines it: names in lowerCamelCase, 64-bit integers as strings, enums
/// by name, bytes in base64, the well-known types in forms of their own, defaults left out.
///
/// It reads names in both spellings, and refuses fields that the message does not have.
#[derive(Debug)]
pub struct ProtobufJson {
    descriptors: &'static Descriptors,
    message: &'static str,
    descriptor: OnceLock<MessageDescriptor>,
}

impl ProtobufJson {
    /// The codec of the message `message`, its full name in these files.
    #[must_use]
    pub const fn new(descriptors: &'static Descriptors, message: &'static str) -> Self {
        ProtobufJson { descriptors, message, descriptor: OnceLock::new() }
    }

    fn descriptor(&self) -> Result<MessageDescriptor> {
        if let Some(descriptor) = self.descriptor.get() {
            return Ok(descriptor.clone());
        }
        let found =
            self.descriptors.pool()?.get_message_by_name(self.message).ok_or_else(|| {
                Error::new(ErrorKind::InvalidInput, "the descriptors have no such message")
                    .with("message", self.message)
            })?;
        Ok(self.descriptor.get_or_init(|| found).clone())
    }

    /// An error with what is wrong in its text: whoever called gets no more than that.
    fn error(
        &self,
        kind: ErrorKind,
        problem: impl std::error::Error + Send + Sync + 'static,
    ) -> Error {
        let what = match kind {
            ErrorKind::Encode => "has no JSON form",
            _ => "cannot be read from this JSON",
        };
        Error::new(kind, format!("the message {what}: {problem}"))
            .with("message", self.message)
            .with_source(problem)
    }
}

impl<T: Message + Default + 'static> Codec<T> for ProtobufJson {
    fn encode(&self, message: &T) -> Result<Bytes> {
        let mut dynamic = DynamicMessage::new(self.descriptor()?);
        let bytes = message.encode_to_vec();
        dynamic.merge(bytes.as_slice()).map_err(|it| self.error(ErrorKind::Encode, it))?;
        let json = serde_json::to_vec(&dynamic).map_err(|it| self.error(ErrorKind::Encode, it))?;
        Ok(json.into())
    }

    fn decode(&self, bytes: &Bytes) -> Result<T> {
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let options = DeserializeOptions::new();
        let dynamic =
            DynamicMessage::deserialize_with_options(self.descriptor()?, &mut json, &options)
                .and_then(|dynamic| json.end().map(|()| dynamic))
                .map_err(|it| self.error(ErrorKind::Decode, it))?;
        let bytes = dynamic.encode_to_vec();
        T::decode(bytes.as_slice()).map_err(|it| self.error(ErrorKind::Decode, it))
    }
}

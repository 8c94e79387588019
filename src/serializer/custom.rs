//! Formats of the user's own: an object-safe trait over erased serde.

use serde::de::DeserializeOwned;
use serde::{Deserializer, Serialize, Serializer};

use crate::error::BoxError;

/// A format of your own, for [`Serializer::custom`](super::Serializer::custom).
///
/// ```
/// use nats_connector::serializer::{ErasedTarget, ErasedValue, Format};
/// use nats_connector::{BoxError, Serializer};
///
/// struct PrettyJson;
///
/// impl Format for PrettyJson {
///     fn encode(&self, value: ErasedValue<'_>) -> Result<Vec<u8>, BoxError> {
///         Ok(serde_json::to_vec_pretty(&value)?)
///     }
///
///     fn decode(&self, bytes: &[u8], target: ErasedTarget<'_>) -> Result<(), BoxError> {
///         target.read(&mut serde_json::Deserializer::from_slice(bytes))
///     }
/// }
///
/// # fn main() -> nats_connector::Result<()> {
/// let pretty = Serializer::custom("application/json", PrettyJson)?;
/// assert_eq!(pretty.encode(&[1])?, "[\n  1\n]");
/// assert_eq!(pretty.decode::<Vec<u8>>(b"[1]")?, [1]);
/// # Ok(())
/// # }
/// ```
pub trait Format: Send + Sync + 'static {
    /// The bytes of `value`, which implements [`Serialize`].
    ///
    /// # Errors
    ///
    /// Whatever the format refuses; it becomes the source of an error of kind
    /// [`Encode`](crate::ErrorKind::Encode).
    fn encode(&self, value: ErasedValue<'_>) -> Result<Vec<u8>, BoxError>;

    /// Reads `bytes` into `target`, by [`ErasedTarget::read`].
    ///
    /// # Errors
    ///
    /// Whatever is wrong with the bytes. The first words of the error's text are shown in an error
    /// of kind [`Decode`](crate::ErrorKind::Decode), so leave the payload out of them.
    fn decode(&self, bytes: &[u8], target: ErasedTarget<'_>) -> Result<(), BoxError>;
}

/// A value to encode, its type erased. Give it to any function that takes [`Serialize`].
#[derive(Clone, Copy)]
pub struct ErasedValue<'a>(&'a dyn erased_serde::Serialize);

impl<'a> ErasedValue<'a> {
    pub(super) fn new(value: &'a dyn erased_serde::Serialize) -> Self {
        ErasedValue(value)
    }
}

impl Serialize for ErasedValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl std::fmt::Debug for ErasedValue<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ErasedValue")
    }
}

type Read<'a> = dyn FnMut(&mut dyn erased_serde::Deserializer<'_>) -> Result<(), BoxError> + 'a;

/// Where a decoded value goes, its type erased.
pub struct ErasedTarget<'a>(&'a mut Read<'a>);

impl ErasedTarget<'_> {
    /// Reads the value with any serde deserializer, often `&mut SomeDeserializer`.
    ///
    /// # Errors
    ///
    /// What the deserializer, or the type that is read, does not accept.
    pub fn read<'de, D: Deserializer<'de>>(self, deserializer: D) -> Result<(), BoxError> {
        (self.0)(&mut <dyn erased_serde::Deserializer<'_>>::erase(deserializer))
    }
}

impl std::fmt::Debug for ErasedTarget<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ErasedTarget")
    }
}

pub(super) fn decode<T: DeserializeOwned>(
    format: &dyn Format,
    bytes: &[u8],
) -> Result<T, BoxError> {
    let mut value = None;
    let mut read = |deserializer: &mut dyn erased_serde::Deserializer<'_>| {
        value = Some(erased_serde::deserialize(deserializer)?);
        Ok(())
    };
    format.decode(bytes, ErasedTarget(&mut read))?;
    value.ok_or_else(|| "the format returned without reading a value".into())
}

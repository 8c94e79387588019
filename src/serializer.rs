//! How values become bytes: JSON (the default), MessagePack, text, or a format of your own.

mod custom;
mod text;

use std::any::type_name;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

pub use custom::{ErasedTarget, ErasedValue, Format};

use crate::error::{Error, ErrorKind, Result};

/// Turns values into payloads and back. Cheap to clone.
///
/// What another serializer than JSON writes carries its [`content_type`](Self::content_type) in a
/// `Content-Type` header, and reading obeys the header that it finds, so readers and writers with
/// different serializers understand each other.
///
/// ```
/// use nats_connector::Serializer;
///
/// # fn main() -> nats_connector::Result<()> {
/// let packed = Serializer::message_pack().encode(&("order", 7))?;
/// let back: (String, u32) = Serializer::message_pack().decode(&packed)?;
/// assert_eq!(back, ("order".to_owned(), 7));
///
/// assert_eq!(Serializer::text().encode("plain")?, "plain");
/// assert_eq!(Serializer::default().encode("plain")?, "\"plain\"");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Serializer(Kind);

/// The built-in formats are called directly: going through erased serde costs JSON about twice the
/// time to encode and three times to decode.
#[derive(Clone, Default)]
enum Kind {
    #[default]
    Json,
    MessagePack,
    Text,
    Custom(Arc<Custom>),
}

struct Custom {
    content_type: String,
    format: Box<dyn Format>,
}

static JSON: Serializer = Serializer(Kind::Json);
static MESSAGE_PACK: Serializer = Serializer(Kind::MessagePack);
static TEXT: Serializer = Serializer(Kind::Text);

/// The header that names the serializer of a payload, where it is not the default one.
pub(crate) const CONTENT_TYPE: &str = "Content-Type";

/// How much of a foreign text (a header, a decoder's words) an error repeats, in characters.
const QUOTE_LIMIT: usize = 120;

impl Serializer {
    /// JSON, `application/json`: the default.
    #[must_use]
    pub const fn json() -> Self {
        Serializer(Kind::Json)
    }

    /// MessagePack with named fields, `application/msgpack`.
    #[must_use]
    pub const fn message_pack() -> Self {
        Serializer(Kind::MessagePack)
    }

    /// Raw UTF-8 text, `text/plain; charset=utf-8`: what other tools write and read by hand.
    ///
    /// Takes what has one obvious text: strings, characters, numbers, booleans, newtypes of those
    /// and enum variants without fields. Anything else is refused with [`ErrorKind::Encode`].
    #[must_use]
    pub const fn text() -> Self {
        Serializer(Kind::Text)
    }

    /// A format of your own, told apart by its media type, for example `application/yaml`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when `content_type` cannot be a `Content-Type` header: it needs
    /// the form `type/subtype`, in visible ASCII.
    pub fn custom(content_type: impl Into<String>, format: impl Format) -> Result<Self> {
        let content_type = content_type.into();
        let (kind, subtype) = media_type(&content_type).split_once('/').unwrap_or_default();
        let printable = content_type.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        if kind.is_empty() || subtype.is_empty() || !printable {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "not a media type; give one such as `application/yaml`",
            )
            .with("content_type", content_type));
        }
        Ok(Serializer(Kind::Custom(Arc::new(Custom { content_type, format: Box::new(format) }))))
    }

    /// The built-in serializer of a name, as the setting `NATS.SERIALIZER` gives it: `json`,
    /// `messagepack` or `text`, in any case.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for any other name.
    pub fn by_name(name: &str) -> Result<Self> {
        let known = [("json", &JSON), ("messagepack", &MESSAGE_PACK), ("text", &TEXT)];
        known
            .into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, serializer)| serializer.clone())
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidInput,
                    "no such serializer; use json, messagepack or text",
                )
                .with("serializer", clip(name))
            })
    }

    /// The media type of what this serializer writes.
    #[must_use]
    pub fn content_type(&self) -> &str {
        match &self.0 {
            Kind::Json => "application/json",
            Kind::MessagePack => "application/msgpack",
            Kind::Text => "text/plain; charset=utf-8",
            Kind::Custom(custom) => &custom.content_type,
        }
    }

    /// Whether this is the default (JSON), which writes no `Content-Type` header.
    #[must_use]
    pub fn is_default(&self) -> bool {
        matches!(self.0, Kind::Json)
    }

    /// The serializer to read a message with: the one of its `Content-Type` header, or this one
    /// when there is none.
    ///
    /// Media types compare without case and parameters. `application/x-msgpack` and
    /// `application/vnd.msgpack` are MessagePack, and a `+json` suffix (RFC 6839) is JSON.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`] for a media type that neither this serializer nor a built-in one has.
    pub fn for_content_type(&self, header: Option<&str>) -> Result<&Self> {
        let Some(header) = header else { return Ok(self) };
        let found = media_type(header);
        let is = |known: &str| found.eq_ignore_ascii_case(known);
        if is(media_type(self.content_type())) {
            return Ok(self);
        }
        let suffix = found.rsplit_once('+').map_or("", |(_, suffix)| suffix);
        if is("application/json") || suffix.eq_ignore_ascii_case("json") {
            return Ok(&JSON);
        }
        if ["application/msgpack", "application/x-msgpack", "application/vnd.msgpack"]
            .into_iter()
            .any(is)
        {
            return Ok(&MESSAGE_PACK);
        }
        if is("text/plain") {
            return Ok(&TEXT);
        }
        Err(Error::new(
            ErrorKind::Decode,
            "no serializer for this Content-Type; read the raw payload, or use a handle with a \
             custom serializer of this type",
        )
        .with("content_type", clip(header)))
    }

    /// The bytes of `value`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Encode`] when the format cannot hold the value.
    pub fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Bytes> {
        let encoded = match &self.0 {
            Kind::Json => serde_json::to_vec(value).map_err(|e| self.refuse::<T>(e)),
            Kind::MessagePack => rmp_serde::to_vec_named(value).map_err(|e| self.refuse::<T>(e)),
            Kind::Text => text::encode(value).map_err(|e| self.refuse::<T>(e)),
            Kind::Custom(custom) => {
                custom.format.encode(ErasedValue::new(&value)).map_err(|e| self.refuse::<T>(e))
            }
        };
        encoded.map(Bytes::from)
    }

    /// The value that `bytes` hold.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`] when they hold no `T`; the message names the place and the type, and
    /// leaves out the values it found there.
    pub fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T> {
        match &self.0 {
            Kind::Json => serde_json::from_slice(bytes).map_err(|e| self.unreadable::<T>(&e)),
            Kind::MessagePack => message_pack(bytes).map_err(|e| self.unreadable::<T>(&e)),
            Kind::Text => text::decode(bytes).map_err(|e| self.unreadable::<T>(&e)),
            Kind::Custom(custom) => {
                custom::decode(&*custom.format, bytes).map_err(|e| self.unreadable::<T>(&e))
            }
        }
    }

    fn refuse<T: ?Sized>(&self, source: impl Into<crate::BoxError>) -> Error {
        Error::new(
            ErrorKind::Encode,
            format!("cannot encode as {}", media_type(self.content_type())),
        )
        .with("type", type_name::<T>())
        .with_source(source)
    }

    /// The cause is told in words of ours and not attached: serde's words quote the payload.
    fn unreadable<T>(&self, cause: &dyn fmt::Display) -> Error {
        let format = media_type(self.content_type());
        let cause = without_values(&cause.to_string());
        Error::new(ErrorKind::Decode, format!("cannot decode as {format}: {cause}"))
            .with("type", type_name::<T>())
    }
}

impl fmt::Debug for Serializer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Serializer").field(&self.content_type()).finish()
    }
}

/// `type/subtype` without the parameters.
fn media_type(content_type: &str) -> &str {
    content_type.split_once(';').map_or(content_type, |(media_type, _)| media_type).trim()
}

fn message_pack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, rmp_serde::decode::Error> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    let value = T::deserialize(&mut deserializer)?;
    // rmp-serde stops after the first value, so the `{` of a JSON text would pass for the number
    // 123: only the end of the input may follow.
    match serde::Deserialize::deserialize(&mut deserializer) {
        Ok(IgnoredAny) => Err(serde::de::Error::custom("trailing bytes")),
        Err(_) => Ok(value),
    }
}

/// A decoder's words without the payload's: what stands between `invalid type:` (and serde's other
/// openings) and what was expected comes from the sender and may be a secret.
fn without_values(words: &str) -> String {
    const QUOTING: [&str; 4] =
        ["invalid type", "invalid value", "unknown variant", "unknown field"];
    let opening = QUOTING
        .into_iter()
        .filter_map(|opening| words.find(opening).map(|at| at + opening.len()))
        .min();
    match opening {
        Some(start) => {
            let end = [", expected ", ", there are no "]
                .into_iter()
                .filter_map(|closing| words.rfind(closing))
                .max()
                .filter(|end| *end >= start);
            clip(&[&words[..start], end.map_or("", |end| &words[end..])].concat())
        }
        None => clip(words),
    }
}

fn clip(text: &str) -> String {
    match text.char_indices().nth(QUOTE_LIMIT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::error::BoxError;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Order {
        id: u64,
        note: Option<String>,
        tags: BTreeMap<String, i64>,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
    enum Side {
        Buy,
        Sell { at: u8 },
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Id(u32);

    /// JSON with a mark in front, so that it differs from the built-in one.
    struct Marked;

    impl Format for Marked {
        fn encode(&self, value: ErasedValue<'_>) -> Result<Vec<u8>, BoxError> {
            let mut bytes = b"#".to_vec();
            serde_json::to_writer(&mut bytes, &value)?;
            Ok(bytes)
        }

        fn decode(&self, bytes: &[u8], target: ErasedTarget<'_>) -> Result<(), BoxError> {
            let json = bytes.strip_prefix(b"#").ok_or("the mark is missing")?;
            target.read(&mut serde_json::Deserializer::from_slice(json))
        }
    }

    fn marked() -> Serializer {
        Serializer::custom("application/x-marked; v=1", Marked).unwrap()
    }

    fn order() -> impl Strategy<Value = Order> {
        let tags = proptest::collection::btree_map(".*", any::<i64>(), 0..4);
        (any::<u64>(), proptest::option::of(".*"), tags).prop_map(|(id, note, tags)| Order {
            id,
            note,
            tags,
        })
    }

    fn text_round_trip<T>(value: &T) -> T
    where
        T: Serialize + DeserializeOwned,
    {
        Serializer::text().decode(&Serializer::text().encode(value).unwrap()).unwrap()
    }

    proptest! {
        #[test]
        fn structured_formats_round_trip(order in order()) {
            for serializer in [Serializer::json(), Serializer::message_pack(), marked()] {
                let bytes = serializer.encode(&order).unwrap();
                prop_assert_eq!(&serializer.decode::<Order>(&bytes).unwrap(), &order);
            }
        }

        #[test]
        fn text_is_the_string_itself(text in ".*") {
            let bytes = Serializer::text().encode(text.as_str()).unwrap();
            prop_assert_eq!(&bytes[..], text.as_bytes());
            prop_assert_eq!(Serializer::text().decode::<String>(&bytes).unwrap(), text);
        }

        #[test]
        fn text_numbers_round_trip(
            signed in any::<i128>(), unsigned in any::<u64>(), float in any::<f64>(),
            small in any::<f32>(), c in any::<char>(), yes in any::<bool>(),
        ) {
            prop_assert_eq!(text_round_trip(&signed), signed);
            prop_assert_eq!(text_round_trip(&unsigned), unsigned);
            prop_assert_eq!(text_round_trip(&float), float);
            prop_assert_eq!(text_round_trip(&small), small);
            prop_assert_eq!(text_round_trip(&c), c);
            prop_assert_eq!(text_round_trip(&yes), yes);
        }

        #[test]
        fn decoding_anything_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            for serializer in [Serializer::json(), Serializer::message_pack(), Serializer::text()] {
                for error in [
                    serializer.decode::<Order>(&bytes).err(),
                    serializer.decode::<u8>(&bytes).err(),
                ].into_iter().flatten() {
                    prop_assert_eq!(error.kind(), ErrorKind::Decode);
                }
            }
        }
    }

    #[test]
    fn text_takes_what_has_one_text_and_refuses_the_rest() {
        let text = Serializer::text();
        assert_eq!(text.encode(&Cow::Borrowed("cow")).unwrap(), "cow");
        assert_eq!(text.encode(&Id(7)).unwrap(), "7");
        assert_eq!(text.encode(&Side::Buy).unwrap(), "Buy");
        assert_eq!(text.decode::<Id>(b"7").unwrap(), Id(7));
        assert_eq!(text.decode::<Side>(b"Buy").unwrap(), Side::Buy);
        assert_eq!(text.decode::<serde_json::Value>(b"7").unwrap(), serde_json::json!("7"));

        let order = Order { id: 1, note: None, tags: BTreeMap::new() };
        for error in [
            text.encode(&order).unwrap_err(),
            text.encode(&Side::Sell { at: 1 }).unwrap_err(),
            text.encode(&[1, 2]).unwrap_err(),
            text.encode(&()).unwrap_err(),
            text.encode(&Some("x")).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Encode);
            assert!(error.to_string().contains("use JSON or MessagePack"), "{error}");
        }
        assert!(text.decode::<Order>(b"{}").is_err());
        assert!(text.decode::<Side>(b"Sell").is_err());
        assert!(text.decode::<u8>(b"256").is_err());
        assert!(text.decode::<String>(b"\xff").is_err());
    }

    #[test]
    fn message_pack_names_its_fields_and_refuses_trailing_bytes() {
        let pack = Serializer::message_pack();
        assert!(pack.encode(&Side::Sell { at: 3 }).unwrap().windows(2).any(|w| w == b"at"));
        assert_eq!(pack.decode::<u8>(b"{").unwrap(), b'{');
        assert_eq!(pack.decode::<u8>(b"{}").unwrap_err().kind(), ErrorKind::Decode);
    }

    #[test]
    fn decode_errors_say_where_without_the_values() {
        let secret = r#"{"id":"hunter2, expected ","note":null,"tags":{}}"#.as_bytes();
        for serializer in [Serializer::json(), marked()] {
            let bytes =
                if serializer.is_default() { secret.to_vec() } else { [b"#", secret].concat() };
            let error = serializer.decode::<Order>(&bytes).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.contains("invalid type, expected u64"), "{shown}");
            assert!(shown.contains("line 1 column"), "{shown}");
        }
        let error = Serializer::json().decode::<Order>(b"{}").unwrap_err();
        assert!(error.to_string().contains("missing field `id`"), "{error}");
        for serializer in [Serializer::json(), Serializer::message_pack()] {
            let bytes = serializer.encode("hunter2").unwrap();
            let error = serializer.decode::<Side>(&bytes).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
        let error = Serializer::text().decode::<u8>(b"hunter2").unwrap_err();
        assert!(error.to_string().contains("expected u8"), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        assert_eq!(clip(&"x".repeat(500)).len(), QUOTE_LIMIT + 3);
    }

    #[test]
    fn the_header_that_is_found_is_obeyed() {
        let pick = |own: &Serializer, header| {
            own.for_content_type(header).map(|found| found.content_type().to_owned())
        };
        let custom = marked();
        let text = Serializer::text();
        for (own, header, expected) in [
            (&text, None, "text/plain; charset=utf-8"),
            (&text, Some("application/json"), "application/json"),
            (&text, Some(" Application/JSON ; charset=utf-8"), "application/json"),
            (&text, Some("application/cloudevents+json"), "application/json"),
            (&text, Some("application/x-msgpack"), "application/msgpack"),
            (&text, Some("application/vnd.msgpack"), "application/msgpack"),
            (&custom, Some("text/plain"), "text/plain; charset=utf-8"),
            (&custom, Some("APPLICATION/X-MARKED"), "application/x-marked; v=1"),
        ] {
            assert_eq!(pick(own, header).unwrap(), expected, "{header:?}");
        }
        let error = text.for_content_type(Some("application/x-marked")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
        assert_eq!(error.context("content_type"), Some("application/x-marked"));
    }

    #[test]
    fn names_and_media_types_are_checked() {
        assert!(Serializer::by_name("JSON").unwrap().is_default());
        assert!(!Serializer::by_name("messagepack").unwrap().is_default());
        assert_eq!(
            format!("{:?}", Serializer::text()),
            "Serializer(\"text/plain; charset=utf-8\")"
        );
        let error = Serializer::by_name("xml").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        for bad in ["", "yaml", "/yaml", "application/", "a/b\r\nX: y", "a/é"] {
            let error = Serializer::custom(bad, Marked).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}");
        }
    }

    #[test]
    fn a_custom_format_that_reads_nothing_is_an_error() {
        struct Idle;
        impl Format for Idle {
            fn encode(&self, _value: ErasedValue<'_>) -> Result<Vec<u8>, BoxError> {
                Err("idle".into())
            }
            fn decode(&self, _bytes: &[u8], _target: ErasedTarget<'_>) -> Result<(), BoxError> {
                Ok(())
            }
        }
        let idle = Serializer::custom("application/x-idle", Idle).unwrap();
        assert_eq!(idle.encode(&1).unwrap_err().kind(), ErrorKind::Encode);
        assert_eq!(idle.decode::<u8>(b"1").unwrap_err().kind(), ErrorKind::Decode);
        assert!(
            marked().decode::<u8>(b"1").unwrap_err().to_string().contains("the mark is missing")
        );
    }
}

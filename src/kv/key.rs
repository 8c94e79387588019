//! Keys: what users write, and what a store holds for it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// The longest encoded key with its prefix, in bytes. Far below the 4,096 bytes of a protocol line,
/// above which a nats-server closes the connection.
pub const MAX_KEY_LEN: usize = 1024;

/// A key in its namespace, as a driver gets it: both parts as the user wrote them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<'a> {
    prefix: &'a str,
    name: &'a str,
}

impl<'a> Key<'a> {
    /// The key `name` under `prefix`, which is empty where there is none.
    #[must_use]
    pub const fn new(prefix: &'a str, name: &'a str) -> Self {
        Key { prefix, name }
    }

    /// The namespace; empty where there is none.
    #[must_use]
    pub const fn prefix(&self) -> &'a str {
        self.prefix
    }

    /// The key without its prefix.
    #[must_use]
    pub const fn name(&self) -> &'a str {
        self.name
    }
}

/// How keys are written in a NATS bucket, whose own keys are `[-/_=.A-Za-z0-9]+` with no empty token
/// between the dots.
///
/// Every codec gives each key a name of its own, and stored keys that it did not write keep theirs:
/// no two are ever taken for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum KeyCodec {
    /// Plain keys stay as they are; other bytes become `=XX`, in hexadecimal: `user:1` is stored as
    /// `user=3A1`. So does a dot that would make an empty token, and the `=` of a key that would
    /// read like an escaped one. The default.
    #[default]
    Escape,
    /// As `Escape`, with `:` and `.` swapped first: `user:1` is stored as `user.1`, so that servers
    /// can filter by the parts of colon keys.
    Path,
    /// As they are, also with `:`. For buckets of clients that wrote such keys; what a subject
    /// cannot hold (white space, empty tokens, the wildcards `*` and `>`) is refused.
    Raw,
}

impl KeyCodec {
    /// The codec's name in settings and bucket metadata.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            KeyCodec::Escape => "escape",
            KeyCodec::Path => "path",
            KeyCodec::Raw => "raw",
        }
    }

    /// Appends the stored form of `key` to `out`: prefix and name encoded each for itself and
    /// joined by `.`, so that the server can filter by the prefix.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for an empty key, or one that [`KeyCodec::Raw`] cannot send;
    /// [`ErrorKind::TooLarge`] when the stored form is longer than [`MAX_KEY_LEN`].
    pub fn encode(self, key: Key<'_>, out: &mut String) -> Result<()> {
        let start = out.len();
        if key.name.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "the key is empty"));
        }
        // Checked before the work: no encoding is shorter than the key.
        let mut length = key.prefix.len() + key.name.len();
        if length <= MAX_KEY_LEN {
            if !key.prefix.is_empty() {
                self.encode_part(key.prefix, out)?;
                out.push('.');
            }
            self.encode_part(key.name, out)?;
            length = out.len() - start;
        }
        if length > MAX_KEY_LEN {
            out.truncate(start);
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "the encoded key, prefix included, has at least {length} bytes; the limit is \
                     {MAX_KEY_LEN}"
                ),
            ));
        }
        Ok(())
    }

    fn encode_part(self, part: &str, out: &mut String) -> Result<()> {
        match self {
            KeyCodec::Escape => escape(part, out),
            KeyCodec::Path => escape(&swap_separators(part), out),
            KeyCodec::Raw if is_subject(part) => out.push_str(part),
            KeyCodec::Raw => {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    "this bucket keeps keys as they are (key codec `raw`), and a subject can hold \
                     no white space, empty token or wildcard",
                ));
            }
        }
        Ok(())
    }

    /// The name that `key` has in the whole bucket, its prefix part of it.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn whole_name(self, key: Key<'_>) -> Result<Cow<'_, str>> {
        if key.prefix.is_empty() {
            return Ok(Cow::Borrowed(key.name));
        }
        let mut stored = String::new();
        self.encode(key, &mut stored)?;
        Ok(Cow::Owned(self.decode(&stored).into_owned()))
    }

    /// The key that `stored` stands for: the one that encodes to it, or itself where this codec
    /// would not have written it.
    #[must_use]
    pub fn decode(self, stored: &str) -> Cow<'_, str> {
        match self {
            KeyCodec::Escape => unescape(stored),
            KeyCodec::Path => Cow::Owned(swap_separators(&unescape(stored))),
            KeyCodec::Raw => Cow::Borrowed(stored),
        }
    }
}

impl fmt::Display for KeyCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for KeyCodec {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        [KeyCodec::Escape, KeyCodec::Path, KeyCodec::Raw]
            .into_iter()
            .find(|codec| codec.as_str().eq_ignore_ascii_case(name))
            .ok_or_else(|| {
                Error::new(ErrorKind::InvalidInput, "no such key codec; use escape, path or raw")
                    .with("key_codec", name)
            })
    }
}

/// Appends `key` as it is stored: as it is where it can be, escaped where it must be.
fn escape(key: &str, out: &mut String) {
    if must_escape(key) { write_escaped(key, out) } else { out.push_str(key) }
}

/// The key whose stored form `stored` is.
fn unescape(stored: &str) -> Cow<'_, str> {
    if !stored.contains('=') {
        return Cow::Borrowed(stored);
    }
    match read_escaped(stored) {
        Some(key) if must_escape(&key) => Cow::Owned(key),
        _ => Cow::Borrowed(stored),
    }
}

/// Whether a key cannot be stored as it is: it is no NATS key, or it is the escaped form of a key
/// that itself must be escaped. Each turn peels off one layer of escapes.
fn must_escape(key: &str) -> bool {
    let mut layer = Cow::Borrowed(key);
    while is_nats_key(&layer) {
        match read_escaped(&layer) {
            Some(inner) => layer = Cow::Owned(inner),
            None => return false,
        }
    }
    true
}

fn is_nats_key(key: &str) -> bool {
    !has_empty_token(key) && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-/_=.".contains(&b))
}

fn has_empty_token(key: &str) -> bool {
    key.split('.').any(str::is_empty)
}

/// What a subject's tokens may hold, and no wildcard among them.
fn is_subject(part: &str) -> bool {
    !has_empty_token(part)
        && !part.bytes().any(|b| b.is_ascii_whitespace() || b.is_ascii_control())
        && !part.split('.').any(|token| token == "*" || token == ">")
}

fn write_escaped(key: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let bytes = key.as_bytes();
    let mut token_is_empty = true;
    for (i, &b) in bytes.iter().enumerate() {
        let stays = match b {
            b'.' => !token_is_empty && i + 1 < bytes.len(),
            b'=' => escaped_byte(bytes, i).is_none(),
            b'-' | b'/' | b'_' => true,
            _ => b.is_ascii_alphanumeric(),
        };
        token_is_empty = stays && b == b'.';
        if stays {
            out.push(char::from(b));
        } else {
            out.push('=');
            out.push(char::from(HEX[usize::from(b >> 4)]));
            out.push(char::from(HEX[usize::from(b & 15)]));
        }
    }
}

/// The key that [`write_escaped`] turns into `stored`, if there is one that differs from it.
fn read_escaped(stored: &str) -> Option<String> {
    let bytes = stored.as_bytes();
    let mut key = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        if let Some(byte) = escaped_byte(bytes, i) {
            key.push(byte);
            i += 3;
        } else {
            key.push(bytes[i]);
            i += 1;
        }
    }
    if key.len() == bytes.len() {
        return None;
    }
    let key = String::from_utf8(key).ok()?;
    let mut again = String::with_capacity(stored.len());
    write_escaped(&key, &mut again);
    (again == stored).then_some(key)
}

/// The byte that `=XX` at `i` stands for.
fn escaped_byte(bytes: &[u8], i: usize) -> Option<u8> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    };
    match bytes.get(i..i + 3)? {
        [b'=', high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

fn swap_separators(key: &str) -> String {
    key.chars()
        .map(|c| match c {
            ':' => '.',
            '.' => ':',
            other => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CODECS: [KeyCodec; 3] = [KeyCodec::Escape, KeyCodec::Path, KeyCodec::Raw];

    fn encode(codec: KeyCodec, prefix: &str, name: &str) -> Result<String> {
        let mut out = String::from("$KV.b.");
        codec.encode(Key::new(prefix, name), &mut out)?;
        Ok(out.split_off(6))
    }

    #[test]
    fn stored_forms() {
        let cases = [
            // key, escape, path
            ("plain-Key/1_a.b", "plain-Key/1_a.b", "plain-Key/1_a=3Ab"),
            ("user:1", "user=3A1", "user.1"),
            ("session:abc", "session=3Aabc", "session.abc"),
            ("a=b", "a=b", "a=b"),
            ("a b", "a=20b", "a=20b"),
            ("😀", "=F0=9F=98=80", "=F0=9F=98=80"),
            ("a..b", "a.=2Eb", "a=3A=3Ab"),
            (".a.", "=2Ea=2E", "=3Aa=3A"),
            ("..", "=2E=2E", "=3A=3A"),
            (":a::b:", "=3Aa=3A=3Ab=3A", "=2Ea.=2Eb=2E"),
            ("*.>", "=2A.=3E", "=2A=3A=3E"),
            ("==", "==", "=="),
            ("=:", "==3A", "==2E"),
            ("\0\n", "=00=0A", "=00=0A"),
            // Reads like nothing that was escaped: as it is.
            ("a=41", "a=41", "a=41"),
            ("a=3D41", "a=3D41", "a=3D41"),
            ("a=3a", "a=3a", "a=3a"),
            ("a=FF", "a=FF", "a=FF"),
            // Reads like an escaped key: one layer more.
            ("user=3A1", "user=3D3A1", "user=3D3A1"),
            ("user=3D3A1", "user=3D3D3A1", "user=3D3D3A1"),
        ];
        for (key, escaped, path) in cases {
            for (codec, stored) in [(KeyCodec::Escape, escaped), (KeyCodec::Path, path)] {
                assert_eq!(encode(codec, "", key).unwrap(), stored, "{codec} {key:?}");
                assert_eq!(codec.decode(stored), key, "{codec} {stored:?}");
            }
        }
        assert_eq!(encode(KeyCodec::Raw, "", "user:1").unwrap(), "user:1");
        assert_eq!(KeyCodec::Escape.decode("user:1"), "user:1");
    }

    #[test]
    fn limits_are_those_of_the_encoded_form_with_its_prefix() {
        for codec in CODECS {
            assert_eq!(encode(codec, "", &"a".repeat(1024)).unwrap().len(), 1024);
            assert_eq!(encode(codec, "app", &"a".repeat(1020)).unwrap().len(), 1024);
            for (prefix, name) in [("", 1025), ("app", 1021), ("", 100_000)] {
                let error = encode(codec, prefix, &"a".repeat(name)).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::TooLarge);
                assert!(error.to_string().contains("the limit is 1024"), "{error}");
            }
            for prefix in ["", "app"] {
                let error = encode(codec, prefix, "").unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
            }
        }
        assert_eq!(encode(KeyCodec::Escape, "", &" ".repeat(341)).unwrap().len(), 1023);
        assert!(encode(KeyCodec::Escape, "", &" ".repeat(342)).is_err());
    }

    #[test]
    fn raw_refuses_what_a_subject_cannot_hold() {
        for key in ["a b", "a\tb", "a\nb", "a..b", ".a", "a.", "*", "a.*.b", "a.>"] {
            let error = encode(KeyCodec::Raw, "", key).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{key:?}");
        }
        for key in ["a*", "a>b", "é", "a:b", "%$"] {
            assert_eq!(encode(KeyCodec::Raw, "", key).unwrap(), key);
        }
    }

    #[test]
    fn names_in_settings() {
        for codec in CODECS {
            assert_eq!(codec.as_str().to_uppercase().parse::<KeyCodec>().unwrap(), codec);
        }
        let error = "base64".parse::<KeyCodec>().unwrap_err();
        assert!(error.to_string().contains("escape, path or raw"), "{error}");
    }

    /// Any text, and texts dense in what the codecs treat specially.
    fn any_key() -> impl Strategy<Value = String> {
        prop_oneof!["\\PC{1,24}", "[-/_=.:A-F0-9a 😀]{1,16}", "(=|=3|=3A|=3D|=2E|\\.|:|a){1,10}"]
    }

    /// What any client can store under the rules of NATS.
    fn stored_key() -> impl Strategy<Value = String> {
        prop_oneof![
            "[-/_=A-Za-z0-9]{1,8}(\\.[-/_=A-Za-z0-9]{1,8}){0,3}",
            "(=|3|A|D|=3A|=3D|=2E|B){1,10}",
        ]
    }

    proptest! {
        #[test]
        fn keys_come_back_and_are_legal_for_every_client(key in any_key()) {
            for codec in [KeyCodec::Escape, KeyCodec::Path] {
                let stored = encode(codec, "", &key).unwrap();
                prop_assert!(is_nats_key(&stored), "{} {:?} -> {:?}", codec, key, stored);
                prop_assert_eq!(codec.decode(&stored), key.as_str());
            }
            if let Ok(stored) = encode(KeyCodec::Raw, "", &key) {
                prop_assert_eq!(KeyCodec::Raw.decode(&stored), key.as_str());
            }
        }

        #[test]
        fn stored_keys_of_others_are_read_under_the_name_they_are_listed_by(
            stored in stored_key()
        ) {
            for codec in CODECS {
                let listed = codec.decode(&stored);
                prop_assert_eq!(encode(codec, "", &listed).unwrap(), stored.clone());
            }
        }

        #[test]
        fn prefixes_are_tokens_of_their_own(prefix in any_key(), key in any_key()) {
            for codec in [KeyCodec::Escape, KeyCodec::Path] {
                let whole = encode(codec, &prefix, &key).unwrap();
                let space = encode(codec, "", &prefix).unwrap();
                let rest = whole.strip_prefix(&space).and_then(|rest| rest.strip_prefix('.'));
                prop_assert_eq!(codec.decode(rest.unwrap()), key.as_str());
                prop_assert!(is_nats_key(&whole));
            }
        }
    }
}

//! The key that a response is kept under, made from the request.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind, Result};
use crate::kv::MAX_KEY_LEN;

/// A key as it is put together: text of the template, and values of the request.
///
/// ```
/// use nats_connector::rpc::KeyText;
///
/// # fn main() -> nats_connector::Result<()> {
/// let key = KeyText::new().text("user.").field("id", &7)?.finish()?;
/// assert_eq!(key, "user.7");
///
/// assert!(KeyText::new().text("user.").field("mail", "a@b").is_err());
/// let key = KeyText::new().escaping().text("user.").field("mail", "a@b")?.finish()?;
/// assert_eq!(key, "user.a=40b");
/// # Ok(())
/// # }
/// ```
///
/// A value must not change what the rest of the key means: it is not empty, and made of letters,
/// digits, `-`, `_`, `/` and `=`. Others are refused, or [escaped](Self::escaping). No value brings a
/// dot, so that keys whose values stand between dots (`{a}.{b}`) are the same for the same values
/// alone; with another separator, or none, they may be the same for others too.
///
/// What comes out is legal in key-value buckets and as an object's name, for clients in every
/// language: at most 1,024 bytes of `A-Z a-z 0-9 - _ / = .`, with something before, between and after
/// the dots.
#[derive(Debug, Clone, Default)]
pub struct KeyText {
    key: String,
    escape: bool,
}

/// What can stand in a key: text, integers, booleans. A type of your own names itself.
pub trait KeyPart {
    /// The text; `None` where there is no value.
    fn key_part(&self) -> Option<Cow<'_, str>>;
}

impl KeyText {
    /// An empty key.
    #[must_use]
    pub fn new() -> Self {
        KeyText::default()
    }

    /// Writes every byte that a value may not have, and `=`, as `=XX` (hexadecimal) in place of
    /// refusing it: no two values look alike then. Integers, booleans and plain text stay as they
    /// are.
    #[must_use]
    pub fn escaping(mut self) -> Self {
        self.escape = true;
        self
    }

    /// Adds text of the template as it is.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.key.push_str(text);
        self
    }

    /// Adds the value of a field.
    ///
    /// # Errors
    /// `InvalidInput` naming the field, and the key as far as it is made: the value is empty or
    /// missing, or it has characters that it may not have.
    pub fn field(mut self, name: &str, value: &(impl KeyPart + ?Sized)) -> Result<Self> {
        let part = value.key_part().unwrap_or_default();
        let refused = |problem: &'static str, key: String| {
            Err(Error::new(ErrorKind::InvalidInput, problem).with("field", name).with("key", key))
        };
        if part.is_empty() {
            let problem = "the field is empty, and a key cannot be made of it; set it";
            return refused(problem, format!("{}{{{name}}}", self.key));
        }
        if self.escape {
            escape(&part, &mut self.key);
        } else if part.bytes().all(is_plain) {
            self.key.push_str(&part);
        } else {
            let problem = "the field has characters that would break the key: only letters, digits, \
                           -, _, / and = can stand there; change it, or ask for the key to be \
                           escaped";
            return refused(problem, format!("{}{part}", self.key));
        }
        Ok(self)
    }

    /// The key.
    ///
    /// # Errors
    /// `InvalidInput` for one that is empty, or that its text makes illegal; `TooLarge` above 1,024
    /// bytes.
    pub fn finish(self) -> Result<String> {
        let KeyText { key, .. } = self;
        if key.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "the key is empty"));
        }
        if key.len() > MAX_KEY_LEN {
            let problem = format!("the key has {} bytes; the limit is {MAX_KEY_LEN}", key.len());
            return Err(Error::new(ErrorKind::TooLarge, problem).with("key", key));
        }
        let legal = |token: &str| !token.is_empty() && token.bytes().all(is_plain);
        if !key.split('.').all(legal) {
            let problem = "the key cannot be stored: it is made of letters, digits, -, _, /, = and \
                           single dots, none of them first or last; change the template";
            return Err(Error::new(ErrorKind::InvalidInput, problem).with("key", key));
        }
        Ok(key)
    }
}

/// What every client accepts within a key, the dot aside.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/' | b'=')
}

/// Appends a value so that no other looks the same.
fn escape(part: &str, key: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in part.bytes() {
        if is_plain(byte) && byte != b'=' {
            key.push(char::from(byte));
        } else {
            key.push('=');
            key.push(char::from(HEX[usize::from(byte >> 4)]));
            key.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

impl KeyPart for str {
    fn key_part(&self) -> Option<Cow<'_, str>> {
        Some(self.into())
    }
}

impl KeyPart for String {
    fn key_part(&self) -> Option<Cow<'_, str>> {
        Some(self.as_str().into())
    }
}

impl<T: KeyPart + ?Sized> KeyPart for &T {
    fn key_part(&self) -> Option<Cow<'_, str>> {
        (**self).key_part()
    }
}

impl<T: KeyPart> KeyPart for Option<T> {
    fn key_part(&self) -> Option<Cow<'_, str>> {
        self.as_ref().and_then(KeyPart::key_part)
    }
}

impl<T: KeyPart + ?Sized> KeyPart for Box<T> {
    fn key_part(&self) -> Option<Cow<'_, str>> {
        (**self).key_part()
    }
}

impl<T: KeyPart + ToOwned + ?Sized> KeyPart for Cow<'_, T> {
    fn key_part(&self) -> Option<Cow<'_, str>> {
        (**self).key_part()
    }
}

macro_rules! shown {
    ($($type:ty),*) => {
        $(impl KeyPart for $type {
            fn key_part(&self) -> Option<Cow<'_, str>> {
                Some(self.to_string().into())
            }
        })*
    };
}
shown!(bool, i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(escape: bool, a: &str, b: &str) -> Result<String> {
        let text = if escape { KeyText::new().escaping() } else { KeyText::new() };
        text.text("user.").field("a", a)?.text(".").field("b", b)?.finish()
    }

    fn is_legal(key: &str) -> bool {
        !key.split('.').any(str::is_empty)
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_/=.".contains(&b))
    }

    proptest! {
        #[test]
        fn escaped_keys_are_legal_and_no_two_values_share_one(
            a in ".{1,12}", b in ".{1,12}", c in ".{1,12}", d in ".{1,12}",
        ) {
            let (one, two) = (key(true, &a, &b).unwrap(), key(true, &c, &d).unwrap());
            prop_assert!(is_legal(&one), "{one}");
            prop_assert_eq!(one == two, (a, b) == (c, d));
        }

        /// Values of few characters, so that keys would often meet.
        #[test]
        fn values_that_look_escaped_are_told_apart(
            a in "[=3Da.]{1,4}", b in "[=3Da.]{1,4}", c in "[=3Da.]{1,4}", d in "[=3Da.]{1,4}",
        ) {
            let (one, two) = (key(true, &a, &b).unwrap(), key(true, &c, &d).unwrap());
            prop_assert_eq!(one == two, (a, b) == (c, d));
        }

        #[test]
        fn strict_keys_hold_values_as_they_are_or_are_refused(a in ".{1,6}", b in "[a-z=./-]{1,6}") {
            match key(false, &a, &b) {
                Ok(made) => {
                    prop_assert!(is_legal(&made), "{made}");
                    prop_assert_eq!(made.split('.').collect::<Vec<_>>(), ["user", &*a, &*b]);
                }
                Err(error) => {
                    let plain = |text: &str| text.bytes().all(is_plain);
                    let field = if plain(&a) { "b" } else { "a" };
                    prop_assert!(!plain(&a) || !plain(&b));
                    prop_assert_eq!(error.kind(), ErrorKind::InvalidInput);
                    prop_assert_eq!(error.context("field"), Some(field));
                }
            }
        }
    }

    #[test]
    fn integers_booleans_and_text_are_written_plainly() {
        let made = KeyText::new()
            .field("n", &i64::MIN)
            .and_then(|it| it.text(".").field("on", &true))
            .and_then(|it| it.text("/").field("name", &Some("x-y_z")))
            .and_then(|it| it.text(".").field("word", &Cow::Borrowed("COLOR_RED")))
            .and_then(KeyText::finish);
        assert_eq!(made.unwrap(), "-9223372036854775808.true/x-y_z.COLOR_RED");
    }

    #[test]
    fn a_refusal_names_field_and_key() {
        let cases = [
            (KeyText::new().text("user.").field("id", ""), "empty", "user.{id}"),
            (KeyText::new().text("user.").field("id", &None::<u8>), "empty", "user.{id}"),
            (KeyText::new().escaping().text("user.").field("id", ""), "empty", "user.{id}"),
            (KeyText::new().text("user.").field("id", "a.b"), "break the key", "user.a.b"),
            (KeyText::new().text("user.").field("id", "a b"), "break the key", "user.a b"),
            (KeyText::new().text("user.").field("id", "*"), "break the key", "user.*"),
            (KeyText::new().text("user.").field("id", "ä"), "break the key", "user.ä"),
        ];
        for (made, problem, key) in cases {
            let error = made.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(problem), "{error}");
            assert_eq!((error.context("field"), error.context("key")), (Some("id"), Some(key)));
        }
    }

    #[test]
    fn text_cannot_make_an_illegal_key() {
        for text in ["", ".", "a.", ".a", "a..b", "a b", "a.*", ">", "a:b", "ä", "a\n"] {
            let error = KeyText::new().text(text).finish().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text:?}");
        }
        assert_eq!(
            KeyText::new().text("reports/all.latest").finish().unwrap(),
            "reports/all.latest"
        );
        let long = |n| KeyText::new().text(&"x".repeat(n)).finish();
        assert_eq!(long(1025).unwrap_err().kind(), ErrorKind::TooLarge);
        assert_eq!(long(1024).unwrap().len(), 1024);
    }
}

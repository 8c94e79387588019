//! The key that a response is kept under, made from the request.

use crate::error::{Error, ErrorKind, Result};

/// A key as it is put together: text of the template, and values of the request.
///
/// A value must not change what the rest of the key means: it is not empty, and made of letters,
/// digits, `-`, `_`, `/` and `=`. Others are refused, or [escaped](Self::escaping).
#[derive(Debug, Clone, Default)]
pub struct KeyText {
    key: String,
    escape: bool,
}

/// What can stand in a key: text, integers, booleans. A type of your own names itself.
pub trait KeyPart {
    /// The text; `None` where there is no value.
    fn key_part(&self) -> Option<std::borrow::Cow<'_, str>>;
}

impl KeyText {
    /// An empty key.
    #[must_use]
    pub fn new() -> Self {
        KeyText::default()
    }

    /// Writes every byte that a value may not have as `=XX` in place of refusing it.
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
    /// `InvalidInput` naming the field.
    pub fn field(mut self, name: &str, value: &(impl KeyPart + ?Sized)) -> Result<Self> {
        let part = value.key_part().unwrap_or_default();
        if part.is_empty() {
            let problem = "the field is empty, and a key cannot be made of it; set it";
            return Err(Error::new(ErrorKind::InvalidInput, problem).with("field", name));
        }
        let stays = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'/' | b'=');
        if self.escape {
            for b in part.bytes() {
                if stays(b) && b != b'=' {
                    self.key.push(char::from(b));
                } else {
                    self.key.push_str(&format!("={b:02X}"));
                }
            }
        } else if part.bytes().all(stays) {
            self.key.push_str(&part);
        } else {
            let problem = "the field has characters that would break the key: only letters, digits, \
                           -, _, / and = can stand there; ask for the key to be escaped";
            return Err(Error::new(ErrorKind::InvalidInput, problem)
                .with("field", name)
                .with("key", format!("{}{part}", self.key)));
        }
        Ok(self)
    }

    /// The key.
    ///
    /// # Errors
    /// `InvalidInput` for an empty one.
    pub fn finish(self) -> Result<String> {
        if self.key.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "the key is empty"));
        }
        Ok(self.key)
    }
}

impl KeyPart for str {
    fn key_part(&self) -> Option<std::borrow::Cow<'_, str>> {
        Some(self.into())
    }
}

impl KeyPart for String {
    fn key_part(&self) -> Option<std::borrow::Cow<'_, str>> {
        Some(self.as_str().into())
    }
}

impl<T: KeyPart + ?Sized> KeyPart for &T {
    fn key_part(&self) -> Option<std::borrow::Cow<'_, str>> {
        (**self).key_part()
    }
}

impl<T: KeyPart> KeyPart for Option<T> {
    fn key_part(&self) -> Option<std::borrow::Cow<'_, str>> {
        self.as_ref().and_then(KeyPart::key_part)
    }
}

macro_rules! shown {
    ($($type:ty),*) => {
        $(impl KeyPart for $type {
            fn key_part(&self) -> Option<std::borrow::Cow<'_, str>> {
                Some(self.to_string().into())
            }
        })*
    };
}
shown!(bool, i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize);

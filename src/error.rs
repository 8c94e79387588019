//! The one error of this crate, made for the caller's decision.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A boxed error of any type, as sources and handlers give it.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// What happened, in the terms a caller acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A named thing (bucket, stream, file) does not exist. A missing *key* is `Ok(None)`, never this.
    NotFound,
    /// A thing that was to be created is there already.
    AlreadyExists,
    /// Somebody else changed the thing first; read it again and decide anew.
    Conflict,
    /// The arguments of the call can never work; nothing was sent.
    InvalidInput,
    /// A setting is wrong; the message names the key, its source and what is expected.
    InvalidSettings,
    /// The server refused the credentials, or the user lacks a permission.
    Unauthorized,
    /// No server answers, nobody serves the subject, or the connection is down. Retry later.
    Unavailable,
    /// No answer within the deadline. The call may have had its effect.
    Timeout,
    /// This driver, server or bucket cannot do it; the message says what it would take.
    Unsupported,
    /// A payload, key or value is above a limit; the message names the limit.
    TooLarge,
    /// A value could not be serialized.
    Encode,
    /// Stored or received bytes are not a value of the type asked for.
    Decode,
    /// The connector is closed, for good.
    Closed,
    /// No default driver yet: call `nats_connector::register()` first.
    NotRegistered,
    /// None of the above; the source says more.
    Other,
}

impl ErrorKind {
    /// The kind in words, as it opens messages without one of their own.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "not found",
            ErrorKind::AlreadyExists => "already exists",
            ErrorKind::Conflict => "conflict",
            ErrorKind::InvalidInput => "invalid input",
            ErrorKind::InvalidSettings => "invalid settings",
            ErrorKind::Unauthorized => "unauthorized",
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::Timeout => "timed out",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::TooLarge => "too large",
            ErrorKind::Encode => "cannot encode",
            ErrorKind::Decode => "cannot decode",
            ErrorKind::Closed => "closed",
            ErrorKind::NotRegistered => "not registered",
            ErrorKind::Other => "error",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error with its kind, the operation that failed, what it was about, and its source.
///
/// One word wide. `Display` is one line that says what to do next; `Debug` has every part.
/// No secret is ever in it: passwords, tokens, seeds and URL userinfo are removed before an
/// error is made.
///
/// ```
/// use nats_connector::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::NotFound, "no such bucket; create it first")
///     .operation("kv get")
///     .with("bucket", "users");
/// assert!(error.is_not_found());
/// assert_eq!(error.to_string(), "kv get: no such bucket; create it first (bucket=users)");
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    operation: Option<&'static str>,
    message: Cow<'static, str>,
    context: Vec<(&'static str, String)>,
    no_responders: bool,
    source: Option<BoxError>,
}

impl Error {
    /// An error of `kind`; `message` says what is wrong and what to do, without the context that
    /// [`with`](Self::with) adds.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Error(Box::new(Inner {
            kind,
            operation: None,
            message: message.into(),
            context: Vec::new(),
            no_responders: false,
            source: None,
        }))
    }

    /// Nobody serves the subject of a request: [`ErrorKind::Unavailable`], told apart by
    /// [`is_no_responders`](Self::is_no_responders).
    #[must_use]
    pub fn no_responders(message: impl Into<Cow<'static, str>>) -> Self {
        let mut error = Error::new(ErrorKind::Unavailable, message);
        error.0.no_responders = true;
        error
    }

    /// Names the operation that failed, unless it is named already.
    #[must_use]
    pub fn operation(mut self, operation: &'static str) -> Self {
        self.0.operation.get_or_insert(operation);
        self
    }

    /// Adds what the error is about: `bucket`, `key`, `topic`, `setting` ... A name that is there
    /// already keeps its value. Of a long value the first 200 characters are kept.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        if self.context(name).is_none() {
            let mut value = value.into();
            // A hostile key must not flood the log.
            if let Some((end, _)) = value.char_indices().nth(200) {
                let bytes = value.len();
                value.truncate(end);
                value.push_str(&format!("... ({bytes} bytes)"));
            }
            self.0.context.push((name, value));
        }
        self
    }

    /// Attaches the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same error for another caller that it is about; the cause as its text.
    pub(crate) fn again(&self) -> Self {
        let inner = &self.0;
        Error(Box::new(Inner {
            kind: inner.kind,
            operation: inner.operation,
            message: inner.message.clone(),
            context: inner.context.clone(),
            no_responders: inner.no_responders,
            source: inner.source.as_ref().map(|source| source.to_string().into()),
        }))
    }

    /// What happened.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What the error is about, for example `error.context("key")`.
    #[must_use]
    pub fn context(&self, name: &str) -> Option<&str> {
        self.0.context.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
    }

    /// The message alone, without operation, context and source.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// A bucket, stream or file does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.kind() == ErrorKind::NotFound
    }

    /// What was to be created is there already.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        self.kind() == ErrorKind::AlreadyExists
    }

    /// Somebody else was first.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.kind() == ErrorKind::Conflict
    }

    /// The deadline passed without an answer.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.kind() == ErrorKind::Timeout
    }

    /// The connector is closed for good.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.kind() == ErrorKind::Closed
    }

    /// The server was reached and nobody subscribes to the subject of the request, as opposed to a
    /// subscriber that did not answer in time ([`is_timeout`](Self::is_timeout)).
    #[must_use]
    pub fn is_no_responders(&self) -> bool {
        self.0.no_responders
    }

    /// The same call may succeed later without a change: [`ErrorKind::Unavailable`],
    /// [`ErrorKind::Timeout`] or [`ErrorKind::Conflict`]. After a timeout the first try may have had
    /// its effect.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Conflict)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        if let Some(operation) = inner.operation {
            write!(f, "{operation}: ")?;
        }
        one_line(f, if inner.message.is_empty() { inner.kind.as_str() } else { &inner.message })?;
        for (i, (name, value)) in inner.context.iter().enumerate() {
            write!(f, "{}{name}=", if i == 0 { " (" } else { ", " })?;
            one_line(f, value)?;
        }
        if !inner.context.is_empty() {
            f.write_str(")")?;
        }
        if let Some(source) = &inner.source {
            f.write_str(": ")?;
            one_line(f, &source.to_string())?;
        }
        Ok(())
    }
}

/// Writes text with its control characters escaped, so that a hostile key cannot forge log lines.
fn one_line(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    use fmt::Write as _;
    for c in text.chars() {
        if c.is_control() {
            write!(f, "{}", c.escape_default())?;
        } else {
            f.write_char(c)?;
        }
    }
    Ok(())
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        f.debug_struct("Error")
            .field("kind", &inner.kind)
            .field("operation", &inner.operation)
            .field("message", &inner.message)
            .field("context", &inner.context)
            .field("source", &inner.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_one_line_with_context_and_source() {
        let error = Error::new(ErrorKind::Decode, "not a number")
            .operation("kv get")
            .operation("outer")
            .with("key", "a\nb")
            .with("key", "other")
            .with_source(std::io::Error::other("deep\r\ncause"));
        assert_eq!(error.to_string(), "kv get: not a number (key=a\\nb): deep\\r\\ncause");
        assert_eq!(error.context("key"), Some("a\nb"));
        assert!(StdError::source(&error).is_some());
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        let long = Error::new(ErrorKind::TooLarge, "").with("key", "é".repeat(100_000));
        assert!(long.to_string().len() < 500 && long.to_string().contains("(200000 bytes)"));
    }

    #[test]
    fn predicates_follow_the_kind() {
        assert!(Error::no_responders("x").is_no_responders());
        assert!(Error::no_responders("x").is_retryable());
        assert!(!Error::new(ErrorKind::Unavailable, "x").is_no_responders());
        assert!(!Error::new(ErrorKind::InvalidInput, "x").is_retryable());
        assert_eq!(Error::new(ErrorKind::Closed, "").to_string(), "closed");
    }
}

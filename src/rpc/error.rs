//! What a call failed with, as it goes over the wire: a code, a text, and a body.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use async_nats::HeaderMap;
use bytes::Bytes;

use crate::error::{BoxError, Error, ErrorKind};
use crate::pubsub::headers::checked;

mod wire;

pub(crate) use wire::{ERROR, ERROR_CODE, error_headers, read_error};

/// The codes that every service knows. A service's own are as good.
pub mod code {
    /// The request can never work.
    pub const INVALID_ARGUMENT: &str = "INVALID_ARGUMENT";
    /// What the request is about is not there.
    pub const NOT_FOUND: &str = "NOT_FOUND";
    /// What the request would make is there already.
    pub const ALREADY_EXISTS: &str = "ALREADY_EXISTS";
    /// Who calls may not do this.
    pub const PERMISSION_DENIED: &str = "PERMISSION_DENIED";
    /// Who calls is not known.
    pub const UNAUTHENTICATED: &str = "UNAUTHENTICATED";
    /// The service failed.
    pub const INTERNAL: &str = "INTERNAL";
    /// The service is not there, or cannot take the call now.
    pub const UNAVAILABLE: &str = "UNAVAILABLE";
    /// No answer in time.
    pub const DEADLINE_EXCEEDED: &str = "DEADLINE_EXCEEDED";
    /// The service has as many calls as it takes.
    pub const RESOURCE_EXHAUSTED: &str = "RESOURCE_EXHAUSTED";
    /// The caller has gone, or wants no answer any more.
    pub const CANCELLED: &str = "CANCELLED";
}

/// Why a call failed. One word wide.
///
/// A handler gives one to its caller, and a client gets it back with code, text and body. What fails
/// before anybody served the call comes as one too, with the [`Error`] as its source.
pub struct RpcError(Box<Inner>);

struct Inner {
    code: Cow<'static, str>,
    message: String,
    body: Bytes,
    headers: Option<HeaderMap>,
    remote: bool,
    /// Its caller may not listen for it yet.
    until_heard: bool,
    source: Option<BoxError>,
}

impl RpcError {
    /// An error with a code of [`code`] or the service's own, and a text for whoever calls.
    #[must_use]
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        RpcError(Box::new(Inner {
            code: code.into(),
            message: message.into(),
            body: Bytes::new(),
            headers: None,
            remote: false,
            until_heard: false,
            source: None,
        }))
    }

    /// What is asked for is not there: [`code::NOT_FOUND`].
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        RpcError::new(code::NOT_FOUND, message)
    }

    /// The request can never work: [`code::INVALID_ARGUMENT`].
    #[must_use]
    pub fn invalid_argument(message: impl Into<String>) -> Self {
        RpcError::new(code::INVALID_ARGUMENT, message)
    }

    /// The service failed: [`code::INTERNAL`].
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        RpcError::new(code::INTERNAL, message)
    }

    /// What goes with the error as the body of the answer.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.0.body = body.into();
        self
    }

    /// Adds a header to the answer; given again, a further value.
    ///
    /// # Errors
    /// `InvalidInput` for a name or value that cannot be one, and for the names that the error itself
    /// is told by.
    pub fn with_header(mut self, name: &str, value: &str) -> crate::Result<Self> {
        super::message::not_reserved(name)?;
        let (name, value) = checked(name, value)?;
        self.0.headers.get_or_insert_default().append(name, value);
        Ok(self)
    }

    /// Attaches the cause, which stays in this process.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Goes to a caller that may begin to listen only now.
    pub(crate) fn until_heard(mut self) -> Self {
        self.0.until_heard = true;
        self
    }

    pub(crate) fn is_until_heard(&self) -> bool {
        self.0.until_heard
    }

    /// Came as the answer of a service.
    pub(crate) fn remote(mut self, headers: Option<HeaderMap>) -> Self {
        self.0.remote = true;
        self.0.headers = headers;
        self
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// The text.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What came with it.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.0.body
    }

    /// Code and text with those of its causes, for the log.
    pub(crate) fn in_full(&self) -> String {
        in_full(self)
    }

    /// The headers that came, or go, with it: those of the error itself only where it came from a
    /// service.
    #[must_use]
    pub fn headers(&self) -> Option<&HeaderMap> {
        self.0.headers.as_ref()
    }

    /// A service answered with it; else the call failed on this side.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.0.remote
    }

    /// Whether it has this code.
    #[must_use]
    pub fn is(&self, code: &str) -> bool {
        self.code() == code
    }

    /// Nobody serves the method.
    #[must_use]
    pub fn is_no_responders(&self) -> bool {
        let source = self.0.source.as_deref();
        source.and_then(|it| it.downcast_ref::<Error>()).is_some_and(Error::is_no_responders)
    }

    /// The error of any cause. An `RpcError`, or one among its sources, keeps code, body and headers; an
    /// [`Error`] has the code of its kind; all others are [`code::INTERNAL`].
    #[must_use]
    pub fn from_boxed(error: BoxError) -> Self {
        let error = match error.downcast::<RpcError>() {
            Ok(error) => return *error,
            Err(error) => error,
        };
        let (mut code, mut body, mut headers) = (None, Bytes::new(), None);
        let mut next: Option<&(dyn StdError + 'static)> = Some(&*error);
        while let Some(cause) = next {
            if let Some(inner) = cause.downcast_ref::<RpcError>() {
                (code, body) = (Some(inner.0.code.clone()), inner.0.body.clone());
                headers = inner.0.headers.clone();
                break;
            }
            if let Some(inner) = cause.downcast_ref::<Error>() {
                code = Some(code_of(inner.kind()).into());
                break;
            }
            // Its `source` leaves out what it wraps.
            let wrapped = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            next = match wrapped {
                Some(wrapped) => Some(wrapped),
                None => cause.source(),
            };
        }
        let code = code.unwrap_or(code::INTERNAL.into());
        let mut made = RpcError::new(code, in_full(&*error)).with_body(body).with_source(error);
        made.0.headers = headers;
        made
    }
}

/// The text with those of its causes that it does not repeat.
fn in_full(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = cause.source();
    }
    text
}

fn code_of(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => code::NOT_FOUND,
        ErrorKind::AlreadyExists => code::ALREADY_EXISTS,
        ErrorKind::InvalidInput | ErrorKind::TooLarge | ErrorKind::Decode => code::INVALID_ARGUMENT,
        ErrorKind::Unauthorized => code::PERMISSION_DENIED,
        ErrorKind::Unavailable | ErrorKind::Closed => code::UNAVAILABLE,
        ErrorKind::Timeout => code::DEADLINE_EXCEEDED,
        _ => code::INTERNAL,
    }
}

impl From<Error> for RpcError {
    fn from(error: Error) -> Self {
        RpcError::from_boxed(error.into())
    }
}

impl From<BoxError> for RpcError {
    fn from(error: BoxError) -> Self {
        RpcError::from_boxed(error)
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)
    }
}

impl fmt::Debug for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcError")
            .field("code", &self.0.code)
            .field("message", &self.0.message)
            .field("body", &format_args!("{} bytes", self.0.body.len()))
            .field("remote", &self.0.remote)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for RpcError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_wraps_an_error_keeps_its_code() {
        let inner = || RpcError::not_found("no order 7").with_body("7");
        let wrapped: [BoxError; 3] = [
            inner().into(),
            io::Error::other(inner()).into(),
            io::Error::other(io::Error::other(inner())).into(),
        ];
        for error in wrapped {
            let error = RpcError::from_boxed(error);
            assert_eq!((error.code(), &error.body()[..]), (code::NOT_FOUND, &b"7"[..]), "{error}");
            assert!(error.message().contains("no order 7"), "{error}");
        }
        let local = Error::new(ErrorKind::Unavailable, "down");
        assert!(RpcError::from_boxed(io::Error::other(local).into()).is(code::UNAVAILABLE));
        assert!(RpcError::from_boxed("plain".into()).is(code::INTERNAL));
    }
}

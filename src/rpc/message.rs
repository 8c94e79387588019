//! A call's request as a handler gets it, and its response.

use std::fmt;

use async_nats::HeaderMap;

use super::error::{ERROR, ERROR_CODE};
use crate::error::{Error, ErrorKind, Result};
use crate::pubsub::headers::checked;

/// What a handler is called with. Message and headers never print in `Debug`.
pub struct Request<T> {
    pub(crate) message: T,
    pub(crate) headers: HeaderMap,
    pub(crate) subject: async_nats::Subject,
    pub(crate) deadline: Option<tokio::time::Instant>,
}

impl<T> Request<T> {
    /// The message.
    #[must_use]
    pub fn get(&self) -> &T {
        &self.message
    }

    /// The message alone.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.message
    }

    /// The headers that it came with.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The full subject that it was sent to.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.subject.as_str()
    }

    /// When the service's time for it ends.
    #[must_use]
    pub fn deadline(&self) -> Option<tokio::time::Instant> {
        self.deadline
    }
}

/// What a call gives: at the service what a handler answers, at a client what came. Message and
/// headers never print in `Debug`.
pub struct Response<T> {
    pub(crate) message: T,
    pub(crate) headers: HeaderMap,
}

impl<T> Response<T> {
    /// A response without headers.
    #[must_use]
    pub fn new(message: T) -> Self {
        Response { message, headers: HeaderMap::new() }
    }

    /// Adds a header; given again, a further value.
    ///
    /// # Errors
    /// `InvalidInput` for a name or value that cannot be one, and for the names that tell an error
    /// from a response: `Nats-Service-Error`, `Nats-Service-Error-Code`, `Status`, `Description`.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self> {
        not_reserved(name)?;
        let (name, value) = checked(name, value)?;
        self.headers.append(name, value);
        Ok(self)
    }

    /// The message.
    #[must_use]
    pub fn get(&self) -> &T {
        &self.message
    }

    /// The message alone.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.message
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }
}

impl<T> From<T> for Response<T> {
    fn from(message: T) -> Self {
        Response::new(message)
    }
}

impl<T> fmt::Debug for Request<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("subject", &self.subject)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Response<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").finish_non_exhaustive()
    }
}

/// Refuses the headers by which clients know an error.
pub(crate) fn not_reserved(name: &str) -> Result<()> {
    let reserved = [ERROR_CODE, ERROR, "Status", "Description"];
    if reserved.iter().any(|it| it.eq_ignore_ascii_case(name)) {
        let problem = "this header makes an error of a response; return an RpcError instead";
        return Err(Error::new(ErrorKind::InvalidInput, problem).with("header", name));
    }
    Ok(())
}

//! What stands around calls, at services and at clients alike: it sees a call before it is decoded
//! and how it ended, and may refuse it, change it, or answer in its place.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_nats::HeaderMap;
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::server::Keep;
use super::{Kind, Result};
use crate::pubsub::driver::InboundMessage;
use crate::pubsub::headers::checked;

/// Stands around calls. Every `Fn(RawCall, Next) -> impl Future` is one.
///
/// The one added first is the outermost. A service's stand around those of its endpoints. The time
/// limit of a call bounds it with its interceptors; they see a handler that ran out of time as
/// [`DEADLINE_EXCEEDED`](super::code::DEADLINE_EXCEEDED). Around a streaming call, a service's sees
/// the whole stream, and a client's the opening of it.
///
/// ```
/// use nats_connector::rpc::{self, Next, RawCall, RpcError, Served, code};
///
/// async fn authenticated(call: RawCall, next: Next) -> rpc::Result<Served> {
///     if call.header("Authorization").is_none() {
///         return Err(RpcError::new(code::UNAUTHENTICATED, "send an Authorization header"));
///     }
///     next.run(call).await
/// }
/// # fn is_one(_: impl rpc::Interceptor) {}
/// # is_one(authenticated);
/// ```
pub trait Interceptor: Send + Sync + 'static {
    /// Takes the call on; [`Next::run`] passes it on.
    fn intercept(&self, call: RawCall, next: Next) -> BoxFuture<'static, Result<Served>>;
}

impl<F, Fut> Interceptor for F
where
    F: Fn(RawCall, Next) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Served>> + Send + 'static,
{
    fn intercept(&self, call: RawCall, next: Next) -> BoxFuture<'static, Result<Served>> {
        Box::pin(self(call, next))
    }
}

/// A call before it is decoded. Payload and headers never print in `Debug`.
#[derive(Clone)]
pub struct RawCall {
    pub(crate) message: InboundMessage,
    pub(crate) about: Arc<About>,
    pub(crate) deadline: Option<Instant>,
}

/// What is called.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) service: String,
    pub(crate) method: String,
    pub(crate) kind: Kind,
}

impl RawCall {
    /// The service's name.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.about.service
    }

    /// The method's name.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.about.method
    }

    /// How many messages go each way.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.about.kind
    }

    /// The full subject.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.message.subject
    }

    /// When the time for it ends, if it is limited.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The headers, if there are any.
    #[must_use]
    pub fn headers(&self) -> Option<&HeaderMap> {
        self.message.headers.as_ref()
    }

    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers()?.get(name).map(async_nats::HeaderValue::as_str)
    }

    /// Sets a header in place of all its values.
    ///
    /// # Errors
    /// `InvalidInput` for a name or value that cannot be one.
    pub fn set_header(&mut self, name: &str, value: &str) -> crate::Result<()> {
        set(&mut self.message.headers, name, value)
    }

    /// The request as it came, or goes; empty for a call that begins with a stream.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.message.payload
    }

    /// Puts other bytes in place of the request.
    pub fn set_payload(&mut self, payload: impl Into<Bytes>) {
        self.message.payload = payload.into();
    }
}

impl fmt::Debug for RawCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawCall")
            .field("service", &self.about.service)
            .field("method", &self.about.method)
            .field("kind", &self.about.kind)
            .field("message", &self.message)
            .field("deadline", &self.deadline)
            .finish()
    }
}

/// How a call ended well.
#[derive(Debug)]
#[non_exhaustive]
pub enum Served {
    /// With a response.
    Reply(Reply),
    /// It is a stream: at a service one that has ended, at a client one that is open.
    Streamed,
}

impl Served {
    /// The response, which a stream has none of.
    #[must_use]
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Served::Reply(reply) => Some(reply),
            Served::Streamed => None,
        }
    }

    /// The response, to be changed.
    #[must_use]
    pub fn reply_mut(&mut self) -> Option<&mut Reply> {
        match self {
            Served::Reply(reply) => Some(reply),
            Served::Streamed => None,
        }
    }
}

/// An encoded response. Payload and headers never print in `Debug`.
#[derive(Default)]
pub struct Reply {
    pub(crate) payload: Bytes,
    pub(crate) headers: Option<HeaderMap>,
    /// What is to be done with it beside sending it.
    pub(crate) keep: Option<Box<dyn Keep>>,
}

impl Reply {
    /// A response of these bytes, for an interceptor that answers in place of the service.
    #[must_use]
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Reply { payload: payload.into(), ..Reply::default() }
    }

    /// The bytes.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Puts other bytes in place of the response; what is stored of it are these too.
    pub fn set_payload(&mut self, payload: impl Into<Bytes>) {
        self.payload = payload.into();
    }

    /// The headers, if there are any.
    #[must_use]
    pub fn headers(&self) -> Option<&HeaderMap> {
        self.headers.as_ref()
    }

    /// Sets a header in place of all its values.
    ///
    /// # Errors
    /// `InvalidInput` for a name or value that cannot be one.
    pub fn set_header(&mut self, name: &str, value: &str) -> crate::Result<()> {
        super::message::not_reserved(name)?;
        set(&mut self.headers, name, value)
    }
}

impl From<Reply> for Served {
    fn from(reply: Reply) -> Self {
        Served::Reply(reply)
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("payload", &format_args!("{} bytes", self.payload.len()))
            .finish_non_exhaustive()
    }
}

fn set(headers: &mut Option<HeaderMap>, name: &str, value: &str) -> crate::Result<()> {
    let (name, value) = checked(name, value)?;
    headers.get_or_insert_default().insert(name, value);
    Ok(())
}

/// What comes after an interceptor: the next one, or the call itself. A clone runs it again.
#[derive(Clone)]
pub struct Next {
    chain: Arc<[Arc<dyn Interceptor>]>,
    at: usize,
    last: Arc<Last>,
}

/// The call itself.
pub(crate) type Last = dyn Fn(RawCall) -> BoxFuture<'static, Result<Served>> + Send + Sync;

impl Next {
    /// Passes the call on.
    #[must_use = "the call goes on only when this is awaited"]
    pub fn run(mut self, call: RawCall) -> BoxFuture<'static, Result<Served>> {
        match self.chain.get(self.at).cloned() {
            Some(interceptor) => {
                self.at += 1;
                interceptor.intercept(call, self)
            }
            None => (self.last)(call),
        }
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("left", &(self.chain.len() - self.at)).finish()
    }
}

/// The interceptors around a call, outermost first.
#[derive(Clone, Default)]
pub(crate) struct Interceptors(Vec<Arc<dyn Interceptor>>);

/// The same, as calls use them.
#[derive(Clone)]
pub(crate) struct Chain(Arc<[Arc<dyn Interceptor>]>);

impl Interceptors {
    pub(crate) fn add(&mut self, interceptor: impl Interceptor) {
        self.0.push(Arc::new(interceptor));
    }

    /// These with others inside.
    pub(crate) fn around(&self, inner: &Interceptors) -> Chain {
        Chain(self.0.iter().chain(&inner.0).cloned().collect())
    }

    pub(crate) fn chain(&self) -> Chain {
        Chain(self.0.iter().cloned().collect())
    }
}

impl Chain {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Runs a call with its interceptors around it.
    pub(crate) fn run(
        &self,
        call: RawCall,
        last: impl Fn(RawCall) -> BoxFuture<'static, Result<Served>> + Send + Sync + 'static,
    ) -> BoxFuture<'static, Result<Served>> {
        Next { chain: self.0.clone(), at: 0, last: Arc::new(last) }.run(call)
    }
}

impl fmt::Debug for Interceptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interceptors({})", self.0.len())
    }
}

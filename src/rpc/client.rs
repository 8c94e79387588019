//! The side that calls.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;

use super::interceptor::{About, Chain, Interceptors};
use super::server::joined;
use super::{Interceptor, Kind, Method, Rpc, ServiceConfig};
use crate::call::Call;
use crate::error::Result;

mod unary;

pub use unary::Unary;

/// Calls the methods of a service. Cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    rpc: Rpc,
    config: ServiceConfig,
    interceptors: Interceptors,
    chain: Chain,
    ignore_prefix: bool,
}

impl Client {
    pub(super) fn new(rpc: Rpc, config: ServiceConfig) -> Self {
        let interceptors = Interceptors::default();
        let chain = interceptors.chain();
        Client(Arc::new(Inner { rpc, config, interceptors, chain, ignore_prefix: false }))
    }

    /// Puts an interceptor around its calls, inside those that are there.
    #[must_use]
    pub fn intercept(&self, interceptor: impl Interceptor) -> Self {
        let mut inner = (*self.0).clone();
        inner.interceptors.add(interceptor);
        inner.chain = inner.interceptors.chain();
        Client(Arc::new(inner))
    }

    /// Takes the service's prefix as the start of full subjects, without the handle's topic prefix.
    #[must_use]
    pub fn ignore_prefix(&self) -> Self {
        let mut inner = (*self.0).clone();
        inner.ignore_prefix = true;
        Client(Arc::new(inner))
    }

    /// Calls a method: one request, one response. The request is encoded now. Options:
    /// [`header`](Call::header), [`headers`](Call::headers), [`timeout`](Call::timeout); without a
    /// time limit of its own the call has the method's, then the service's, then the handle's (10 s).
    ///
    /// # Errors
    /// What the service answers, with [`is_remote`](super::RpcError::is_remote). On this side, with the
    /// [`Error`](crate::Error) as the source: `UNAVAILABLE` at once with
    /// [`is_no_responders`](super::RpcError::is_no_responders) when nobody serves the method, and when
    /// not connected; `DEADLINE_EXCEEDED`, when the call may have had its effect; `INVALID_ARGUMENT`
    /// for a request above the payload limit or a header that cannot be one, before anything is sent;
    /// `INTERNAL` when the request cannot be encoded or the response not decoded.
    ///
    /// # Cancel safety
    /// Dropped once polled, the call may have been made; its answer is discarded.
    #[expect(clippy::needless_pass_by_value, reason = "a request is given away, as to a function")]
    pub fn call<Req, Res>(&self, method: &Method<Req, Res>, request: Req) -> Call<Unary<Res>>
    where
        Req: 'static,
        Res: Send + 'static,
    {
        Call::new(Unary::new(self, method, &request))
    }

    /// The handle that it stands on.
    pub(crate) fn rpc(&self) -> &Rpc {
        &self.0.rpc
    }

    /// The full subject of a method.
    pub(crate) fn subject<Req, Res>(&self, method: &Method<Req, Res>) -> Result<Subject> {
        let topic = joined(&self.0.config.prefix, &method.0.name);
        self.0.rpc.pubsub().full_subject(&topic, self.0.ignore_prefix)
    }

    /// The limit of a method's calls that both sides agreed on, if they did.
    pub(crate) fn limit<Req, Res>(&self, method: &Method<Req, Res>) -> Option<Duration> {
        method.0.timeout.or(self.0.config.timeout)
    }

    /// What interceptors are told of a method.
    pub(crate) fn about<Req, Res>(&self, method: &Method<Req, Res>, kind: Kind) -> Arc<About> {
        let (service, method) = (self.0.config.name.clone(), method.0.name.clone());
        Arc::new(About { service, method, kind })
    }

    /// The interceptors around its calls.
    pub(crate) fn chain(&self) -> &Chain {
        &self.0.chain
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("service", &self.0.config.name)
            .field("prefix", &self.0.config.prefix)
            .field("interceptors", &self.0.interceptors)
            .finish_non_exhaustive()
    }
}

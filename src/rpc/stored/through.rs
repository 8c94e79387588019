//! Calls that go to the store as well: the store before the service, or the service before the store.

use std::fmt;
use std::time::{Duration, SystemTime};

use async_nats::HeaderMap;
use futures::future::BoxFuture;

use super::Stored;
use crate::call::{Call, Operation};
use crate::error::Error;
use crate::kv::Entry;
use crate::rpc::{Response, Result, RpcError, Unary, code};

/// How long a read before a call may take that has no limit.
const READ_TIME: Duration = Duration::from_secs(5);

/// A response, and where it is from.
#[derive(Debug)]
pub struct Answer<Res> {
    response: Response<Res>,
    origin: Origin,
    problem: Option<RpcError>,
}

/// Where a response is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The service answered just now.
    Service,
    /// It was stored: an earlier answer.
    Store {
        /// Its revision.
        revision: u64,
        /// When it was stored, where the store knows.
        created: Option<SystemTime>,
    },
}

impl<Res> Answer<Res> {
    /// The message.
    #[must_use]
    pub fn get(&self) -> &Res {
        self.response.get()
    }

    /// The message alone.
    #[must_use]
    pub fn into_inner(self) -> Res {
        self.response.into_inner()
    }

    /// The headers of the service's answer; none of a stored one.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// Where it is from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// It is an earlier answer, which may be out of date.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.origin != Origin::Service
    }

    /// Why it is not from where it was asked for first: the failure of the service, for a stored
    /// answer to [`call_or_get`](Stored::call_or_get); the failure of the store, not a mere miss, for
    /// an answer of the service to [`get_or_call`](Stored::get_or_call).
    #[must_use]
    pub fn problem(&self) -> Option<&RpcError> {
        self.problem.as_ref()
    }
}

/// A call that goes to service and store: [`Stored::get_or_call`], [`Stored::call_or_get`].
#[must_use = "a call does nothing unless awaited"]
pub struct Through<Req, Res: Send + 'static> {
    stored: Stored<Req, Res>,
    call: Call<Unary<Res>>,
    key: crate::Result<String>,
    first: First,
}

/// What is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Store,
    Service,
}

impl<Req: 'static, Res: Send + 'static> Stored<Req, Res> {
    /// Reads through: the stored response to this request; where there is none, the service is called,
    /// and stores its answer as the method says. What only clients keep
    /// ([`client_only`](crate::rpc::Persist::client_only)) is stored by this call.
    ///
    /// The service is called too when the store does not answer or what it holds cannot be decoded;
    /// [`problem`](Answer::problem) tells. With a time limit the store has half of it, at most 5 s;
    /// without, 5 s. Several calls that miss at the same time each go to the service.
    ///
    /// # Errors
    /// Those of [`Client::call`](crate::rpc::Client::call). `INVALID_ARGUMENT` for a method without such a
    /// place, and `INTERNAL` where the client's handle has no such store.
    pub fn get_or_call(&self, request: Req) -> Call<Through<Req, Res>> {
        self.through(request, First::Store)
    }

    /// Calls the service; when it cannot be had (nobody serves, no answer in time, no connection, or
    /// full: `UNAVAILABLE`, `DEADLINE_EXCEEDED`, `RESOURCE_EXHAUSTED`), the stored response to this
    /// request, which the [`Answer`] says, and why. Any other error of the service is an answer, and
    /// comes as it is.
    ///
    /// The time limit is for the call; the store then has as much again as its handle gives (10 s).
    ///
    /// # Errors
    /// Those of [`Client::call`](crate::rpc::Client::call), the service's also when nothing is stored or
    /// the store does not answer either. For a method without such a place as
    /// [`get_or_call`](Self::get_or_call).
    pub fn call_or_get(&self, request: Req) -> Call<Through<Req, Res>> {
        self.through(request, First::Service)
    }

    fn through(&self, request: Req, first: First) -> Call<Through<Req, Res>> {
        let key = self.key(&request);
        let call = self.0.client.call(&self.0.method, request);
        Call::new(Through { stored: self.clone(), call, key, first })
    }
}

impl<Req: 'static, Res: Send + 'static> Call<Through<Req, Res>> {
    /// Adds a header to the call of the service.
    pub fn header(self, name: &str, value: &str) -> Self {
        self.map_call(|call| call.header(name, value))
    }

    /// Adds headers to the call of the service.
    pub fn headers(self, headers: &HeaderMap) -> Self {
        self.map_call(|call| call.headers(headers))
    }

    fn map_call(self, change: impl FnOnce(Call<Unary<Res>>) -> Call<Unary<Res>>) -> Self {
        self.map(|through| Through { call: change(through.call), ..through })
    }
}

impl<Req: 'static, Res: Send + 'static> Through<Req, Res> {
    async fn get_or_call(self, timeout: Option<Duration>) -> Result<Answer<Res>> {
        let begun = tokio::time::Instant::now();
        let Through { stored, call, key, .. } = self;
        let limit = timeout.map_or(READ_TIME, |limit| READ_TIME.min(limit / 2));
        let read = match &key {
            Ok(key) => stored.read(key, Some(limit)).await,
            Err(error) => Err(error.again()),
        };
        let problem = match read {
            Ok(Some(entry)) => return Ok(Answer::stored(entry, None)),
            Ok(None) => None,
            Err(error) => Some(RpcError::from(error)),
        };
        let left = timeout.map(|limit| limit.saturating_sub(begun.elapsed()));
        let response = super::limited(call, left).await?;
        let mut answer = Answer { response, origin: Origin::Service, problem };
        if let Ok(key) = key
            && stored.kept()?.client_only
        {
            let put = stored.put(key, answer.get());
            if let Err(error) = put.await {
                answer.problem.get_or_insert(error.into());
            }
        }
        Ok(answer)
    }

    async fn call_or_get(self, timeout: Option<Duration>) -> Result<Answer<Res>> {
        let Through { stored, call, key, .. } = self;
        let failure = match super::limited(call, timeout).await {
            Ok(response) => {
                return Ok(Answer { response, origin: Origin::Service, problem: None });
            }
            Err(failure) if is_outage(&failure) => failure,
            Err(refusal) => return Err(refusal),
        };
        let read = match &key {
            Ok(key) => stored.read(key, None).await,
            Err(error) => Err(error.again()),
        };
        match read {
            Ok(Some(entry)) => Ok(Answer::stored(entry, Some(failure))),
            Ok(None) => Err(failure),
            Err(error) => {
                tracing::warn!(%error, "no stored response either");
                Err(failure)
            }
        }
    }
}

/// The service could not be had, which says nothing about the request.
fn is_outage(error: &RpcError) -> bool {
    [code::UNAVAILABLE, code::DEADLINE_EXCEEDED, code::RESOURCE_EXHAUSTED]
        .iter()
        .any(|code| error.is(code))
}

impl<Res> Answer<Res> {
    fn stored(entry: Entry<Res>, problem: Option<RpcError>) -> Self {
        let Entry { value, revision, created, .. } = entry;
        let origin = Origin::Store { revision, created };
        Answer { response: Response::new(value), origin, problem }
    }
}

impl<Req: 'static, Res: Send + 'static> Operation for Through<Req, Res> {
    type Output = Result<Answer<Res>>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Self::Output> {
        Box::pin(async move {
            // A place that is not there is the caller's mistake, not an outage.
            let place = self.stored.kept().and_then(|kept| kept.shelf.store().map(drop));
            place.map_err(|error: Error| RpcError::from(error))?;
            match self.first {
                First::Store => self.get_or_call(timeout).await,
                First::Service => self.call_or_get(timeout).await,
            }
        })
    }
}

impl<Req, Res: Send + 'static> fmt::Debug for Through<Req, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Through")
            .field("stored", &self.stored)
            .field("first", &self.first)
            .finish_non_exhaustive()
    }
}

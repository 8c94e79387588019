//! The calls of a client that open streams.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use futures::future::BoxFuture;

use super::client::{Opening, open};
use super::wire::Wire;
use super::{ClientStream, Held, Receiver, Sender, check_window, faults, window_of};
use crate::call::{Call, Operation};
use crate::deadline::{after, within};
use crate::error::Result as LocalResult;
use crate::pubsub::driver::InboundMessage;
use crate::pubsub::headers::checked;
use crate::rpc::{Client, Kind, Method, RawCall, Result, Served};

/// A stream to open, by [`Client::server_stream`], [`Client::client_stream`] or [`Client::bidi`].
#[must_use = "a call does nothing unless awaited"]
pub struct Open<T> {
    client: Client,
    /// What is wrong already is told when the call is awaited.
    request: LocalResult<(Subject, Bytes)>,
    headers: HeaderMap,
    about: Arc<crate::rpc::interceptor::About>,
    window: Option<u64>,
    limit: Option<Duration>,
    idle: Option<Duration>,
    made: Box<dyn FnOnce(Arc<Held>, Option<Duration>) -> T + Send>,
}

impl Client {
    /// Opens a call with one request and a stream of responses. Options: [`header`](Call::header),
    /// [`headers`](Call::headers), [`idle_timeout`](Call::idle_timeout), and
    /// [`timeout`](Call::timeout), which bounds the whole stream: without it the method's or the
    /// service's limit does, and there is none without them.
    ///
    /// Done when the request is on its way. What the service says to it, and that nobody serves the
    /// method, comes from the [`Receiver`].
    ///
    /// # Errors
    /// As [`call`](Self::call), but for what comes from the service.
    ///
    /// # Cancel safety
    /// Dropped once polled, the call may have been made; the service is told that nobody reads.
    pub fn server_stream<Req, Res>(
        &self,
        method: &Method<Req, Res>,
        request: Req,
    ) -> Call<Open<Receiver<Res>>>
    where
        Req: 'static,
        Res: Send + 'static,
    {
        let payload = method.0.request.encode(&request);
        drop(request);
        let codec = method.0.response.clone();
        let made = move |held, idle| Receiver::new(held, codec, idle);
        self.open(method, Kind::ServerStream, payload, made)
    }

    /// Opens a call with a stream of requests and one response. Options as for
    /// [`server_stream`](Self::server_stream).
    ///
    /// Done when a service has accepted the call, within the handle's time limit.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    ///
    /// # Cancel safety
    /// Dropped once polled, the call may have been made; the service is told that it breaks off.
    pub fn client_stream<Req, Res>(
        &self,
        method: &Method<Req, Res>,
    ) -> Call<Open<ClientStream<Req, Res>>>
    where
        Req: Send + 'static,
        Res: Send + 'static,
    {
        let (request, response) = (method.0.request.clone(), method.0.response.clone());
        let made = move |held, idle| ClientStream::new(held, request, response, idle);
        self.open(method, Kind::ClientStream, Ok(Bytes::new()), made)
    }

    /// Opens a call with a stream each way. The two ends may be used in different tasks. Options as for
    /// [`server_stream`](Self::server_stream).
    ///
    /// Done when a service has accepted the call, within the handle's time limit.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    ///
    /// # Cancel safety
    /// Dropped once polled, the call may have been made; the service is told that it breaks off.
    pub fn bidi<Req, Res>(
        &self,
        method: &Method<Req, Res>,
    ) -> Call<Open<(Sender<Req>, Receiver<Res>)>>
    where
        Req: Send + 'static,
        Res: Send + 'static,
    {
        let (request, response) = (method.0.request.clone(), method.0.response.clone());
        let made = move |held: Arc<Held>, idle| {
            let sender = Sender::new(held.clone(), request, true);
            (sender, Receiver::new(held, response, idle))
        };
        self.open(method, Kind::Bidi, Ok(Bytes::new()), made)
    }

    fn open<Req, Res, T>(
        &self,
        method: &Method<Req, Res>,
        kind: Kind,
        payload: LocalResult<Bytes>,
        made: impl FnOnce(Arc<Held>, Option<Duration>) -> T + Send + 'static,
    ) -> Call<Open<T>>
    where
        Req: 'static,
        Res: 'static,
        T: 'static,
    {
        Call::new(Open {
            client: self.clone(),
            request: payload.and_then(|payload| {
                check_window(method.name(), method.0.window)?;
                Ok((self.subject(method)?, payload))
            }),
            headers: HeaderMap::new(),
            about: self.about(method, kind),
            window: (kind != Kind::ClientStream).then(|| window_of(method)),
            limit: self.limit(method),
            idle: None,
            made: Box::new(made),
        })
    }
}

impl<T: 'static> Call<Open<T>> {
    /// Adds a header; given again, a further value. A CR or LF in it is refused.
    pub fn header(self, name: &str, value: &str) -> Self {
        self.map_operation(|open| match checked(name, value) {
            Ok((name, value)) => open.headers.append(name, value),
            Err(error) => {
                if open.request.is_ok() {
                    open.request = Err(error.operation("call"));
                }
            }
        })
    }

    /// Adds headers.
    pub fn headers(self, headers: &HeaderMap) -> Self {
        self.map_operation(|open| {
            for (name, values) in headers.iter() {
                for value in values {
                    open.headers.append(name.clone(), value.clone());
                }
            }
        })
    }

    /// Ends the stream with `DEADLINE_EXCEEDED` when a read waits for longer than this for a message
    /// of the service. Default: 5 minutes with services that have no heartbeat, which are those of
    /// other make, and no limit with those that have.
    pub fn idle_timeout(self, limit: Duration) -> Self {
        self.map_operation(|open| open.idle = Some(limit))
    }
}

impl<T: 'static> Open<T> {
    async fn run(self, timeout: Option<Duration>) -> Result<T> {
        let Open { client, request, headers, about, window, limit, idle, made } = self;
        let (subject, payload) = request?;
        let wire = Wire::of(client.rpc())?;
        let deadline = timeout.or(limit).map(after);
        let patience = after(wire.timeout);
        let opened_by = deadline.map_or(patience, |deadline| deadline.min(patience));
        let sends = about.kind != Kind::ServerStream;
        let message = InboundMessage { subject, reply: None, headers: Some(headers), payload };
        let call = RawCall { message, about, deadline };
        let opening = move |call: RawCall| {
            let InboundMessage { subject, headers, payload, .. } = call.message;
            let headers = headers.unwrap_or_default();
            let wire = wire.clone();
            Opening { wire, subject, headers, body: payload, window, sends, deadline }
        };
        let opened = async {
            if client.chain().is_empty() {
                open(opening(call)).await
            } else {
                intercepted(&client, call, opening).await
            }
        };
        let held = within(opened_by, opened).await.map_err(|_| faults::not_accepted())??;
        Ok(made(held, idle))
    }
}

/// Opens it with interceptors around that.
async fn intercepted(
    client: &Client,
    call: RawCall,
    opening: impl Fn(RawCall) -> Opening + Send + Sync + 'static,
) -> Result<Arc<Held>> {
    let slot: Arc<Mutex<Option<Arc<Held>>>> = Arc::default();
    let last_slot = slot.clone();
    let last = move |call: RawCall| -> BoxFuture<'static, Result<Served>> {
        let (opening, slot) = (opening(call), last_slot.clone());
        Box::pin(async move {
            let held = open(opening).await?;
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
            Ok(Served::Streamed)
        })
    };
    let served = client.chain().run(call, last).await?;
    let held = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (served, held) {
        (Served::Streamed, Some(held)) => Ok(held),
        _ => Err(faults::intercepted()),
    }
}

impl<T: 'static> Operation for Open<T> {
    type Output = Result<T>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<T>> {
        Box::pin(self.run(timeout))
    }
}

impl<T> fmt::Debug for Open<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = self.request.as_ref().map(|(subject, _)| subject);
        f.debug_struct("Open").field("subject", &subject).finish_non_exhaustive()
    }
}

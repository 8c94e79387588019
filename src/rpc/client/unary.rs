//! A call with one request and one response.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use futures::future::BoxFuture;

use super::Client;
use crate::call::{Call, Operation};
use crate::deadline::{after, within};
use crate::error::{Error, ErrorKind, Result as LocalResult};
use crate::pubsub::driver::InboundMessage;
use crate::pubsub::headers::checked;
use crate::rpc::error::read_error;
use crate::rpc::interceptor::About;
use crate::rpc::{Codec, Kind, Method, RawCall, Reply, Response, Result, Rpc, RpcError, Served};

/// A call to make, by [`Client::call`].
#[must_use = "a call does nothing unless awaited"]
pub struct Unary<Res> {
    client: Client,
    /// What is wrong already is told when the call is awaited.
    request: LocalResult<(Subject, Bytes)>,
    headers: Option<HeaderMap>,
    response: Arc<dyn Codec<Res>>,
    limit: Option<Duration>,
    about: Option<Arc<About>>,
}

impl<Res: Send + 'static> Unary<Res> {
    pub(super) fn new<Req: 'static>(
        client: &Client,
        method: &Method<Req, Res>,
        request: &Req,
    ) -> Self {
        let payload = method.0.request.encode(request);
        let request = payload.and_then(|payload| Ok((client.subject(method)?, payload)));
        // Only interceptors are told.
        let told = !client.chain().is_empty();
        Unary {
            client: client.clone(),
            request,
            headers: None,
            response: method.0.response.clone(),
            limit: client.limit(method),
            about: told.then(|| client.about(method, Kind::Unary)),
        }
    }

    async fn run(self, timeout: Option<Duration>) -> Result<Response<Res>> {
        let (subject, payload) = self.request?;
        let rpc = self.client.rpc();
        let limit = timeout.or(self.limit);
        let asked = subject.clone();
        let reply = match self.about {
            None => ask(rpc, subject, self.headers, payload, limit).await?,
            Some(about) => {
                let limit = limit.map_or_else(|| rpc.pubsub().default_timeout(), Ok)?;
                let deadline = after(limit);
                let message =
                    InboundMessage { subject, reply: None, headers: self.headers, payload };
                let call = RawCall { message, about, deadline: Some(deadline) };
                let last = rpc.clone();
                let last = move |call: RawCall| -> BoxFuture<'static, Result<Served>> {
                    let rpc = last.clone();
                    Box::pin(async move {
                        let InboundMessage { subject, headers, payload, .. } = call.message;
                        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
                        ask(&rpc, subject, headers, payload, Some(left)).await.map(Served::Reply)
                    })
                };
                match within(deadline, self.client.chain().run(call, last)).await {
                    Ok(served) => match served? {
                        Served::Reply(reply) => reply,
                        Served::Streamed => {
                            return Err(RpcError::internal(
                                "an interceptor made a stream of a call",
                            ));
                        }
                    },
                    Err(_) => {
                        let text = "no answer within the deadline";
                        let error = Error::new(ErrorKind::Timeout, text).operation("call");
                        return Err(error.with("topic", asked.as_str()).into());
                    }
                }
            }
        };
        let message = self.response.decode(&reply.payload).map_err(|error| {
            let text = format!("failed to decode the response of {asked}: {}", error.message());
            RpcError::internal(text).with_source(error)
        })?;
        Ok(Response { message, headers: reply.headers.unwrap_or_default() })
    }
}

/// The request on the wire, and its answer.
async fn ask(
    rpc: &Rpc,
    subject: Subject,
    headers: Option<HeaderMap>,
    payload: Bytes,
    limit: Option<Duration>,
) -> Result<Reply> {
    let answer = rpc.pubsub().ask(subject, headers, payload, limit).await;
    let answer = answer.map_err(|error| error.operation("call"))?.into_inbound();
    match read_error(answer.headers.as_ref(), &answer.payload) {
        Some(error) => Err(error),
        None => {
            let InboundMessage { payload, headers, .. } = answer;
            Ok(Reply { payload, headers, keep: None })
        }
    }
}

impl<Res: Send + 'static> Call<Unary<Res>> {
    /// Adds a header; given again, a further value. A CR or LF in it is refused.
    pub fn header(self, name: &str, value: &str) -> Self {
        self.map_operation(|unary| match checked(name, value) {
            Ok((name, value)) => unary.headers.get_or_insert_default().append(name, value),
            Err(error) => {
                if unary.request.is_ok() {
                    unary.request = Err(error.operation("call"));
                }
            }
        })
    }

    /// Adds headers.
    pub fn headers(self, headers: &HeaderMap) -> Self {
        self.map_operation(|unary| {
            let own = unary.headers.get_or_insert_default();
            for (name, values) in headers.iter() {
                for value in values {
                    own.append(name.clone(), value.clone());
                }
            }
        })
    }
}

impl<Res: Send + 'static> Operation for Unary<Res> {
    type Output = Result<Response<Res>>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Self::Output> {
        Box::pin(self.run(timeout))
    }
}

impl<Res> fmt::Debug for Unary<Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = self.request.as_ref().map(|(subject, _)| subject);
        f.debug_struct("Unary").field("subject", &subject).finish_non_exhaustive()
    }
}

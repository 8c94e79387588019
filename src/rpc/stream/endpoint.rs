//! Endpoints whose requests, responses or both are streams.

use std::future::Future;
use std::sync::Arc;

use async_nats::{HeaderMap, Subject};

use super::server::Accepted;
use super::wire::Wire;
use super::{Receiver, Sender, window_of};
use crate::error::BoxError;
use crate::rpc::server::{Incoming, Serve, request};
use crate::rpc::{Codec, Endpoint, Kind, Method, Request, Response, Result, RpcError, Served};

impl Endpoint {
    /// Answers the calls of a method: one request, a stream of responses.
    ///
    /// The stream ends when the handler returns: well with `Ok`, and with its error, as by
    /// [`unary`](Self::unary), behind what was sent. A stream counts as one call of the endpoint for as
    /// long as it lasts, and has no limit but the endpoint's timeout.
    ///
    /// When the caller has gone, sends fail with [`CANCELLED`](crate::rpc::code::CANCELLED), and a handler
    /// that is not done 10 s later is dropped. That is noticed at once from a caller of this crate that
    /// leaves, within 5 s from one that is killed, and by the next item from callers of other make. A
    /// drain of the connector lets streams go on until a second before its time is up; then they end
    /// with `UNAVAILABLE`.
    pub fn server_stream<Req, Res, H, Fut, E>(method: &Method<Req, Res>, handler: H) -> Self
    where
        Req: Send + 'static,
        Res: Send + 'static,
        H: Fn(Request<Req>, Sender<Res>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        Endpoint::new(method, Kind::ServerStream, ServerStream { method: method.clone(), handler })
    }

    /// Answers the calls of a method: a stream of requests, one response, as by
    /// [`unary`](Self::unary). The handler may answer before the stream has ended; the caller's sends
    /// fail then.
    ///
    /// What is said of callers, limits and drains at [`server_stream`](Self::server_stream) holds here
    /// too: a caller that goes in the middle is an error behind the requests that it sent, never their
    /// end.
    pub fn client_stream<Req, Res, H, Fut, R, E>(method: &Method<Req, Res>, handler: H) -> Self
    where
        Req: Send + 'static,
        Res: Send + 'static,
        H: Fn(Request<Receiver<Req>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: Into<Response<Res>> + 'static,
        E: Into<BoxError> + 'static,
    {
        Endpoint::new(method, Kind::ClientStream, ClientStream { method: method.clone(), handler })
    }

    /// Answers the calls of a method: a stream each way, which go on side by side. The handler's return
    /// ends both.
    ///
    /// What is said of callers, limits and drains at [`server_stream`](Self::server_stream) holds here
    /// too.
    pub fn bidi<Req, Res, H, Fut, E>(method: &Method<Req, Res>, handler: H) -> Self
    where
        Req: Send + 'static,
        Res: Send + 'static,
        H: Fn(Request<Receiver<Req>>, Sender<Res>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        Endpoint::new(method, Kind::Bidi, Bidi { method: method.clone(), handler })
    }
}

struct ServerStream<Req, Res, H> {
    method: Method<Req, Res>,
    handler: H,
}

struct ClientStream<Req, Res, H> {
    method: Method<Req, Res>,
    handler: H,
}

struct Bidi<Req, Res, H> {
    method: Method<Req, Res>,
    handler: H,
}

impl<Req, Res, H, Fut, E> Serve for ServerStream<Req, Res, H>
where
    Req: Send + 'static,
    Res: Send + 'static,
    H: Fn(Request<Req>, Sender<Res>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<BoxError> + 'static,
{
    async fn serve(&self, incoming: Incoming) -> Result<Served> {
        let Incoming { call, endpoint } = incoming;
        let reply = call.message.reply.clone();
        let request = request(&self.method, call)?;
        let wire = Wire::of(&endpoint.rpc)?;
        let accepted = Accepted::accept(wire, &request.headers, reply.as_ref(), None).await?;
        let sender = accepted.sender(&self.method.0.response);
        accepted.run(ended((self.handler)(request, sender))).await?;
        accepted.finish().await?;
        Ok(Served::Streamed)
    }
}

impl<Req, Res, H, Fut, R, E> Serve for ClientStream<Req, Res, H>
where
    Req: Send + 'static,
    Res: Send + 'static,
    H: Fn(Request<Receiver<Req>>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
    R: Into<Response<Res>> + 'static,
    E: Into<BoxError> + 'static,
{
    async fn serve(&self, incoming: Incoming) -> Result<Served> {
        let (accepted, request) = accept(&self.method, incoming).await?;
        let answering = async {
            let handler = ended((self.handler)(request));
            let handled = accepted.run(async {
                let handled = handler.await.map(Into::<Response<Res>>::into);
                accepted.listens().await;
                handled
            });
            let Response { message, headers } = handled.await?;
            let payload = self.method.0.response.encode(&message).map_err(|error| {
                RpcError::internal("failed to encode the response").with_source(error)
            })?;
            accepted.answer(headers, payload).await
        };
        match answering.await {
            Ok(()) => Ok(Served::Streamed),
            Err(error) if accepted.listens_late() => Err(error.until_heard()),
            Err(error) => Err(error),
        }
    }
}

impl<Req, Res, H, Fut, E> Serve for Bidi<Req, Res, H>
where
    Req: Send + 'static,
    Res: Send + 'static,
    H: Fn(Request<Receiver<Req>>, Sender<Res>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<BoxError> + 'static,
{
    async fn serve(&self, incoming: Incoming) -> Result<Served> {
        let (accepted, request) = accept(&self.method, incoming).await?;
        let sender = accepted.sender(&self.method.0.response);
        accepted.run(ended((self.handler)(request, sender))).await?;
        accepted.finish().await?;
        Ok(Served::Streamed)
    }
}

/// Takes a stream of requests.
async fn accept<Req: 'static, Res: 'static>(
    method: &Method<Req, Res>,
    incoming: Incoming,
) -> Result<(Accepted, Request<Receiver<Req>>)> {
    let Incoming { call, endpoint } = incoming;
    let (message, deadline) = (call.message, call.deadline);
    let headers: HeaderMap = message.headers.unwrap_or_default();
    let (subject, reply): (Subject, Option<Subject>) = (message.subject, message.reply);
    let wire = Wire::of(&endpoint.rpc)?;
    let window = Some(window_of(method));
    let accepted = Accepted::accept(wire, &headers, reply.as_ref(), window).await?;
    let codec: &Arc<dyn Codec<Req>> = &method.0.request;
    let message = accepted.receiver(codec);
    Ok((accepted, Request { message, headers, subject, deadline }))
}

async fn ended<T, E: Into<BoxError>>(handler: impl Future<Output = Result<T, E>>) -> Result<T> {
    handler.await.map_err(|error| RpcError::from_boxed(error.into()))
}

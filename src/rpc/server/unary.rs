//! Endpoints with one request and one response.

use std::future::Future;

use super::{Endpoint, Incoming, Serve};
use crate::error::BoxError;
use crate::rpc::{Kind, Method, Reply, Request, Response, Result, RpcError, Served};

impl Endpoint {
    /// Answers the calls of a method: one request, one response.
    ///
    /// The handler gives a message or a [`Response`] with headers; its errors reach the caller with
    /// code, text, body and headers when an [`RpcError`] is among their causes, and as `INTERNAL` with
    /// their text when not.
    pub fn unary<Req, Res, H, Fut, R, E>(method: &Method<Req, Res>, handler: H) -> Self
    where
        Req: Send + 'static,
        Res: Send + 'static,
        H: Fn(Request<Req>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: Into<Response<Res>> + 'static,
        E: Into<BoxError> + 'static,
    {
        Endpoint::new(method, Kind::Unary, Unary { method: method.clone(), handler })
    }
}

struct Unary<Req, Res, H> {
    method: Method<Req, Res>,
    handler: H,
}

impl<Req, Res, H, Fut, R, E> Serve for Unary<Req, Res, H>
where
    Req: Send + 'static,
    Res: Send + 'static,
    H: Fn(Request<Req>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
    R: Into<Response<Res>> + 'static,
    E: Into<BoxError> + 'static,
{
    async fn serve(&self, incoming: Incoming) -> Result<Served> {
        let Incoming { call, endpoint } = incoming;
        let request = request(&self.method, call)?;
        let keep = match &self.method.0.persist[..] {
            [] => None,
            places => endpoint.keep(places, &request.message).await?,
        };
        let response = match (self.handler)(request).await {
            Ok(response) => response.into(),
            Err(error) => return Err(RpcError::from_boxed(error.into())),
        };
        let payload = self.method.0.response.encode(&response.message).map_err(|error| {
            RpcError::internal("failed to encode the response").with_source(error)
        })?;
        let headers = (!response.headers.is_empty()).then_some(response.headers);
        Ok(Served::Reply(Reply { payload, headers, keep }))
    }
}

/// The request of a call, decoded.
pub(crate) fn request<Req: 'static, Res>(
    method: &Method<Req, Res>,
    call: crate::rpc::RawCall,
) -> Result<Request<Req>> {
    let crate::rpc::RawCall { message: raw, deadline, .. } = call;
    let message = method.0.request.decode(&raw.payload).map_err(|error| {
        RpcError::invalid_argument(format!("failed to decode request: {}", error.message()))
            .with_source(error)
    })?;
    let headers = raw.headers.unwrap_or_default();
    Ok(Request { message, headers, subject: raw.subject, deadline })
}

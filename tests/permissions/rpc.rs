//! Services, calls and discovery.

use futures::FutureExt;
use nats_connector::rpc::{Endpoint, Method, Request, RpcError, Service, ServiceConfig};
use nats_connector::{Connector, Error, ErrorKind, Result};

use crate::{Feature, PATIENCE, told};

pub(crate) const FEATURES: &[(&str, Feature)] = &[
    ("RPC: serve", |user, admin| {
        async move {
            serve(&user).await?;
            let called = admin.rpc().client(prices()).call(&get(), 1).timeout(PATIENCE).await;
            // Only the service is told that it may not answer.
            told(called.ok())
        }
        .boxed()
    }),
    ("RPC: call", |user, admin| {
        async move {
            let service = serve(&admin).await?;
            let called = user.rpc().client(prices()).call(&get(), 1).await;
            service.drain().await?;
            called.map(drop).map_err(|error| refusal(&error))
        }
        .boxed()
    }),
    ("RPC: discover", |user, admin| {
        async move {
            let service = serve(&admin).await?;
            let found = user.rpc().discover().name("prices").services().timeout(PATIENCE).await;
            service.drain().await?;
            told(found?.first())
        }
        .boxed()
    }),
];

fn prices() -> ServiceConfig {
    ServiceConfig::new("prices").prefix("price")
}

fn get() -> Method<u64, u64> {
    Method::json("get")
}

async fn serve(connector: &Connector) -> Result<Service> {
    let handler = |request: Request<u64>| async move { Ok::<_, RpcError>(*request.get()) };
    connector.rpc().service(prices()).endpoint(Endpoint::unary(&get(), handler)).serve().await
}

/// What a call failed with on this side.
fn refusal(error: &RpcError) -> Error {
    let source = std::error::Error::source(error).and_then(|it| it.downcast_ref::<Error>());
    match source {
        Some(source) => Error::new(source.kind(), source.to_string())
            .with("subject", source.context("subject").unwrap_or_default()),
        None => Error::new(ErrorKind::Timeout, error.to_string()),
    }
}

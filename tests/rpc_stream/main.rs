//! Streaming calls against real servers: complete, in order, held back, and never ended in silence.

mod breaks;
mod faults;
mod foreign;
mod frames;
mod kills;
mod whole;

use std::future::Future;
use std::time::Duration;

use nats_connector::rpc::{Endpoint, Method, Request, RpcError, Sender, Service, ServiceConfig};
use nats_connector::{Connector, Settings, rpc};
use testkit::Server;

/// Long enough for a busy machine: only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

async fn connect(server: &Server) -> Connector {
    connect_to(&server.url()).await
}

async fn connect_to(url: &str) -> Connector {
    let settings = Settings::builder()
        .set("NATS.SERVER", url)
        .set("NATS.RECONNECT_WAIT", "50ms")
        .set("NATS.MAX_RECONNECT", "-1")
        .build();
    Connector::connect(&settings.unwrap()).await.unwrap()
}

/// A connection for each side, and the server that they are on.
async fn sides() -> (Server, Connector, Connector) {
    let server = Server::builder().start().await;
    let (service, client) = (connect(&server).await, connect(&server).await);
    (server, service, client)
}

fn config() -> ServiceConfig {
    ServiceConfig::new("streams").prefix("api.v1.stream")
}

/// Numbers from 1 to the one that is asked for.
fn count_up() -> Method<u64, u64> {
    Method::json("count_up")
}

/// The sum of all that is sent.
fn sum() -> Method<u64, u64> {
    Method::json("sum")
}

/// Each number, doubled.
fn double() -> Method<u64, u64> {
    Method::json("double")
}

async fn counting(request: Request<u64>, mut sender: Sender<u64>) -> rpc::Result<()> {
    for number in 1..=request.into_inner() {
        sender.send(number).await?;
    }
    Ok(())
}

async fn summing(request: Request<rpc::Receiver<u64>>) -> rpc::Result<u64> {
    let mut numbers = request.into_inner();
    let mut sum = 0;
    while let Some(number) = numbers.next().await {
        sum += number?;
    }
    Ok(sum)
}

async fn doubling(
    request: Request<rpc::Receiver<u64>>,
    mut sender: Sender<u64>,
) -> rpc::Result<()> {
    let mut numbers = request.into_inner();
    while let Some(number) = numbers.next().await {
        sender.send(2 * number?).await?;
    }
    Ok(())
}

/// The service with all three methods.
async fn serve(connector: &Connector) -> Service {
    let service = connector.rpc().service(config());
    let service = service
        .endpoint(Endpoint::server_stream(&count_up(), counting))
        .endpoint(Endpoint::client_stream(&sum(), summing))
        .endpoint(Endpoint::bidi(&double(), doubling));
    service.serve().await.unwrap()
}

/// What comes before the deadline.
async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("not within the time")
}

/// All items, and how they ended.
async fn drained<T: 'static>(mut items: rpc::Receiver<T>) -> (Vec<T>, Option<RpcError>) {
    let mut all = Vec::new();
    loop {
        match soon(items.next()).await {
            Some(Ok(item)) => all.push(item),
            Some(Err(error)) => {
                assert!(soon(items.next()).await.is_none(), "an error is the last");
                return (all, Some(error));
            }
            None => return (all, None),
        }
    }
}

fn numbers(to: u64) -> Vec<u64> {
    (1..=to).collect()
}

//! Calls that a trait describes, on a real server, seen also by a client that knows nothing of it.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::HeaderMap;
use nats_connector::rpc::{self, Request, Response, RpcError, code};
use nats_connector::{Connector, service};
use serde_json::{Value, json};
use testkit::Server;

use super::{GetOrder, Order, PATIENCE, connect, get, raw};

/// What is ordered.
#[service(
    name = "orders",
    prefix = "api.v1",
    version = "1.4.0",
    description = "what is \"ordered\"",
    timeout = "20s",
    queue = "workers",
    metadata(team = "billing")
)]
trait Orders {
    /// One order.
    #[rpc(timeout = "10s", concurrency = 8, metadata("x-kind" = "read", type = "unary"))]
    async fn get_order(&self, req: GetOrder) -> rpc::Result<Order>;

    /// The same with headers both ways.
    #[rpc(name = "headed")]
    async fn with_headers(&self, req: Request<GetOrder>) -> rpc::Result<Response<Order>>;

    /// With an error of another type, and in another format.
    #[rpc(codec = "message_pack", queue = false)]
    async fn read(&self, path: String) -> Result<String, ReadError>;

    /// Nothing to say, and nothing to answer.
    async fn ping(&self) -> rpc::Result<()> {
        Ok(())
    }

    #[rpc(timeout = "300ms")]
    async fn hang(&self) -> rpc::Result<()> {
        std::future::pending().await
    }

    /// Not called from elsewhere.
    #[rpc(skip)]
    fn calls(&self) -> usize;
}

#[derive(Debug)]
struct ReadError(Option<RpcError>);

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot read")
    }
}

impl Error for ReadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.as_ref().map(|source| source as _)
    }
}

#[derive(Default)]
struct InMemory(AtomicUsize);

impl Orders for InMemory {
    async fn get_order(&self, req: GetOrder) -> rpc::Result<Order> {
        self.0.fetch_add(1, Ordering::Relaxed);
        match req.id.as_str() {
            "gone" => Err(RpcError::not_found("no order gone").with_body("who knows")),
            _ => Ok(Order { id: req.id, total: 9.5 }),
        }
    }

    async fn with_headers(&self, req: Request<GetOrder>) -> rpc::Result<Response<Order>> {
        let who = req.headers().get("who").map_or("nobody", |it| it.as_str()).to_owned();
        let order = Order { id: req.into_inner().id, total: 1.0 };
        Ok(Response::new(order).header("for", &who)?)
    }

    async fn read(&self, path: String) -> Result<String, ReadError> {
        match path.as_str() {
            "wrapped" => Err(ReadError(Some(RpcError::new("LOCKED", "not now")))),
            "broken" => Err(ReadError(None)),
            _ => Ok(path),
        }
    }

    fn calls(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

async fn every_call(connector: &Connector) {
    let orders = Arc::new(InMemory::default());
    let service = OrdersServer::from_arc(orders.clone());
    let service = service.service(&connector.rpc()).serve().await.unwrap();
    let client = OrdersClient::new(&connector.rpc());

    let order = client.get_order(get("1")).await.unwrap();
    assert_eq!(order.into_inner(), Order { id: "1".to_owned(), total: 9.5 });
    let error = client.get_order(get("gone")).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (code::NOT_FOUND, "no order gone"));
    assert_eq!(error.body().as_ref(), b"who knows");
    assert!(error.is_remote());
    assert_eq!(orders.calls(), 2);

    let order = client.with_headers(get("2")).header("who", "ada").await.unwrap();
    assert_eq!(order.headers().get("for").map(|it| it.as_str()), Some("ada"));

    assert_eq!(client.read("ü".to_owned()).await.unwrap().into_inner(), "ü");
    let error = client.read("wrapped".to_owned()).await.unwrap_err();
    assert!(error.is("LOCKED"), "{error}");
    let error = client.read("broken".to_owned()).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (code::INTERNAL, "cannot read"));

    client.ping().await.unwrap();
    let error = client.hang().timeout(PATIENCE).await.unwrap_err();
    assert!(error.is(code::DEADLINE_EXCEEDED) && error.is_remote(), "{error:?}");

    service.drain().await.unwrap();
    assert!(client.ping().await.unwrap_err().is_no_responders());
}

#[tokio::test]
async fn on_a_server() {
    let server = Server::builder().start().await;
    let connector = connect(&server).await;
    every_call(&connector).await;
}

#[tokio::test]
async fn in_process() {
    every_call(&Connector::memory()).await;
}

#[tokio::test]
async fn as_others_see_it() {
    let server = Server::builder().start().await;
    let connector = connect(&server).await;
    let service = OrdersServer::new(InMemory::default());
    let _service = service.service(&connector.rpc()).serve().await.unwrap();
    let raw = raw(&server).await;

    let request = serde_json::to_vec(&get("1")).unwrap();
    let answer = raw.request("api.v1.get_order", request.clone().into()).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(answer, json!({"id": "1", "total": 9.5}));
    let answer = raw.request("api.v1.headed", request.into()).await.unwrap();
    assert_eq!(answer.headers.unwrap().get("for").map(|it| it.as_str()), Some("nobody"));
    let request = rmp_serde::to_vec("x").unwrap();
    let answer = raw.request("api.v1.read", request.into()).await.unwrap();
    assert_eq!(rmp_serde::from_slice::<String>(&answer.payload).unwrap(), "x");

    let info = raw.request("$SRV.INFO.orders", "".into()).await.unwrap();
    let info: Value = serde_json::from_slice(&info.payload).unwrap();
    assert_eq!(info["version"], "1.4.0");
    assert_eq!(info["description"], "what is \"ordered\"");
    assert_eq!(info["metadata"]["team"], "billing");
    let endpoint = |name: &str| {
        let endpoints = info["endpoints"].as_array().unwrap();
        assert_eq!(endpoints.len(), 5, "{info}");
        endpoints.iter().find(|it| it["name"] == name).unwrap().clone()
    };
    let get_order = endpoint("get_order");
    assert_eq!(get_order["subject"], "api.v1.get_order");
    assert_eq!(get_order["queue_group"], "workers");
    assert_eq!(get_order["metadata"]["x-kind"], "read");
    assert_eq!(get_order["metadata"]["type"], "unary");
    let read = endpoint("read");
    assert!(matches!(read["queue_group"].as_str(), None | Some("")), "{read}");
}

/// Where it is reached is not for its trait alone to say.
#[tokio::test]
async fn under_another_prefix_and_beside_others() {
    let connector = Connector::memory();
    let config = || OrdersMethods::config().prefix("eu.api");
    let endpoints = OrdersServer::new(InMemory::default()).endpoints();
    let extra = rpc::Method::<u32, u32>::json("double");
    let extra = rpc::Endpoint::unary(&extra, |request: Request<u32>| async move {
        Ok::<_, RpcError>(request.into_inner() * 2)
    });
    let builder = connector.rpc().service(config()).endpoints(endpoints).endpoint(extra);
    let _service = builder.serve().await.unwrap();

    let missing = OrdersClient::new(&connector.rpc()).ping().await.unwrap_err();
    assert!(missing.is_no_responders());
    let client = OrdersClient::from_client(connector.rpc().client(config()));
    client.ping().await.unwrap();
    let method = &client.methods().get_order;
    assert_eq!(method.name(), "get_order");
    assert_eq!(client.client().call(method, get("3")).await.unwrap().get().id, "3");
    let double = connector.pubsub().request("eu.api.double", &21).await.unwrap();
    assert_eq!(double.decode::<u32>().unwrap(), 42);
}

#[tokio::test]
async fn limits_are_those_of_the_attribute() {
    let connector = Connector::memory();

    #[service(concurrency = 1, waiting = 1)]
    trait Slow {
        async fn wait(&self) -> rpc::Result<()>;
    }
    struct Forever;
    impl Slow for Forever {
        async fn wait(&self) -> rpc::Result<()> {
            std::future::pending().await
        }
    }
    let service = SlowServer::new(Forever).service(&connector.rpc()).serve().await.unwrap();
    let client = SlowClient::new(&connector.rpc());
    let waiting: Vec<_> = (0..2).map(|_| tokio::spawn(client.wait().timeout(PATIENCE))).collect();
    let full = async {
        while service.health().full.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, full).await.expect("one runs and one waits");
    let error = client.wait().await.unwrap_err();
    assert!(error.is(code::RESOURCE_EXHAUSTED), "{error}");
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

/// Headers that came with nothing are none.
#[tokio::test]
async fn no_headers() {
    let connector = Connector::memory();
    let service = OrdersServer::new(InMemory::default());
    let _service = service.service(&connector.rpc()).serve().await.unwrap();
    let answer = OrdersClient::new(&connector.rpc()).get_order(get("1")).await.unwrap();
    assert_eq!(answer.headers(), &HeaderMap::new());
}

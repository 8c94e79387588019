//! Services and unary calls, over a real nats-server and in process.

mod client;
mod discovery;
mod drain;
mod interceptors;
mod limits;
mod micro;
mod start;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nats_connector::rpc::{Endpoint, Method, Request, Rpc, RpcError, Service, ServiceConfig, code};
use nats_connector::{Connector, Settings};
use serde::{Deserialize, Serialize};
use testkit::Server;

/// Long enough for a busy machine: only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Get {
    id: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Profile {
    id: String,
    name: String,
}

async fn connect(server: &Server) -> Connector {
    connect_with(server, &[]).await
}

async fn connect_with(server: &Server, settings: &[(&str, &str)]) -> Connector {
    let mut builder = Settings::builder()
        .set("NATS.SERVER", server.url())
        .set("NATS.REQUEST_TIMEOUT", "30s")
        .set("NATS.MAX_RECONNECT", "-1")
        .set("NATS.RECONNECT_WAIT", "50ms");
    for (key, value) in settings {
        builder = builder.set(*key, *value);
    }
    Connector::connect(&builder.build().unwrap()).await.unwrap()
}

async fn raw(server: &Server) -> async_nats::Client {
    let options = async_nats::ConnectOptions::new().request_timeout(Some(PATIENCE));
    options.connect(server.url()).await.unwrap()
}

/// Waits until the server has the client's subscriptions.
async fn settled(client: &async_nats::Client) {
    client.request("nobody", "".into()).await.unwrap_err();
}

fn profiles() -> ServiceConfig {
    ServiceConfig::new("profiles").version("1.2.3").prefix("api.v1.profiles")
}

fn get_profile() -> Method<Get, Profile> {
    Method::json("get_profile")
}

fn get(id: &str) -> Get {
    Get { id: id.to_owned() }
}

/// Finds everybody but `nobody`.
async fn find(request: Request<Get>) -> Result<Profile, RpcError> {
    let id = request.into_inner().id;
    match id.as_str() {
        "nobody" => Err(RpcError::not_found("no such profile").with_body("the body")),
        _ => Ok(Profile { name: format!("Ann {id}"), id }),
    }
}

async fn serve(rpc: &Rpc) -> Service {
    serve_with(rpc, Endpoint::unary(&get_profile(), find)).await
}

async fn serve_with(rpc: &Rpc, endpoint: Endpoint) -> Service {
    rpc.service(profiles()).endpoint(endpoint).serve().await.unwrap()
}

/// A door that handlers wait at, and how many do.
#[derive(Clone)]
struct Door {
    open: Arc<tokio::sync::Semaphore>,
    waiting: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Door {
    fn closed() -> Self {
        let open = Arc::new(tokio::sync::Semaphore::new(0));
        Door { open, waiting: Arc::default(), most: Arc::default() }
    }

    async fn pass(&self) {
        let waiting = self.waiting.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(waiting, Ordering::SeqCst);
        let _open = self.open.acquire().await.unwrap();
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    fn open(&self) {
        self.open.add_permits(10_000);
    }

    async fn wait_for(&self, count: usize) {
        testkit::eventually(PATIENCE, || async { self.waiting.load(Ordering::SeqCst) >= count })
            .await;
    }

    /// An endpoint whose handlers wait at the door.
    fn endpoint(&self, method: &Method<Get, Profile>) -> Endpoint {
        let door = self.clone();
        Endpoint::unary(method, move |request: Request<Get>| {
            let door = door.clone();
            async move {
                door.pass().await;
                find(request).await
            }
        })
    }
}

fn is_full(error: &RpcError) -> bool {
    error.is(code::RESOURCE_EXHAUSTED)
}

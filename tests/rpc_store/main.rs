//! Responses that are kept: on real nats-servers, with stores that are slow, full, or gone.

mod access;
mod buckets;
mod clients;
mod order;
mod outages;
mod policies;
mod values;

use std::time::Duration;

use nats_connector::rpc::{
    Client, Endpoint, KeyText, Method, Persist, Request, Rpc, RpcError, Service, ServiceConfig,
};
use nats_connector::{Connector, Settings};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use testkit::{Proxy, Server};

/// Far above what anything here takes.
const LONG: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Ask {
    id: String,
    name: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Profile {
    id: String,
    name: String,
}

fn ask(id: &str, name: &str) -> Ask {
    Ask { id: id.to_owned(), name: name.to_owned() }
}

fn profile(id: &str, name: &str) -> Profile {
    Profile { id: id.to_owned(), name: name.to_owned() }
}

fn user_key(ask: &Ask) -> nats_connector::Result<String> {
    KeyText::new().text("user.").field("id", &ask.id)?.finish()
}

fn in_users() -> Persist<Ask> {
    Persist::kv("users", user_key)
}

fn save() -> Method<Ask, Profile> {
    Method::json("save_profile")
}

fn config() -> ServiceConfig {
    ServiceConfig::new("profiles")
}

/// Answers with the name that was asked for; `fail` fails.
async fn echo(request: Request<Ask>) -> Result<Profile, RpcError> {
    let Ask { id, name } = request.into_inner();
    if name == "fail" {
        return Err(RpcError::not_found("no such profile"));
    }
    Ok(Profile { id, name })
}

async fn serve(rpc: &Rpc, methods: &[Method<Ask, Profile>]) -> nats_connector::Result<Service> {
    let endpoints = methods.iter().map(|method| Endpoint::unary(method, echo));
    rpc.service(config()).endpoints(endpoints).serve().timeout(LONG).await
}

async fn connect(url: String) -> Connector {
    let settings = Settings::builder().set("NATS.SERVER", url).set("NATS.MAX_RECONNECT", "-1");
    Connector::connect(&settings.build().unwrap()).await.unwrap()
}

async fn jetstream() -> (Server, Connector) {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(server.url()).await;
    (server, connector)
}

/// What a method's statistics say of what is kept.
fn kept(service: &Service, method: &str) -> Value {
    let stats = service.stats();
    let endpoint = stats.endpoints.iter().find(|endpoint| endpoint.name == method);
    endpoint.expect("the method has an endpoint").data["kept"].clone()
}

/// Until so many responses are stored and none waits.
async fn stored(service: &Service, method: &str, count: u64) {
    testkit::eventually(LONG, || async {
        let kept = kept(service, method);
        kept["stored"] == count && kept["pending"] == 0
    })
    .await;
}

/// A service whose calls have a good connection, and whose store has one that can be stopped.
struct Lab {
    _server: Server,
    near: Connector,
    far: Connector,
    proxy: Proxy,
}

impl Lab {
    async fn start() -> Lab {
        let (server, near) = jetstream().await;
        let proxy = Proxy::start(server.address());
        let far = connect(proxy.url()).await;
        Lab { _server: server, near, far, proxy }
    }

    fn rpc(&self) -> Rpc {
        let kv = self.far.rpc().kv().cloned().expect("a connector has a key-value store");
        Rpc::new(self.near.pubsub()).with_kv(kv)
    }

    fn client(&self) -> Client {
        self.near.rpc().client(config())
    }
}

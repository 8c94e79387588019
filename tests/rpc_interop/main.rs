//! What protoc-gen-nats-micro generates for Go and Python, played by nats-py, in front of our service
//! and behind our client.

mod clients;
mod servers;
mod stores;
mod streams;

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use nats_connector::rpc::{
    self, Endpoint, KeyText, Method, Persist, Receiver, Request, RpcError, Sender, Service,
    ServiceConfig,
};
use nats_connector::{Connector, Settings};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use testkit::{NatsPy, Server};

/// Long enough for a busy machine: only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

const ERROR_CODE: &str = "Nats-Service-Error-Code";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Save {
    id: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Profile {
    id: String,
    name: String,
}

fn save(id: &str) -> Save {
    Save { id: id.to_owned() }
}

fn save_profile() -> Method<Save, Profile> {
    let key = |save: &Save| KeyText::new().text("user.").field("id", &save.id)?.finish();
    Method::json("save_profile").persist(Persist::kv("users", key))
}

/// A report of 300,000 bytes for each request.
fn make_report() -> Method<Save, String> {
    let key = |save: &Save| Ok(format!("report.{}", save.id));
    Method::json("make_report").persist(Persist::objects("reports", key))
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct CountUp {
    to: u64,
    then: String,
}

fn count_to(to: u64, then: &str) -> CountUp {
    CountUp { to, then: then.to_owned() }
}

/// Numbers from 1, and how they end: `end`, `fail`, or nothing more.
fn count_up() -> Method<CountUp, u64> {
    Method::json("count_up")
}

/// The sum of all that is sent; an error for nothing.
fn sum() -> Method<u64, u64> {
    Method::json("sum")
}

/// Each number, doubled.
fn double() -> Method<u64, u64> {
    Method::json("double")
}

fn ours() -> ServiceConfig {
    ServiceConfig::new("profiles").prefix("api.v1").description("Keeps profiles")
}

/// Our service, and a peer in front of it.
async fn service() -> Option<(Server, Connector, Service, Peer)> {
    let (server, connector, peer) = alone().await?;
    let saving = |request: Request<Save>| async move {
        let id = request.into_inner().id;
        match id.as_str() {
            "nobody" => Err(RpcError::not_found("no such profile").with_body("why")),
            "busy" => Err(RpcError::new("503", "too busy")),
            _ => Ok(Profile { name: format!("Ann {id}"), id }),
        }
    };
    let reporting = |_: Request<Save>| async { Ok::<_, RpcError>("r".repeat(300_000)) };
    let service = connector.rpc().service(ours().metadata("team", "a"));
    let service = service
        .endpoint(Endpoint::unary(&save_profile(), saving).metadata("cost", "low"))
        .endpoint(Endpoint::unary(&make_report(), reporting))
        .endpoint(Endpoint::server_stream(&count_up(), counting))
        .endpoint(Endpoint::client_stream(&sum(), summing))
        .endpoint(Endpoint::bidi(&double(), doubling));
    let service = service.serve().timeout(PATIENCE).await.unwrap();
    Some((server, connector, service, peer))
}

/// A peer, and a connection on the same server.
async fn alone() -> Option<(Server, Connector, Peer)> {
    if !testkit::require_nats_py() {
        return None;
    }
    let server = Server::builder().jetstream().start().await;
    let settings = Settings::builder()
        .set("NATS.SERVER", server.url())
        .set("NATS.REQUEST_TIMEOUT", "30s")
        .build();
    let connector = Connector::connect(&settings.unwrap()).await.unwrap();
    let peer = Peer::start(&server);
    Some((server, connector, peer))
}

async fn counting(request: Request<CountUp>, mut sender: Sender<u64>) -> rpc::Result<()> {
    let CountUp { to, then } = request.into_inner();
    for number in 1..=to {
        sender.send(number).await?;
    }
    match then.as_str() {
        "end" => Ok(()),
        _ => Err(RpcError::not_found("bad start")),
    }
}

async fn summing(request: Request<Receiver<u64>>) -> rpc::Result<u64> {
    let mut numbers = request.into_inner();
    let mut sum = 0;
    while let Some(number) = numbers.next().await {
        match number? {
            0 => return Err(RpcError::invalid_argument("zero is not added")),
            number => sum += number,
        }
    }
    Ok(sum)
}

async fn doubling(request: Request<Receiver<u64>>, mut sender: Sender<u64>) -> rpc::Result<()> {
    let mut numbers = request.into_inner();
    while let Some(number) = numbers.next().await {
        match number? {
            0 => return Err(RpcError::invalid_argument("zero is not doubled")),
            number => sender.send(2 * number).await?,
        }
    }
    Ok(())
}

/// What plays the generated code. Its calls block, so tests have several threads.
struct Peer(NatsPy);

impl Peer {
    fn start(server: &Server) -> Peer {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rpc_interop/peer.py");
        Peer(NatsPy::start(&script, &[&server.url()]))
    }

    /// What it told, or what it raised.
    fn ask(&mut self, wish: &Value) -> Value {
        tokio::task::block_in_place(|| self.0.ask(wish))
    }
}

/// What comes before the deadline.
async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("not within the time")
}

/// All items, and how they ended.
async fn drained<T: 'static>(mut items: Receiver<T>) -> (Vec<T>, Option<(String, String)>) {
    let mut all = Vec::new();
    while let Some(item) = soon(items.next()).await {
        match item {
            Ok(item) => all.push(item),
            Err(error) => {
                return (all, Some((error.code().to_owned(), error.message().to_owned())));
            }
        }
    }
    (all, None)
}

fn told(code: &str, text: &str) -> Option<(String, String)> {
    Some((code.to_owned(), text.to_owned()))
}

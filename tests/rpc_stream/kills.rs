//! Either side is killed in the middle, as a process of its own.

use std::process::Command;

use nats_connector::rpc::{Endpoint, Request, Sender, code};
use testkit::{Program, eventually};

use super::*;

/// Makes this program one side when it runs again as a child.
const SERVER: &str = "RPC_STREAM_SERVER";

fn child(test: &str, server: &Server) -> Program {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]).env(SERVER, server.url());
    let mut child = Program::start(&mut command);
    child.wait_for("ready", PATIENCE);
    child
}

/// Sends one item, and then nothing for ever.
fn one_and_no_more() -> Endpoint {
    Endpoint::server_stream(&count_up(), |_: Request<u64>, mut sender: Sender<u64>| async move {
        sender.send(1).await?;
        Err::<(), _>(sender.closed().await)
    })
}

/// The child's part.
#[tokio::test]
#[expect(clippy::print_stdout, reason = "the parent reads it")]
async fn service() {
    let Ok(url) = std::env::var(SERVER) else { return };
    let connector = connect_to(&url).await;
    let service = connector.rpc().service(config()).endpoint(one_and_no_more());
    let service = service.endpoint(Endpoint::client_stream(&sum(), summing));
    let _service = service.serve().await.unwrap();
    println!("ready");
    std::future::pending::<()>().await;
}

/// The child's part.
#[tokio::test]
#[expect(clippy::print_stdout, reason = "the parent reads it")]
async fn client() {
    let Ok(url) = std::env::var(SERVER) else { return };
    let connector = connect_to(&url).await;
    let client = connector.rpc().client(config());
    let mut items = client.server_stream(&count_up(), 0).await.unwrap();
    let mut stream = client.client_stream(&sum()).await.unwrap();
    items.next().await.unwrap().unwrap();
    stream.send(1).await.unwrap();
    connector.pubsub().flush().await.unwrap();
    println!("ready");
    std::future::pending::<()>().await;
}

// Waiting for a child blocks a thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_is_killed() {
    let server = Server::builder().start().await;
    let mut child = child("kills::service", &server);
    let client = connect(&server).await.rpc().client(config());
    let mut items = client.server_stream(&count_up(), 0).await.unwrap();
    let mut stream = soon(client.client_stream(&sum())).await.unwrap();
    assert_eq!(soon(items.next()).await.unwrap().unwrap(), 1);
    soon(stream.send(1)).await.unwrap();
    child.signal("KILL");
    child.wait(PATIENCE);
    let (rest, error) = drained(items).await;
    assert!(rest.is_empty());
    assert_eq!(error.unwrap().code(), code::UNAVAILABLE);
    let error = soon(stream.finish()).await.unwrap_err();
    assert_eq!(error.code(), code::UNAVAILABLE, "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_is_killed() {
    let server = Server::builder().start().await;
    let service = connect(&server).await;
    let (told, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let service = service.rpc().service(config()).endpoint(one_and_no_more());
    let service = service.endpoint(Endpoint::client_stream(
        &sum(),
        move |request: Request<rpc::Receiver<u64>>| {
            let told = told.clone();
            async move {
                told.send(drained(request.into_inner()).await).unwrap();
                Ok::<_, rpc::RpcError>(0)
            }
        },
    ));
    let service = service.serve().await.unwrap();
    let mut child = child("kills::client", &server);
    eventually(PATIENCE, || async { service.health().running == 2 }).await;
    child.signal("KILL");
    child.wait(PATIENCE);
    let (all, error) = soon(ends.recv()).await.unwrap();
    assert_eq!((all, error.unwrap().code()), (vec![1], code::CANCELLED));
    eventually(PATIENCE, || async { service.health().running == 0 }).await;
}

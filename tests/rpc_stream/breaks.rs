//! Either side goes in the middle, the connection too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nats_connector::rpc::{Endpoint, Request, Sender, code};
use testkit::{Proxy, eventually};
use tokio::sync::mpsc;

use super::*;

/// An endpoint that sends without end, and tells by which code it ended.
fn endless() -> (Endpoint, mpsc::UnboundedReceiver<String>) {
    let (told, reasons) = mpsc::unbounded_channel();
    let endpoint =
        Endpoint::server_stream(&count_up(), move |_: Request<u64>, mut sender: Sender<u64>| {
            let told = told.clone();
            async move {
                for number in 1.. {
                    if let Err(error) = sender.send(number).await {
                        let _ = told.send(error.code().to_owned());
                        return Err(error);
                    }
                }
                Ok::<_, rpc::RpcError>(())
            }
        });
    (endpoint, reasons)
}

#[tokio::test]
async fn a_reader_that_leaves_ends_the_handler() {
    let (_server, service, client) = sides().await;
    let (endpoint, mut reasons) = endless();
    service.rpc().service(config()).endpoint(endpoint).serve().await.unwrap();
    let client = client.rpc().client(config());
    // In the middle, and before anything came.
    let mut items = client.server_stream(&count_up(), 0).await.unwrap();
    for number in 1..=1_000 {
        assert_eq!(soon(items.next()).await.unwrap().unwrap(), number);
    }
    drop(items);
    assert_eq!(soon(reasons.recv()).await.unwrap(), code::CANCELLED);
    drop(client.server_stream(&count_up(), 0).await.unwrap());
    assert_eq!(soon(reasons.recv()).await.unwrap(), code::CANCELLED);
}

#[tokio::test]
async fn in_one_process_too() {
    let connector = Connector::memory();
    let (endpoint, mut reasons) = endless();
    connector.rpc().service(config()).endpoint(endpoint).serve().await.unwrap();
    let client = connector.rpc().client(config());
    let mut items = client.server_stream(&count_up(), 0).await.unwrap();
    soon(items.next()).await.unwrap().unwrap();
    drop(items);
    assert_eq!(soon(reasons.recv()).await.unwrap(), code::CANCELLED);
}

#[tokio::test]
async fn a_handler_that_waits_is_told_and_dropped_in_the_end() {
    let (_server, service, client) = sides().await;
    let (told, mut reasons) = mpsc::unbounded_channel();
    let waits =
        Endpoint::server_stream(&count_up(), move |_: Request<u64>, mut sender: Sender<u64>| {
            let told = told.clone();
            async move {
                sender.send(1).await?;
                told.send(sender.closed().await).unwrap();
                // It does not go by itself.
                std::future::pending::<rpc::Result<()>>().await
            }
        });
    let service = service.rpc().service(config()).endpoint(waits).serve().await.unwrap();
    let client = client.rpc().client(config());
    let mut items = client.server_stream(&count_up(), 0).await.unwrap();
    soon(items.next()).await.unwrap().unwrap();
    drop(items);
    assert_eq!(soon(reasons.recv()).await.unwrap().code(), code::CANCELLED);
    eventually(PATIENCE, || async { service.health().running == 0 }).await;
}

#[tokio::test]
async fn a_sender_that_leaves_is_an_error_and_no_end() {
    let (_server, service, client) = sides().await;
    let (told, mut seen) = mpsc::unbounded_channel();
    let endpoint = Endpoint::client_stream(&sum(), move |request: Request<rpc::Receiver<u64>>| {
        let told = told.clone();
        async move {
            told.send(drained(request.into_inner()).await).unwrap();
            Ok::<_, rpc::RpcError>(0)
        }
    });
    let service = service.rpc().service(config()).endpoint(endpoint);
    let service = service.endpoint(Endpoint::bidi(&double(), doubling)).serve().await.unwrap();
    let client = client.rpc().client(config());
    let mut stream = soon(client.client_stream(&sum())).await.unwrap();
    for number in 1..=20 {
        soon(stream.send(number)).await.unwrap();
    }
    drop(stream);
    let (all, error) = soon(seen.recv()).await.unwrap();
    assert_eq!((all, error.unwrap().code()), (numbers(20), code::CANCELLED));

    let (mut sender, receiver) = soon(client.bidi(&double())).await.unwrap();
    soon(sender.send(1)).await.unwrap();
    drop(sender);
    // The handler passes the error on.
    let (all, error) = drained(receiver).await;
    assert_eq!((all, error.unwrap().code()), (vec![2], code::CANCELLED));
    eventually(PATIENCE, || async { service.health().running == 0 }).await;
}

#[tokio::test]
async fn a_client_that_reads_no_more_can_still_send() {
    let (_server, service, client) = sides().await;
    let (told, mut seen) = mpsc::unbounded_channel();
    let endpoint = Endpoint::bidi(
        &double(),
        move |request: Request<rpc::Receiver<u64>>, mut sender: Sender<u64>| {
            let told = told.clone();
            async move {
                let broken = loop {
                    match sender.send(0).await {
                        Ok(()) => {}
                        Err(error) => break error,
                    }
                };
                told.send((broken, drained(request.into_inner()).await)).unwrap();
                Ok::<_, rpc::RpcError>(())
            }
        },
    );
    service.rpc().service(config()).endpoint(endpoint).serve().await.unwrap();
    let client = client.rpc().client(config());
    let (mut sender, receiver) = soon(client.bidi(&double())).await.unwrap();
    drop(receiver);
    for number in 1..=500 {
        soon(sender.send(number)).await.unwrap();
    }
    sender.finish().await.unwrap();
    let (broken, (all, error)) = soon(seen.recv()).await.unwrap();
    assert_eq!(broken.code(), code::CANCELLED);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(all, numbers(500));
}

/// Either side's connection is cut in the middle: the reader gets an error behind what came, at once
/// or when it is missed.
async fn cut(clients: bool) {
    let server = Server::builder().start().await;
    let proxy = Proxy::start(server.address());
    let (direct, through) = (connect(&server).await, connect_to(&proxy.url()).await);
    let (service, client) = if clients { (direct, through) } else { (through, direct) };
    let (endpoint, mut reasons) = endless();
    service.rpc().service(config()).endpoint(endpoint).serve().await.unwrap();
    let client = client.rpc().client(config());
    let mut items = client.server_stream(&count_up(), 0).await.unwrap();
    for number in 1..=300 {
        assert_eq!(soon(items.next()).await.unwrap().unwrap(), number);
    }
    proxy.cut();
    let (rest, error) = drained(items).await;
    assert_eq!(rest, (301..301 + rest.len() as u64).collect::<Vec<_>>());
    assert_eq!(error.unwrap().code(), code::UNAVAILABLE);
    soon(reasons.recv()).await.unwrap();
    // And it goes on with the next one, once the connection is back.
    let again = async {
        loop {
            if let Ok(mut items) = client.server_stream(&count_up(), 0).await
                && let Some(Ok(1)) = items.next().await
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(again).await;
}

#[tokio::test]
async fn the_clients_connection_is_cut() {
    cut(true).await;
}

#[tokio::test]
async fn the_services_connection_is_cut() {
    cut(false).await;
}

#[tokio::test]
async fn a_drain_lets_streams_end() {
    let (_server, service, client) = sides().await;
    let sent = Arc::new(AtomicU64::new(0));
    let counter = sent.clone();
    let slow = Endpoint::server_stream(
        &count_up(),
        move |request: Request<u64>, mut sender: Sender<u64>| {
            let sent = counter.clone();
            async move {
                for number in 1..=request.into_inner() {
                    sender.send(number).await?;
                    sent.store(number, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Ok::<_, rpc::RpcError>(())
            }
        },
    );
    service.rpc().service(config()).endpoint(slow).serve().await.unwrap();
    let client = client.rpc().client(config());
    let items = client.server_stream(&count_up(), 500).await.unwrap();
    eventually(PATIENCE, || async { sent.load(Ordering::SeqCst) > 10 }).await;
    let (report, (all, error)) = futures::join!(service.drain(), drained(items));
    assert!(error.is_none(), "{error:?}");
    assert_eq!(all, numbers(500));
    assert!(report.is_clean(), "{report:?}");
}

/// A stream that is under way, or just opened, when its service's connector drains.
async fn outlasts_a_drain(under_way: bool) {
    let server = Server::builder().start().await;
    let settings = Settings::builder().set("NATS.SERVER", server.url());
    let settings = settings.set("NATS.DRAIN_TIMEOUT", "3s").build().unwrap();
    let service = Connector::connect(&settings).await.unwrap();
    let (endpoint, _reasons) = endless();
    service.rpc().service(config()).endpoint(endpoint).serve().await.unwrap();
    let client = connect(&server).await.rpc().client(config());
    let mut items = client.server_stream(&count_up(), 0).await.unwrap();
    if under_way {
        soon(items.next()).await.unwrap().unwrap();
    }
    let (_, (_, error)) = futures::join!(service.drain(), drained(items));
    let error = error.unwrap();
    assert_eq!(error.code(), code::UNAVAILABLE);
    assert!(error.message().contains("shuts down"), "{error}");
}

#[tokio::test]
async fn a_stream_that_outlasts_a_drain_is_told_so() {
    outlasts_a_drain(true).await;
}

#[tokio::test]
async fn a_stream_that_begins_with_a_drain_is_told_so() {
    outlasts_a_drain(false).await;
}

//! Streams that go well: complete and in order, whoever is slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use nats_connector::Connector;
use nats_connector::rpc::{Endpoint, Next, RawCall, Request, Response, Sender};
use testkit::{eventually, size};

use super::*;

/// The memory driver and a real server alike.
async fn each_way(service: &Connector, client: &Connector) {
    serve(service).await;
    let client = client.rpc().client(config());
    let items = size(2_000, 10_000);
    for _ in 0..size(3, 50) {
        let (all, error) = drained(client.server_stream(&count_up(), items).await.unwrap()).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(all, numbers(items));

        let mut stream = soon(client.client_stream(&sum())).await.unwrap();
        for number in 1..=items {
            soon(stream.send(number)).await.unwrap();
        }
        let answer = soon(stream.finish()).await.unwrap();
        assert_eq!(answer.into_inner(), items * (items + 1) / 2);

        let (mut sender, receiver) = soon(client.bidi(&double())).await.unwrap();
        let sending = async {
            for number in 1..=items {
                soon(sender.send(number)).await.unwrap();
            }
            sender.finish().await.unwrap();
        };
        let ((), (all, error)) = futures::join!(sending, drained(receiver));
        assert!(error.is_none(), "{error:?}");
        assert_eq!(all, numbers(items).iter().map(|n| 2 * n).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_item_comes_in_order_and_then_the_end() {
    let (_server, service, client) = sides().await;
    each_way(&service, &client).await;
}

#[tokio::test]
async fn the_same_in_one_process() {
    let connector = Connector::memory();
    each_way(&connector, &connector).await;
}

#[tokio::test]
async fn empty_streams_and_empty_messages() {
    let (_server, service, client) = sides().await;
    serve(&service).await;
    let client = client.rpc().client(config());
    let (all, error) = drained(client.server_stream(&count_up(), 0).await.unwrap()).await;
    assert!(all.is_empty() && error.is_none());
    let stream = soon(client.client_stream(&sum())).await.unwrap();
    assert_eq!(soon(stream.finish()).await.unwrap().into_inner(), 0);
    let (sender, receiver) = soon(client.bidi(&double())).await.unwrap();
    sender.finish().await.unwrap();
    let (all, error) = drained(receiver).await;
    assert!(all.is_empty() && error.is_none());
}

/// A handler that counts what it has sent.
fn counted(sent: &Arc<AtomicU64>) -> Endpoint {
    let sent = sent.clone();
    Endpoint::server_stream(&count_up(), move |request: Request<u64>, mut sender: Sender<u64>| {
        let sent = sent.clone();
        async move {
            for number in 1..=request.into_inner() {
                sender.send(number).await?;
                sent.store(number, Ordering::SeqCst);
            }
            Ok::<_, rpc::RpcError>(())
        }
    })
}

#[tokio::test]
async fn a_slow_reader_holds_the_sender_back() {
    let (_server, service, client) = sides().await;
    let sent = Arc::new(AtomicU64::new(0));
    service.rpc().service(config()).endpoint(counted(&sent)).serve().await.unwrap();
    let client = client.rpc().client(config());
    let method = count_up().window(10);
    let mut items = client.server_stream(&method, 1_000).await.unwrap();
    eventually(PATIENCE, || async { sent.load(Ordering::SeqCst) == 10 }).await;
    // With nothing read it stays there.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(sent.load(Ordering::SeqCst), 10);
    for number in 1..=30 {
        assert_eq!(soon(items.next()).await.unwrap().unwrap(), number);
    }
    eventually(PATIENCE, || async { sent.load(Ordering::SeqCst) >= 35 }).await;
    assert!(sent.load(Ordering::SeqCst) <= 40);
    let (rest, error) = drained(items).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(rest, (31..=1_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_slow_handler_holds_the_client_back() {
    let (_server, service, client) = sides().await;
    let (go, gate) = tokio::sync::watch::channel(false);
    let method = sum().window(8);
    let slow = Endpoint::client_stream(&method, move |request| {
        let mut gate = gate.clone();
        async move {
            gate.wait_for(|open| *open).await.unwrap();
            summing(request).await
        }
    });
    service.rpc().service(config()).endpoint(slow).serve().await.unwrap();
    let client = client.rpc().client(config());
    let mut stream = soon(client.client_stream(&sum())).await.unwrap();
    for number in 1..=8 {
        soon(stream.send(number)).await.unwrap();
    }
    let ninth = tokio::time::timeout(Duration::from_millis(300), stream.send(9)).await;
    assert!(ninth.is_err(), "more than the window was sent");
    go.send_replace(true);
    // What was given up was not sent: it goes again.
    for number in 9..=500 {
        soon(stream.send(number)).await.unwrap();
    }
    assert_eq!(soon(stream.finish()).await.unwrap().into_inner(), 500 * 501 / 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_go_side_by_side_and_a_stuck_one_holds_up_none() {
    let (_server, service, client) = sides().await;
    serve(&service).await;
    let client = client.rpc().client(config());
    let stuck = client.server_stream(&count_up(), 100_000).await.unwrap();
    let streams = (0..size(50, 200)).map(|_| {
        let client = client.clone();
        async move { drained(client.server_stream(&count_up(), 200).await.unwrap()).await }
    });
    for (all, error) in join_all(streams).await {
        assert!(error.is_none(), "{error:?}");
        assert_eq!(all, numbers(200));
    }
    drop(stuck);
}

#[tokio::test]
async fn headers_go_both_ways_and_a_receiver_is_a_stream() {
    let (_server, service, client) = sides().await;
    let greet = Method::<String, String>::message_pack("greet");
    let answer = Endpoint::client_stream(&greet, |request: Request<rpc::Receiver<String>>| async {
        let who = request.headers().get("X-Who").unwrap().to_string();
        let words: Vec<String> = request.into_inner().map(|word| word.unwrap()).collect().await;
        Response::new(format!("{} {who}", words.join(" "))).header("X-Words", "2")
    });
    service.rpc().service(config()).endpoint(answer).serve().await.unwrap();
    let client = client.rpc().client(config());
    let mut stream = soon(client.client_stream(&greet).header("X-Who", "you")).await.unwrap();
    for word in ["good", "day"] {
        soon(stream.send(word.to_owned())).await.unwrap();
    }
    let response = soon(stream.finish()).await.unwrap();
    assert_eq!(response.get(), "good day you");
    assert_eq!(response.headers().get("X-Words").unwrap().as_str(), "2");
}

#[tokio::test]
async fn a_stream_holds_its_place_and_is_counted() {
    let (_server, service, client) = sides().await;
    let service = service
        .rpc()
        .service(config())
        .concurrency(1)
        .waiting(0)
        .endpoint(Endpoint::server_stream(&count_up(), counting));
    let service = service.serve().await.unwrap();
    let client = client.rpc().client(config());
    let mut first = client.server_stream(&count_up(), 100_000).await.unwrap();
    soon(first.next()).await.unwrap().unwrap();
    let (all, error) = drained(client.server_stream(&count_up(), 1).await.unwrap()).await;
    assert!(all.is_empty());
    assert_eq!(error.unwrap().code(), rpc::code::RESOURCE_EXHAUSTED);
    drop(first);
    // The place is free again once the handler has seen it.
    eventually(PATIENCE, || async { service.health().running == 0 }).await;
    let (all, error) = drained(client.server_stream(&count_up(), 3).await.unwrap()).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(all, numbers(3));
}

#[tokio::test]
async fn interceptors_stand_around_streams_at_both_sides() {
    let (_server, service, client) = sides().await;
    let seen = Arc::new(AtomicU64::new(0));
    let ended = seen.clone();
    let guard = move |call: RawCall, next: Next| {
        let ended = ended.clone();
        async move {
            if call.header("Authorization") != Some("me") {
                return Err(RpcError::new(rpc::code::UNAUTHENTICATED, "who are you"));
            }
            let served = next.run(call).await;
            ended.fetch_add(1, Ordering::SeqCst);
            served
        }
    };
    let guarded = Endpoint::server_stream(&count_up(), counting).intercept(guard);
    service.rpc().service(config()).endpoint(guarded).serve().await.unwrap();
    let client = client.rpc().client(config());
    let (all, error) = drained(client.server_stream(&count_up(), 3).await.unwrap()).await;
    assert!(all.is_empty());
    assert_eq!(error.unwrap().code(), rpc::code::UNAUTHENTICATED);
    let signed = client.intercept(|mut call: RawCall, next: Next| async move {
        call.set_header("Authorization", "me")?;
        next.run(call).await
    });
    let items = soon(signed.server_stream(&count_up(), 600)).await.unwrap();
    let (all, error) = drained(items).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(all, numbers(600));
    // It saw the whole stream.
    eventually(PATIENCE, || async { seen.load(Ordering::SeqCst) == 1 }).await;
}

//! Errors: in the middle, before the beginning, by time, and what cannot be decoded.

use std::time::Duration;

use nats_connector::rpc::{Endpoint, Request, RpcError, Sender, code};
use serde::{Deserialize, Serialize};
use testkit::Permissions;

use super::*;

#[tokio::test]
async fn an_error_comes_behind_the_items_before_it() {
    let (_server, service, client) = sides().await;
    let endpoint = |items: u64| {
        Endpoint::server_stream(
            &count_up(),
            move |_: Request<u64>, mut sender: Sender<u64>| async move {
                for number in 1..=items {
                    sender.send(number).await?;
                }
                Err(RpcError::new("OUT_OF_PAPER", "line\none").with_body("tray 2"))
            },
        )
    };
    service.rpc().service(config()).endpoint(endpoint(700)).serve().await.unwrap();
    let client = client.rpc().client(config());
    let (all, error) = drained(client.server_stream(&count_up(), 0).await.unwrap()).await;
    assert_eq!(all, numbers(700));
    let error = error.unwrap();
    assert_eq!((error.code(), error.message()), ("OUT_OF_PAPER", "line one"));
    assert_eq!(error.body(), "tray 2");
    assert!(error.is_remote());
}

#[tokio::test]
async fn nobody_serves_it() {
    let (_server, _service, client) = sides().await;
    for connector in [client, Connector::memory()] {
        let client = connector.rpc().client(config());
        let (all, error) = drained(client.server_stream(&count_up(), 1).await.unwrap()).await;
        assert!(all.is_empty());
        let error = error.unwrap();
        assert!(error.is_no_responders(), "{error:?}");
        assert_eq!(error.code(), code::UNAVAILABLE);
        let error = soon(client.client_stream(&sum())).await.unwrap_err();
        assert!(error.is_no_responders(), "{error:?}");
        let error = soon(client.bidi(&double())).await.unwrap_err();
        assert!(error.is_no_responders(), "{error:?}");
    }
}

#[tokio::test]
async fn an_error_in_place_of_an_answer_stops_the_client() {
    let (_server, service, client) = sides().await;
    let refuse = Endpoint::client_stream(&sum(), |request: Request<rpc::Receiver<u64>>| async {
        let mut numbers = request.into_inner();
        let _ = numbers.next().await;
        Err::<u64, _>(RpcError::invalid_argument("no more, please"))
    });
    service.rpc().service(config()).endpoint(refuse).serve().await.unwrap();
    let client = client.rpc().client(config());
    let mut stream = soon(client.client_stream(&sum())).await.unwrap();
    let sending = async {
        loop {
            if stream.send(1).await.is_err() {
                return;
            }
        }
    };
    soon(sending).await;
    let error = soon(stream.finish()).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (code::INVALID_ARGUMENT, "no more, please"));
}

#[tokio::test]
async fn an_early_answer_is_an_answer() {
    let (_server, service, client) = sides().await;
    let early = Endpoint::client_stream(&sum(), |request: Request<rpc::Receiver<u64>>| async {
        let first = request.into_inner().next().await;
        first.unwrap_or(Ok(0))
    });
    service.rpc().service(config()).endpoint(early).serve().await.unwrap();
    let client = client.rpc().client(config());
    let mut stream = soon(client.client_stream(&sum())).await.unwrap();
    let sending = async { while stream.send(7).await.is_ok() {} };
    soon(sending).await;
    assert_eq!(soon(stream.finish()).await.unwrap().into_inner(), 7);
}

#[derive(Debug, Serialize, Deserialize)]
struct Other {
    name: String,
}

#[tokio::test]
async fn what_cannot_be_decoded_is_told_at_either_side() {
    let (_server, service, client) = sides().await;
    serve(&service).await;
    let client = client.rpc().client(config());
    // The request.
    let wrong = Method::<Other, u64>::json("count_up");
    let name = || Other { name: "x".into() };
    let (_, error) = drained(client.server_stream(&wrong, name()).await.unwrap()).await;
    assert_eq!(error.unwrap().code(), code::INVALID_ARGUMENT);
    // An item, at the client.
    let wrong = Method::<u64, Other>::json("count_up");
    let (all, error) = drained(client.server_stream(&wrong, 5).await.unwrap()).await;
    assert!(all.is_empty() && error.is_some());
    // An item, at the service.
    let wrong = Method::<Other, u64>::json("sum");
    let mut stream = soon(client.client_stream(&wrong)).await.unwrap();
    let _ = soon(stream.send(name())).await;
    assert!(soon(stream.finish()).await.is_err());
}

#[tokio::test]
async fn panics_and_time_limits_end_the_stream() {
    let (_server, service, client) = sides().await;
    let panics = Endpoint::server_stream(
        &count_up(),
        |_: Request<u64>, mut sender: Sender<u64>| async move {
            sender.send(1).await.unwrap();
            assert!(sender.send(2).await.is_err(), "of purpose");
            Ok::<_, rpc::RpcError>(())
        },
    );
    let never = Method::<u64, u64>::json("never");
    let hangs =
        Endpoint::server_stream(&never, |_: Request<u64>, mut sender: Sender<u64>| async move {
            sender.send(1).await?;
            std::future::pending::<rpc::Result<()>>().await
        });
    let hangs = hangs.timeout(Duration::from_millis(200));
    service.rpc().service(config()).endpoint(panics).endpoint(hangs).serve().await.unwrap();
    let client = client.rpc().client(config());
    let (all, error) = drained(client.server_stream(&count_up(), 0).await.unwrap()).await;
    assert_eq!((all, error.unwrap().code()), (vec![1, 2], code::INTERNAL));
    let (all, error) = drained(client.server_stream(&never, 0).await.unwrap()).await;
    let error = error.unwrap();
    assert_eq!((all, error.code()), (vec![1], code::DEADLINE_EXCEEDED));
    assert!(error.is_remote());
}

#[tokio::test]
async fn the_clients_own_limits() {
    let (_server, service, client) = sides().await;
    let never = Method::<u64, u64>::json("never");
    let hangs =
        Endpoint::server_stream(&never, |_: Request<u64>, mut sender: Sender<u64>| async move {
            sender.send(1).await?;
            Err::<(), _>(sender.closed().await)
        });
    let service = service.rpc().service(config()).endpoint(hangs).serve().await.unwrap();
    let client = client.rpc().client(config());
    let limit = Duration::from_millis(300);
    for call in [
        client.server_stream(&never, 0).timeout(limit),
        client.server_stream(&never, 0).idle_timeout(limit),
    ] {
        let (all, error) = drained(call.await.unwrap()).await;
        let error = error.unwrap();
        assert_eq!((all, error.code()), (vec![1], code::DEADLINE_EXCEEDED), "{error:?}");
        assert!(!error.is_remote());
        // The service is told.
        testkit::eventually(PATIENCE, || async { service.health().running == 0 }).await;
    }
}

#[tokio::test]
async fn too_large_an_item_is_refused_and_the_stream_goes_on() {
    let (_server, service, client) = sides().await;
    let texts = Method::<String, u64>::json("texts");
    let lengths =
        Endpoint::client_stream(&texts, |request: Request<rpc::Receiver<String>>| async {
            let mut texts = request.into_inner();
            let mut length = 0;
            while let Some(text) = texts.next().await {
                length += text?.len() as u64;
            }
            Ok::<_, rpc::RpcError>(length)
        });
    service.rpc().service(config()).endpoint(lengths).serve().await.unwrap();
    let client = client.rpc().client(config());
    let mut stream = soon(client.client_stream(&texts)).await.unwrap();
    soon(stream.send("x".repeat(10))).await.unwrap();
    let error = soon(stream.send("x".repeat(2 << 20))).await.unwrap_err();
    assert_eq!(error.code(), code::INVALID_ARGUMENT);
    soon(stream.send("x".repeat(5))).await.unwrap();
    assert_eq!(soon(stream.finish()).await.unwrap().into_inner(), 15);
}

#[tokio::test]
async fn a_bad_header_is_refused_before_anything_is_sent() {
    let (_server, _service, client) = sides().await;
    let client = client.rpc().client(config());
    let error = client.server_stream(&count_up(), 1).header("X", "a\r\nb").await.unwrap_err();
    assert_eq!(error.code(), code::INVALID_ARGUMENT);
}

#[tokio::test]
async fn a_method_that_may_not_be_called_is_told_at_once() {
    let permissions = Permissions::default().deny_publish(&["api.v1.stream.>"]);
    let server = Server::builder().user_with("ann", "secret", &permissions).start().await;
    let settings = Settings::builder().set("NATS.SERVER", server.url());
    let settings = settings.set("NATS.USERNAME", "ann").set("NATS.PASSWORD", "secret");
    // A stream that waits for its acceptance would end by this limit, the others not at all.
    let settings = settings.set("NATS.REQUEST_TIMEOUT", "10m").build().unwrap();
    let connector = Connector::connect(&settings).await.unwrap();
    let client = connector.rpc().client(config());
    let calls = async {
        let mut calls: Vec<_> = Vec::new();
        for _ in 0..20 {
            calls.push(client.server_stream(&count_up(), 1).await.unwrap());
        }
        for call in calls {
            let (all, error) = drained(call).await;
            assert!(all.is_empty());
            let error = error.unwrap();
            assert!(error.is(code::PERMISSION_DENIED), "{error}");
            assert!(error.to_string().contains("subject=api.v1.stream.count_up"), "{error}");
        }
        assert!(client.client_stream(&sum()).await.unwrap_err().is(code::PERMISSION_DENIED));
        assert!(client.bidi(&double()).await.unwrap_err().is(code::PERMISSION_DENIED));
    };
    tokio::time::timeout(PATIENCE, calls).await.unwrap();
}

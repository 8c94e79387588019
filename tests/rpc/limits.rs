//! How many calls run, how long, and what becomes of handlers that panic.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use nats_connector::rpc::{Endpoint, Method, Request, RpcError, ServiceConfig, code};
use testkit::{Server, eventually};

use crate::{
    Door, Get, PATIENCE, Profile, connect, find, get, get_profile, is_full, profiles, raw,
    serve_with,
};

#[tokio::test(flavor = "multi_thread")]
async fn as_many_calls_run_at_once_as_may() {
    let server = Server::builder().start().await;
    let (serving, calling) = (connect(&server).await, connect(&server).await);
    let door = Door::closed();
    serve_with(&serving.rpc(), door.endpoint(&get_profile()).concurrency(40)).await;
    let client = calling.rpc().client(profiles());
    let calls = (0..64).map(|n| tokio::spawn(client.call(&get_profile(), get(&n.to_string()))));
    let calls: Vec<_> = calls.collect();
    door.wait_for(40).await;
    serving.pubsub().flush().await.unwrap();
    assert_eq!(door.waiting.load(Ordering::SeqCst), 40);
    door.open();
    for (n, call) in join_all(calls).await.into_iter().enumerate() {
        assert_eq!(call.unwrap().unwrap().get().id, n.to_string());
    }
    assert_eq!(door.most.load(Ordering::SeqCst), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_endpoint_says_so_at_once_and_holds_up_nobody() {
    let server = Server::builder().start().await;
    let (serving, calling) = (connect(&server).await, connect(&server).await);
    let door = Door::closed();
    let other = Method::<Get, Profile>::json("other");
    let service = serving
        .rpc()
        .service(profiles())
        .endpoint(door.endpoint(&get_profile()).concurrency(2).waiting(3))
        .endpoint(Endpoint::unary(&other, find))
        .serve()
        .await
        .unwrap();
    let client = calling.rpc().client(profiles());
    let calls: Vec<_> =
        (0..5).map(|_| tokio::spawn(client.call(&get_profile(), get("1")))).collect();
    eventually(PATIENCE, || async { service.health().full == ["get_profile"] }).await;
    let health = service.health();
    assert_eq!((health.running, health.waiting, health.serving), (2, 3, true));
    for _ in 0..3 {
        let error = client.call(&get_profile(), get("1")).await.unwrap_err();
        assert!(is_full(&error) && error.is_remote(), "{error}");
        assert!(error.message().contains("2 calls running and 3 waiting"), "{error}");
    }
    client.call(&other, get("1")).await.unwrap();
    assert!(raw(&server).await.request("$SRV.PING.profiles", "".into()).await.is_ok());
    door.open();
    for call in join_all(calls).await {
        call.unwrap().unwrap();
    }
    client.call(&get_profile(), get("1")).await.unwrap();
    let stats = service.stats().endpoints[0].clone();
    assert_eq!((stats.num_requests, stats.num_errors), (9, 3));
    assert!(stats.last_error.starts_with("RESOURCE_EXHAUSTED:get_profile has 2 calls"));
    assert_eq!(stats.data["refused"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_at_a_time_without_waiting_room() {
    let server = Server::builder().start().await;
    let connector = connect(&server).await;
    let door = Door::closed();
    let endpoint = door.endpoint(&get_profile()).concurrency(1).waiting(0);
    serve_with(&connector.rpc(), endpoint).await;
    let client = connector.rpc().client(profiles());
    let first = tokio::spawn(client.call(&get_profile(), get("1")));
    door.wait_for(1).await;
    assert!(is_full(&client.call(&get_profile(), get("1")).await.unwrap_err()));
    door.open();
    first.await.unwrap().unwrap();
    // Each place is free again by the time that its answer is there, or a moment later.
    eventually(PATIENCE, || async { client.call(&get_profile(), get("2")).await.is_ok() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_that_take_too_long_are_dropped_and_told() {
    let server = Server::builder().start().await;
    let connector = connect(&server).await;
    let (dropped, mut drops) = tokio::sync::mpsc::unbounded_channel();
    let method = get_profile().timeout(Duration::from_millis(100));
    let endpoint = Endpoint::unary(&method, move |_: Request<Get>| {
        let dropped = dropped.clone();
        async move {
            struct OnDrop(tokio::sync::mpsc::UnboundedSender<()>);
            impl Drop for OnDrop {
                fn drop(&mut self) {
                    let _ = self.0.send(());
                }
            }
            let _on_drop = OnDrop(dropped);
            std::future::pending::<Result<Profile, RpcError>>().await
        }
    });
    let service = serve_with(&connector.rpc(), endpoint).await;
    // A client that knows of no limit waits for the service's.
    let client = connector.rpc().client(profiles());
    let error = client.call(&get_profile(), get("1")).await.unwrap_err();
    assert!(error.is(code::DEADLINE_EXCEEDED) && error.is_remote(), "{error:?}");
    assert!(error.message().contains("100ms"), "{error}");
    drops.recv().await.unwrap();
    assert_eq!(service.stats().endpoints[0].data["timeouts"], 1);
    // Its own limit ends the call on this side.
    let error = client.call(&get_profile(), get("1")).timeout(Duration::from_millis(1)).await;
    let error = error.unwrap_err();
    assert!(error.is(code::DEADLINE_EXCEEDED) && !error.is_remote(), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_a_call_counts_while_it_waits_and_its_limit_is_the_nearest() {
    let server = Server::builder().start().await;
    let connector = connect(&server).await;
    let door = Door::closed();
    let (slow, free) = (Method::<Get, Profile>::json("slow"), Method::<Get, Profile>::json("free"));
    let config = ServiceConfig::new("clock").timeout(Duration::from_millis(200));
    let service = connector
        .rpc()
        .service(config)
        .endpoint(door.endpoint(&slow).concurrency(1))
        .endpoint(door.endpoint(&free).timeout(Duration::ZERO))
        .serve()
        .await
        .unwrap();
    let client = connector.rpc().client(ServiceConfig::new("clock"));
    let endless = tokio::spawn(client.call(&free, get("1")));
    let calls = join_all((0..3).map(|_| client.call(&slow, get("1")))).await;
    assert!(calls.iter().all(|it| it.as_ref().is_err_and(|e| e.is(code::DEADLINE_EXCEEDED))));
    assert_eq!(service.stats().endpoints[0].data["timeouts"], 3);
    // Those that waited never began.
    assert!(door.most.load(Ordering::SeqCst) <= 3);
    door.open();
    endless.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_its_call_alone_and_keeps_its_text() {
    let server = Server::builder().start().await;
    let connector = connect(&server).await;
    let endpoint = Endpoint::unary(&get_profile(), |request: Request<Get>| {
        // Also before there is a future.
        assert_ne!(request.get().id, "early", "secret-of-early");
        async move {
            assert_ne!(request.get().id, "late", "secret-of-late");
            find(request).await
        }
    });
    let service = serve_with(&connector.rpc(), endpoint.concurrency(1)).await;
    let client = connector.rpc().client(profiles());
    for _ in 0..3 {
        for id in ["early", "late"] {
            let error = client.call(&get_profile(), get(id)).await.unwrap_err();
            assert_eq!((error.code(), error.message()), ("INTERNAL", "the handler panicked"));
        }
        client.call(&get_profile(), get("1")).await.unwrap();
    }
    let stats = service.stats();
    assert_eq!(stats.endpoints[0].data["panics"], 6);
    assert!(!format!("{stats:?}").contains("secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_above_the_limit_are_told_as_errors() {
    let server = Server::builder().start().await;
    let connector = connect(&server).await;
    let method = Method::<usize, String>::json("big");
    let endpoint = Endpoint::unary(&method, |r: Request<usize>| async move {
        Ok::<_, RpcError>("x".repeat(*r.get()))
    });
    serve_with(&connector.rpc(), endpoint).await;
    let client = connector.rpc().client(profiles());
    let error = client.call(&method, 2_000_000).await.unwrap_err();
    assert!(error.is(code::INTERNAL) && error.is_remote(), "{error}");
    assert!(
        error.message().contains("too large") && error.message().contains("1048576"),
        "{error}"
    );
    assert_eq!(client.call(&method, 10).await.unwrap().get().len(), 10);
}

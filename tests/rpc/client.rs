//! Calls that fail before anybody serves them, and services in process.

use std::time::Duration;

use nats_connector::rpc::{Method, ServiceConfig, code};
use nats_connector::{Connector, Error, ErrorKind};
use testkit::{Proxy, Server};

use crate::{Get, PATIENCE, Profile, connect, connect_with, get, get_profile, profiles, serve};

fn source(error: &nats_connector::rpc::RpcError) -> &Error {
    std::error::Error::source(error).and_then(|it| it.downcast_ref()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_told_at_once() {
    let server = Server::builder().start().await;
    for connector in [connect(&server).await, Connector::memory()] {
        let client = connector.rpc().client(profiles());
        let begun = std::time::Instant::now();
        let error = client.call(&get_profile(), get("1")).timeout(PATIENCE * 10).await.unwrap_err();
        assert!(begun.elapsed() < PATIENCE);
        assert!(error.is_no_responders() && error.is(code::UNAVAILABLE), "{error:?}");
        assert!(!error.is_remote());
        assert!(error.to_string().contains("api.v1.profiles.get_profile"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_work_is_refused_before_it_is_sent() {
    let server = Server::builder().start().await;
    let connector = connect(&server).await;
    let service = serve(&connector.rpc()).await;
    let client = connector.rpc().client(profiles());
    let error = client.call(&get_profile(), get(&"x".repeat(2_000_000))).await.unwrap_err();
    assert_eq!((error.code(), source(&error).kind()), ("INVALID_ARGUMENT", ErrorKind::TooLarge));
    let error = client.call(&get_profile(), get("1")).header("Evil", "a\r\nb").await.unwrap_err();
    assert_eq!(
        (error.code(), source(&error).kind()),
        ("INVALID_ARGUMENT", ErrorKind::InvalidInput)
    );
    let wild = connector.rpc().client(ServiceConfig::new("x").prefix("api.*"));
    let error = wild.call(&get_profile(), get("1")).await.unwrap_err();
    assert_eq!(source(&error).kind(), ErrorKind::InvalidInput);
    assert_eq!(service.stats().endpoints[0].num_requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_the_calls_then_the_methods_then_the_services_then_the_handles() {
    let server = Server::builder().start().await;
    let connector = connect_with(&server, &[("NATS.REQUEST_TIMEOUT", "300ms")]).await;
    let _silent = connector.pubsub().messages("api.v1.profiles.*").await.unwrap();
    let short = Duration::from_millis(50);
    let method = || Method::<Get, Profile>::json("silent");
    let client = connector.rpc().client(profiles().timeout(PATIENCE));
    let begun = std::time::Instant::now();
    for error in [
        client.call(&method().timeout(PATIENCE), get("1")).timeout(short).await,
        client.call(&method().timeout(short), get("1")).await,
        connector.rpc().client(profiles().timeout(short)).call(&method(), get("1")).await,
        connector.rpc().client(profiles()).call(&method(), get("1")).await,
    ] {
        let error = error.unwrap_err();
        assert!(error.is(code::DEADLINE_EXCEEDED) && !error.is_remote(), "{error}");
    }
    assert!(begun.elapsed() < PATIENCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_unavailable_and_passes() {
    let server = Server::builder().start().await;
    let proxy = Proxy::start(server.address());
    let connector = connect_with(&server, &[("NATS.SERVER", &proxy.url())]).await;
    serve(&connector.rpc()).await;
    let client = connector.rpc().client(profiles());
    client.call(&get_profile(), get("1")).await.unwrap();
    proxy.refuse();
    proxy.cut();
    testkit::eventually(PATIENCE, || async {
        let call = client.call(&get_profile(), get("1")).timeout(Duration::from_secs(1)).await;
        call.is_err_and(|error| error.is(code::UNAVAILABLE) && !error.is_no_responders())
    })
    .await;
    proxy.resume();
    testkit::eventually(PATIENCE, || async {
        client.call(&get_profile(), get("1")).timeout(PATIENCE).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_run_in_process_too() {
    let connector = Connector::memory();
    let rpc = connector.rpc();
    let service = serve(&rpc).await;
    let client = rpc.client(profiles());
    assert_eq!(client.call(&get_profile(), get("7")).await.unwrap().get().name, "Ann 7");
    let error = client.call(&get_profile(), get("nobody")).await.unwrap_err();
    assert_eq!((error.code(), error.body()), ("NOT_FOUND", &"the body".into()));
    let found = rpc.discover().name("profiles").infos().await.unwrap();
    assert_eq!(found, [service.info()]);
    let report = connector.drain().await;
    assert!(report.is_clean(), "{report:?}");
    assert!(client.call(&get_profile(), get("7")).await.unwrap_err().is(code::UNAVAILABLE));
}

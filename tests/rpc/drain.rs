//! Leaving without losing a call, and staying through what happens to the connection.

use std::time::Duration;

use futures::future::join_all;
use nats_connector::ErrorKind;
use testkit::{Proxy, Server, eventually};

use crate::{Door, PATIENCE, connect, connect_with, get, get_profile, profiles, serve, serve_with};

#[tokio::test(flavor = "multi_thread")]
async fn calls_under_way_and_those_that_wait_are_answered() {
    let server = Server::builder().start().await;
    let calling = connect(&server).await;
    let client = calling.rpc().client(profiles());
    for whole in [true, false] {
        let serving = connect(&server).await;
        let door = Door::closed();
        let endpoint = door.endpoint(&get_profile()).concurrency(3);
        let service = serve_with(&serving.rpc(), endpoint).await;
        let calls: Vec<_> =
            (0..10).map(|_| tokio::spawn(client.call(&get_profile(), get("1")))).collect();
        door.wait_for(3).await;
        eventually(PATIENCE, || async { service.health().waiting == 7 }).await;
        let (leaving, told) = (serving.clone(), service.clone());
        let drain = tokio::spawn(async move {
            match whole {
                true => {
                    let report = leaving.drain().await;
                    assert!(report.is_clean() && report.handlers_finished >= 10, "{report:?}");
                }
                false => told.drain().await.unwrap(),
            }
        });
        // New calls find nobody, while those before are at work.
        eventually(PATIENCE, || async {
            let call = client.call(&get_profile(), get("2")).timeout(Duration::from_millis(300));
            call.await.is_err_and(|error| error.is_no_responders())
        })
        .await;
        assert!(!drain.is_finished());
        door.open();
        for call in join_all(calls).await {
            call.unwrap().unwrap();
        }
        drain.await.unwrap();
        assert!(!service.health().serving);
        if !whole {
            // The connection goes on without the service.
            assert!(serving.rpc().discover().name("profiles").services().await.unwrap().is_empty());
            serve(&serving.rpc()).await;
            client.call(&get_profile(), get("1")).await.unwrap();
            serving.drain().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_by_its_deadline_and_tells() {
    let server = Server::builder().start().await;
    let serving = connect_with(&server, &[("NATS.DRAIN_TIMEOUT", "1s")]).await;
    let calling = connect(&server).await;
    let door = Door::closed();
    let service = serve_with(&serving.rpc(), door.endpoint(&get_profile()).concurrency(1)).await;
    let client = calling.rpc().client(profiles());
    let calls: Vec<_> = (0..2)
        .map(|_| tokio::spawn(client.call(&get_profile(), get("1")).timeout(PATIENCE)))
        .collect();
    door.wait_for(1).await;
    eventually(PATIENCE, || async { service.health().waiting == 1 }).await;
    let error = service.drain().timeout(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("api.v1.profiles.get_profile"), "{error}");
    let report = serving.drain().await;
    assert_eq!((report.handlers_abandoned, report.is_clean()), (2, false), "{report:?}");
    for call in calls {
        call.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_costs_no_answer() {
    let server = Server::builder().start().await;
    let proxy = Proxy::start(server.address());
    let serving = connect_with(&server, &[("NATS.SERVER", &proxy.url())]).await;
    let calling = connect(&server).await;
    let door = Door::closed();
    let service = serve_with(&serving.rpc(), door.endpoint(&get_profile())).await;
    let client = calling.rpc().client(profiles());
    let call = tokio::spawn(client.call(&get_profile(), get("1")));
    door.wait_for(1).await;
    proxy.refuse();
    proxy.cut();
    eventually(PATIENCE, || async { !serving.health().await.is_ready() }).await;
    door.open();
    tokio::time::sleep(Duration::from_millis(200)).await;
    proxy.resume();
    call.await.unwrap().unwrap();
    eventually(PATIENCE, || async { client.call(&get_profile(), get("2")).await.is_ok() }).await;
    assert!(service.health().serving);
    assert!(serving.rpc().discover().name("profiles").services().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_again_is_served_again() {
    let mut server = Server::builder().start().await;
    let connector = connect(&server).await;
    serve(&connector.rpc()).await;
    let client = connector.rpc().client(profiles());
    client.call(&get_profile(), get("1")).await.unwrap();
    server.kill().await;
    server.restart().await;
    eventually(PATIENCE, || async { client.call(&get_profile(), get("2")).await.is_ok() }).await;
}

//! Registering, from the first time to the end of the process. One test: there is one registration.

use std::time::Duration;

use futures::StreamExt;
use nats_connector::connector::{State, global};
use nats_connector::{Connector, ErrorKind, Settings, pubsub, register_with, shutdown};
use testkit::{Server, eventually};

const LONG: Duration = Duration::from_secs(60);

fn settings(url: &str, name: &str) -> Settings {
    Settings::builder()
        .set("NATS.SERVER", url)
        .set("NATS.NAME", name)
        .set("NATS.MAX_RECONNECT", "1")
        .set("NATS.RECONNECT_WAIT", "20ms")
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_one_registration() {
    let mut server = Server::builder().start().await;
    let url = server.url();

    // Nothing is there yet.
    assert!(global().is_none());
    let early = pubsub::default_driver();
    for error in [pubsub::publish("a", &1).await.unwrap_err(), early.flush().await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::NotRegistered);
        assert!(error.to_string().contains("nats_connector::register()"), "{error}");
    }
    let nowhere = settings("nats://127.0.0.1:1", "app");
    let error = register_with(nowhere).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("connection refused"), "{error}");
    assert!(global().is_none());

    // Many at once make one connection; other settings are refused.
    let calls = (0..8).map(|_| tokio::spawn(register_with(settings(&url, "app")).into_future()));
    for registered in futures::future::join_all(calls).await {
        assert_eq!(registered.unwrap().unwrap().state(), State::Connected);
    }
    assert_eq!(server.varz().await["connections"], 1);
    let error = register_with(settings(&url, "other")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");

    // The free functions and handles made before use it.
    let mut heard = pubsub::messages("a").await.unwrap();
    early.publish("a", &1).await.unwrap();
    assert_eq!(heard.next().await.unwrap().decode::<u32>().unwrap(), 1);

    // Closed for good, it is connected anew, and all follow.
    server.kill().await;
    let first = global().unwrap();
    eventually(LONG, || async { first.state() == State::Closed }).await;
    assert!(heard.next().await.is_none());
    assert_eq!(pubsub::publish("a", &1).await.unwrap_err().kind(), ErrorKind::Closed);
    let error = register_with(settings(&url, "app")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    server.restart().await;
    let second = register_with(settings(&url, "other")).await.unwrap();
    assert_eq!(second.state(), State::Connected);
    assert_eq!(first.state(), State::Closed);
    // What it still had to send is lost, which the report of the shutdown would tell.
    drop((first, heard));
    let mut heard = early.messages("a").await.unwrap();
    pubsub::publish("a", &2).await.unwrap();
    assert_eq!(heard.next().await.unwrap().decode::<u32>().unwrap(), 2);

    // After a drain too.
    assert!(second.drain().await.is_clean());
    let third = register_with(settings(&url, "app")).await.unwrap();
    pubsub::flush().await.unwrap();

    // In this process, without a server.
    assert!(third.drain().await.is_clean());
    let memory = Settings::builder().set("NATS.SERVER", "memory:").build().unwrap();
    register_with(memory).await.unwrap();
    let mut heard = pubsub::messages("a").await.unwrap();
    pubsub::publish("a", &3).await.unwrap();
    assert_eq!(heard.next().await.unwrap().decode::<u32>().unwrap(), 3);
    assert_eq!(early.driver().unwrap().name(), "memory");
    global().unwrap().drain().await;

    // A default that the application chose stays.
    let own = Connector::memory();
    pubsub::set_default_driver(own.pubsub());
    register_with(settings(&url, "app")).await.unwrap();
    let mut heard = own.pubsub().messages("a").await.unwrap();
    pubsub::publish("a", &4).await.unwrap();
    assert_eq!(heard.next().await.unwrap().decode::<u32>().unwrap(), 4);
    assert_eq!(pubsub::default_driver().driver().unwrap().name(), "memory");
    assert_eq!(pubsub::drivers(), ["nats"]);
    pubsub::driver("nats").unwrap().flush().await.unwrap();

    // A shutdown drains it and all others, and nothing can be registered any more.
    let report = shutdown::run().await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(global().unwrap().state(), State::Closed);
    assert_eq!(own.state(), State::Closed);
    let error = register_with(settings(&url, "app")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
}

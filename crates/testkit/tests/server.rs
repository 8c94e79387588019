//! Servers start, answer, die and come back.

use std::time::Duration;

use async_nats::jetstream;
use futures::StreamExt;
use testkit::fetch::BINARY_VARIABLE;
use testkit::{Permissions, Server, Version, eventually};

const SOON: Duration = Duration::from_secs(60);

async fn answers(client: &async_nats::Client) {
    let mut messages = client.subscribe("hello").await.unwrap();
    client.publish("hello", "you".into()).await.unwrap();
    let message = tokio::time::timeout(SOON, messages.next()).await.unwrap().unwrap();
    assert_eq!(message.payload, "you");
}

#[tokio::test]
async fn every_version_starts_with_jetstream() {
    for version in
        [Version::V2_15, Version::V2_12, Version::V2_11, Version::V2_10, Version::Debian29]
    {
        if !testkit::require(version) {
            continue;
        }
        let server = Server::builder().version(version).jetstream().start().await;
        let client = async_nats::connect(server.url()).await.unwrap();
        answers(&client).await;
        let replaced = version == Version::V2_15 && std::env::var_os(BINARY_VARIABLE).is_some();
        assert!(replaced || client.server_info().version.starts_with(version.release()));
        let created = client.request("$JS.API.STREAM.CREATE.S", r#"{"name":"S"}"#.into()).await;
        let reply = String::from_utf8(created.unwrap().payload.to_vec()).unwrap();
        assert!(reply.contains("\"did_create\":true"), "{reply}");
    }
}

#[tokio::test]
async fn a_killed_server_comes_back_on_its_port_with_its_store() {
    let mut server = Server::builder().jetstream().start().await;
    let (port, pid) = (server.port(), server.pid());
    let client = async_nats::connect(server.url()).await.unwrap();
    let context = jetstream::new(client);
    let config = jetstream::kv::Config { bucket: "kept".into(), ..Default::default() };
    let bucket = context.create_key_value(config).await.unwrap();
    bucket.put("key", "value".into()).await.unwrap();

    server.kill().await;
    assert!(!server.is_running());
    assert!(std::net::TcpStream::connect(server.address()).is_err());
    server.restart().await;
    assert_eq!(server.port(), port);
    assert_ne!(server.pid(), pid);
    eventually(SOON, || async {
        bucket.get("key").await.is_ok_and(|value| value.unwrap() == "value")
    })
    .await;

    server.stop().await;
    assert!(server.log().contains("Server Exiting"), "{}", server.log());
    server.restart().await;
    assert_eq!(server.port(), port);
}

#[tokio::test]
async fn only_the_named_users_get_in() {
    let may = Permissions::default().publish(&["hello"]).subscribe(&["hello", "_INBOX.>"]);
    let server =
        Server::builder().user("admin", "a\"b\\$c").user_with("narrow", "n", &may).start().await;
    assert!(async_nats::connect(server.url()).await.is_err());

    let options = async_nats::ConnectOptions::with_user_and_password;
    let admin = options("admin".into(), "a\"b\\$c".into()).connect(server.url()).await.unwrap();
    answers(&admin).await;
    let narrow = options("narrow".into(), "n".into()).connect(server.url()).await.unwrap();
    answers(&narrow).await;

    let mut other = admin.subscribe("other").await.unwrap();
    admin.flush().await.unwrap();
    narrow.publish("other", "refused".into()).await.unwrap();
    narrow.flush().await.unwrap();
    admin.publish("other", "allowed".into()).await.unwrap();
    let first = tokio::time::timeout(SOON, other.next()).await.unwrap().unwrap();
    assert_eq!(first.payload, "allowed");
}

#[tokio::test]
async fn a_token_is_asked_for() {
    let server = Server::builder().token("s3cret").start().await;
    assert!(async_nats::connect(server.url()).await.is_err());
    let client = async_nats::ConnectOptions::with_token("s3cret".into());
    answers(&client.connect(server.url()).await.unwrap()).await;
}

#[tokio::test]
async fn the_monitor_counts() {
    let server = Server::builder().start().await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let _subscription = client.subscribe("counted").await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(server.varz().await["connections"], 1);
    assert_eq!(server.connz().await["connections"][0]["subscriptions_list"][0], "counted");
    assert!(server.subsz().await["num_subscriptions"].as_u64().unwrap() >= 1);
}

#[tokio::test]
async fn a_lame_duck_tells_its_clients_and_ends() {
    let mut server = Server::builder()
        .lame_duck(Duration::from_secs(30), Duration::from_millis(100))
        .start()
        .await;
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let _client = async_nats::ConnectOptions::new()
        .event_callback(move |event| {
            let sent = sender.send(event.to_string());
            async move { drop(sent) }
        })
        .connect(server.url())
        .await
        .unwrap();
    server.lame_duck();
    let told = async {
        while let Some(event) = events.recv().await {
            if event.contains("lame duck") {
                return;
            }
        }
        panic!("no lame duck event");
    };
    tokio::time::timeout(SOON, told).await.unwrap();
    while server.is_running() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn other_config_is_taken_as_it_is() {
    let server = Server::builder().max_payload(2000).config("ping_interval: \"7s\"").start().await;
    let varz = server.varz().await;
    assert_eq!(varz["max_payload"], 2000);
    assert_eq!(varz["ping_interval"], 7_000_000_000_u64);
}

#[tokio::test]
async fn a_websocket_answers() {
    let server = Server::builder().websocket().start().await;
    answers(&async_nats::connect(server.websocket_url()).await.unwrap()).await;
}

#[test]
fn it_works_without_a_runtime() {
    let server = Server::builder().start_blocking();
    assert!(std::net::TcpStream::connect(server.address()).is_ok());
}

#[test]
#[should_panic(expected = "unknown field")]
fn a_server_that_does_not_start_panics_with_its_log() {
    let _server = Server::builder().config("no_such_setting: 1").start_blocking();
}

#[test]
fn a_panic_ends_the_server() {
    let (sender, started) = std::sync::mpsc::channel();
    let test = std::thread::spawn(move || {
        let server = Server::builder().start_blocking();
        sender.send(server.address()).unwrap();
        // A panic without its message: this one is wanted.
        std::panic::resume_unwind(Box::new("a test failed"));
    });
    assert!(test.join().is_err());
    assert!(std::net::TcpStream::connect(started.recv().unwrap()).is_err());
}

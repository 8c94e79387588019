//! What a server cannot do, what an account may not have, what a user may not do.

use futures::StreamExt;
use nats_connector::streams::StreamConfig;
use nats_connector::{Connector, ErrorKind, Settings};
use testkit::{Permissions, Server, Version, require};

use crate::connect;

/// An option and the first server that has it.
fn options() -> [(&'static str, StreamConfig, &'static str); 5] {
    let stream = |name: &str| StreamConfig::new(name, [format!("{name}.>")]);
    [
        ("compression", stream("C").compression(true), "2.10"),
        ("message_ttl", stream("M").message_ttl(true), "2.11"),
        ("schedules", stream("S").schedules(true), "2.12"),
        ("atomic_publish", stream("A").atomic_publish(true), "2.12"),
        ("fast_ingest", stream("F").fast_ingest(true), "2.14"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_option_that_the_server_lacks_is_refused_before_anything_is_made() {
    for (version, has) in [
        (Version::Debian29, ""),
        (Version::V2_10, "2.10"),
        (Version::V2_11, "2.11"),
        (Version::V2_12, "2.12"),
        (Version::V2_15, "2.15"),
    ] {
        if require(version) {
            check_options(version, has).await;
        }
    }
}

async fn check_options(version: Version, has: &str) {
    let server = Server::builder().jetstream().version(version).start().await;
    let connector = connect(&server).await;
    let (pubsub, streams) = (connector.pubsub(), connector.streams());
    pubsub.stream(StreamConfig::new("PLAIN", ["plain"])).await.unwrap();
    let mut there = vec!["PLAIN".to_owned()];
    for (option, config, since) in options() {
        let made = pubsub.stream(config.clone()).await;
        let on = on_plain(option);
        if since <= has {
            let made = made.unwrap_or_else(|error| panic!("{version}: {option}: {error}"));
            assert!(made.created && made.differences.is_empty());
            there.push(config.name().to_owned());
            let changed = pubsub.stream(on).update().await.unwrap();
            assert_eq!(changed.differences, [], "{version}: {option}");
            continue;
        }
        for error in [made.unwrap_err(), streams.update(on).await.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{version}: {error}");
            assert_eq!(error.context("option"), Some(option), "{version}: {error}");
            let needs = format!("needs nats-server {since} or newer; connected to 2.");
            assert!(error.to_string().contains(&needs), "{version}: {error}");
        }
    }
    there.sort_unstable();
    assert_eq!(streams.names().await.unwrap(), there, "{version}");
}

/// The option for the stream that is there.
fn on_plain(option: &str) -> StreamConfig {
    let plain = StreamConfig::new("PLAIN", ["plain"]);
    match option {
        "compression" => plain.compression(true),
        "message_ttl" => plain.message_ttl(true),
        "schedules" => plain.schedules(true),
        "atomic_publish" => plain.atomic_publish(true),
        _ => plain.fast_ingest(true),
    }
}

/// In a cluster of several versions the server that answers may not be the one that holds the
/// stream, and old ones leave out in silence what they do not know.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_lacks_an_option_is_refused_and_not_left_behind() {
    let server = Server::builder().jetstream().start().await;
    let real = connect(&server).await;
    let _old = forgetful(real.client().unwrap(), "allow_msg_ttl").await;
    let settings = Settings::builder()
        .set("NATS.SERVER", server.url())
        .set("NATS.JETSTREAM_PREFIX", "OLD.API")
        .build()
        .unwrap();
    let connector = Connector::connect(&settings).await.unwrap();
    let (pubsub, streams) = (connector.pubsub(), connector.streams());
    let config = || StreamConfig::new("S", ["s"]);
    let made = pubsub.stream(config().message_ttl(true)).await.unwrap_err();
    assert_eq!(streams.names().await.unwrap(), [""; 0], "it was left behind");
    assert!(pubsub.stream(config()).await.unwrap().created);
    let changed = streams.update(config().message_ttl(true)).await.unwrap_err();
    for error in [made, changed] {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert_eq!(error.context("option"), Some("message_ttl"), "{error}");
        assert!(error.to_string().contains("connected to 2.15"), "{error}");
    }
}

/// Passes the JetStream API on under `OLD.API`, as a server that does not know an option.
async fn forgetful(client: async_nats::Client, option: &'static str) -> impl Sized {
    struct Ends(tokio::task::JoinHandle<()>);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    let mut requests = client.subscribe("OLD.API.>").await.unwrap();
    client.flush().await.unwrap();
    Ends(tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let subject = request.subject.as_str().replace("OLD.API.", "$JS.API.");
            let payload = match serde_json::from_slice::<serde_json::Value>(&request.payload) {
                Ok(serde_json::Value::Object(mut config)) => {
                    config.remove(option);
                    serde_json::Value::Object(config).to_string().into()
                }
                _ => request.payload,
            };
            let answer = client.request(subject, payload).await.unwrap();
            client.publish(request.reply.unwrap(), answer.payload).await.unwrap();
        }
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_says_what_to_do() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let (pubsub, streams) = (connector.pubsub(), connector.streams());
    pubsub.stream(StreamConfig::new("S", ["s.>"])).await.unwrap();
    let other = StreamConfig::new("OTHER", ["o", "s.a"]);
    let overlap = pubsub.stream(other.clone()).await.unwrap_err();
    assert_eq!(overlap.context("subjects"), Some("o,s.a"), "{overlap}");
    assert_eq!(overlap.context("other"), Some("S"), "{overlap}");
    let replicas = StreamConfig::new("R", ["r"]).replicas(3);
    let memory = StreamConfig::new("S", [""; 0]).storage(nats_connector::streams::Storage::Memory);
    let wide = StreamConfig::new("ALL", [">"]);
    for (error, kind, stream, advice) in [
        (
            pubsub.stream(other).await.unwrap_err(),
            ErrorKind::Conflict,
            "OTHER",
            "take other subjects, or add these to the stream that has them",
        ),
        (
            pubsub.stream(replicas).await.unwrap_err(),
            ErrorKind::Unsupported,
            "R",
            "ask for 1 replica, or connect to a cluster",
        ),
        (
            streams.update(memory).await.unwrap_err(),
            ErrorKind::InvalidInput,
            "S",
            "can not change storage type",
        ),
        (pubsub.stream(wide).await.unwrap_err(), ErrorKind::InvalidInput, "ALL", "no-ack"),
    ] {
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(error.context("stream"), Some(stream), "{error}");
        assert!(error.to_string().contains(advice), "{error}");
    }
    assert_eq!(streams.names().await.unwrap(), ["S"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_is_named_at_once() {
    let allowed = ["_INBOX.>", "$JS.API.INFO", "$JS.API.STREAM.INFO.THERE", "$JS.API.STREAM.NAMES"];
    let permissions = Permissions::default().publish(&allowed);
    let server = Server::builder()
        .jetstream()
        .user("admin", "pw")
        .user_with("user", "pw", &permissions)
        .start()
        .await;
    let connect = async |user: &str| {
        let settings = Settings::builder()
            .set("NATS.SERVER", server.url())
            .set("NATS.USERNAME", user)
            .set("NATS.PASSWORD", "pw");
        Connector::connect(&settings.build().unwrap()).await.unwrap()
    };
    let admin = connect("admin").await;
    let there = || StreamConfig::new("THERE", ["there"]);
    admin.pubsub().stream(there()).await.unwrap();

    let user = connect("user").await;
    let (pubsub, streams) = (user.pubsub(), user.streams());
    // Whoever may ask can check.
    assert!(!pubsub.stream(there()).await.unwrap().created);
    assert_eq!(streams.names().await.unwrap(), ["THERE"]);
    let begun = std::time::Instant::now();
    let refused = [
        (pubsub.stream(StreamConfig::new("NEW", ["new"])).await.err(), "STREAM.INFO.NEW"),
        (pubsub.stream(there().max_messages(1)).update().await.err(), "STREAM.UPDATE.THERE"),
        (streams.purge("THERE").await.err(), "STREAM.PURGE.THERE"),
        (streams.delete("THERE").await.err(), "STREAM.DELETE.THERE"),
        (streams.consumers("THERE").await.err(), "CONSUMER.NAMES.THERE"),
    ];
    for (error, subject) in refused {
        let error = error.unwrap();
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
        assert!(error.to_string().contains(&format!("$JS.API.{subject}")), "{error}");
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(9), "{:?}", begun.elapsed());
}

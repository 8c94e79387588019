//! What is refused before anything is sent, and leaves the connection as it was.

use nats_connector::pubsub::{Message, PubSub};
use nats_connector::{Connector, ErrorKind, Result};
use testkit::Server;

use crate::{connect, next, next_public};

async fn ignore(_: Message) {}

/// Each way to send, given the same topic and header.
async fn send_all(pubsub: &PubSub, topic: &str, header: (&str, &str)) -> Vec<Result<()>> {
    let topic = || topic.to_owned();
    let (name, value) = header;
    vec![
        pubsub.publish(topic(), "x").header(name, value).await,
        pubsub.publish_bytes(topic(), "x").header(name, value).await,
        pubsub.publish(topic(), "x").header(name, value).jetstream().await.map(drop),
        pubsub.request(topic(), "x").header(name, value).await.map(drop),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_break_or_widen_a_message_is_refused() {
    let server = Server::builder().max_payload(10_000).start().await;
    let connector = connect(&server).await;
    let memory = Connector::memory();
    for connector in [&connector, &memory] {
        let pubsub = connector.pubsub();
        let mut everything = pubsub.messages(">").await.unwrap();
        for topic in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a b",
            "a\tb",
            "a\r\nPUB b 1\r\nx\r\n",
            "*",
            "a.*",
            "a.>",
            "a*",
        ] {
            for result in send_all(&pubsub, topic, ("Trace", "1")).await {
                let error = result.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{topic:?}: {error}");
                assert_eq!(error.context("topic"), Some(topic), "{error}");
            }
        }
        let error = pubsub.with_prefix("shop..").publish("a", "x").await.unwrap_err();
        assert_eq!(error.context("topic"), Some("shop..a"));

        for (name, value) in [
            ("Trace", "secret\r\nX: 1"),
            ("Trace", "secret\n"),
            ("a b", "1"),
            ("a:b", "1"),
            ("", "1"),
        ] {
            for result in send_all(&pubsub, "a", (name, value)).await {
                let error = result.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name:?}: {error}");
                assert_eq!(error.context("header"), Some(name));
                assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
            }
        }
        for topic in ["", "a..b", "a b", "a.>.b", "a*", ">a"] {
            let errors =
                [pubsub.subscribe(topic, ignore).await.err(), pubsub.messages(topic).await.err()];
            for error in errors {
                assert_eq!(error.unwrap().kind(), ErrorKind::InvalidInput, "{topic:?}");
            }
        }
        for queue in ["", "a b", "a\r\n"] {
            let error = pubsub.subscribe("a", ignore).queue(queue).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{queue:?}");
        }
        for concurrency in [0, 65_537, usize::MAX] {
            let error = pubsub.subscribe("a", ignore).concurrency(concurrency).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }

        // Nothing of all this went out, and the connection is the first one still.
        pubsub.publish("after", "x").await.unwrap();
        assert_eq!(next_public(&mut everything).await.topic(), "after");
        assert_eq!(connector.health().await.reconnects, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_above_the_servers_limit_is_refused() {
    const LIMIT: usize = 10_000;
    let server = Server::builder().max_payload(LIMIT).start().await;
    let connector = connect(&server).await;
    let pubsub = connector.pubsub();
    let mut stream = pubsub.messages("a").await.unwrap();
    let (fits, too_large) = (vec![b'x'; LIMIT], vec![b'x'; LIMIT + 1]);
    for result in [
        pubsub.publish_bytes("a", too_large.clone()).await,
        pubsub.publish_bytes("a", too_large).jetstream().await.map(drop),
        pubsub.publish_bytes("a", fits.clone()).header("Trace", "1").await,
        pubsub.publish("a", &"x".repeat(LIMIT)).await,
        pubsub.request("a", &"x".repeat(LIMIT)).await.map(drop),
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        assert!(error.to_string().contains("10000"), "names the limit: {error}");
        assert_eq!(error.context("topic"), Some("a"));
    }
    pubsub.publish_bytes("a", fits).await.unwrap();
    assert_eq!(next(&mut stream).await.payload().len(), LIMIT);
    assert_eq!(connector.health().await.reconnects, 0);
}

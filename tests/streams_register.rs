//! Streams of the settings, made when the connector is registered; in a process of its own.

use std::time::Duration;

use nats_connector::connector;
use nats_connector::streams::StreamConfig;
use nats_connector::{Connector, ErrorKind, Format, Settings, pubsub, register_with};
use testkit::Server;

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_applied_at_register_when_that_is_asked_for() {
    let server = Server::builder().jetstream().start().await;
    let settings = |streams: &str| {
        Settings::builder()
            .text("settings.yml", Format::Yaml, format!("streams:\n{streams}"))
            .set("NATS.SERVER", server.url())
            .set("NATS.TOPIC_PREFIX", "app.")
            .build()
            .unwrap()
    };
    let connections = async || server.varz().await["connections"].as_u64().unwrap();

    // One that cannot be made: nothing is registered, and nothing stays connected.
    let wrong = settings("  orders: {subjects: orders.>, replicas: 3}");
    let error = register_with(wrong).apply_streams().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.context("stream"), Some("ORDERS"), "{error}");
    assert!(connector::global().is_none());
    testkit::eventually(Duration::from_secs(10), async || connections().await == 0).await;

    let right = |age: &str| {
        settings(&format!(
            "  orders: {{subjects: orders.>, max_age: {age}}}\n  logs: {{subjects: logs}}"
        ))
    };
    // Not asked for, they are not made.
    let registered = register_with(right("1h")).await.unwrap();
    assert_eq!(pubsub::streams().names().await.unwrap(), [""; 0]);

    // The same connector: streams are no reason to connect anew.
    let again = register_with(right("1h")).apply_streams().await.unwrap();
    assert_eq!(again.settings(), registered.settings());
    assert_eq!(pubsub::streams().names().await.unwrap(), ["LOGS", "ORDERS"]);
    pubsub::publish("orders.new", &1).jetstream().await.unwrap();
    let status = async || pubsub::streams().status("ORDERS").await.unwrap().unwrap();
    assert_eq!(status().await.config.subjects(), ["app.orders.>"]);
    assert_eq!(status().await.messages, 1);

    // What differs is a warning, and is changed only where that is asked for.
    let aged = |age| StreamConfig::new("ORDERS", ["app.orders.>"]).max_age(age);
    let hour = Duration::from_secs(3600);
    register_with(right("2h")).apply_streams().await.unwrap();
    assert_eq!(aged(hour).differences(&status().await.config), []);
    register_with(right("2h")).update_streams().await.unwrap();
    assert_eq!(aged(2 * hour).differences(&status().await.config), []);
    assert_eq!(connections().await, 1);

    // Another connector applies what its settings say, or not.
    let second = Connector::connect(&right("3h")).await.unwrap();
    assert_eq!(aged(2 * hour).differences(&status().await.config), []);
    second.streams().apply(second.settings()).update().await.unwrap();
    assert_eq!(aged(3 * hour).differences(&status().await.config), []);
}

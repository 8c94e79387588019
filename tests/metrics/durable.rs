//! Durable subscriptions: what became of their messages, and of their consumer.

use std::time::Duration;

use nats_connector::pubsub::{Message, Outcome};
use nats_connector::streams::StreamConfig;
use testkit::eventually;

use super::{PATIENCE, Recorded, connectors};

#[tokio::test]
async fn messages_are_counted_by_what_became_of_them() {
    let recorded = Recorded::begin();
    let (_server, connectors) = connectors().await;
    for (driver, connector) in connectors {
        let pubsub = connector.pubsub();
        pubsub.stream(StreamConfig::new("ORDERS", ["orders.>"])).await.unwrap();
        let handler = |message: Message| async move {
            let first = message.delivery().unwrap().deliveries() == 1;
            match message.payload().as_ref() {
                b"later" if first => Outcome::retry_after(Duration::ZERO),
                b"never" => Outcome::retry_after(Duration::ZERO),
                b"wrong" => Outcome::reject("as the test wants it"),
                _ => Outcome::Ack,
            }
        };
        let orders = pubsub.subscribe("orders.>", handler).durable("billing").max_deliver(3);
        let orders = orders.ack_wait(Duration::from_secs(1)).await.unwrap();
        recorded.skip();

        for payload in ["well", "later", "never", "wrong"] {
            pubsub.publish_bytes("orders.new", payload).jetstream().await.unwrap();
        }
        let done = || async {
            let stats = orders.stats();
            stats.handled == 2 && stats.dead == 2 && stats.received == 7
        };
        eventually(PATIENCE, done).await;
        let of = "{topic=orders.>,stream=ORDERS,durable=billing";
        let moved: Vec<_> = recorded.moved(driver, "NATS");
        let expected = [
            format!("handler_duration_seconds{of}}} 7"),
            format!("messages_dead_lettered_total{of}}} 2"),
            format!("messages_failed_total{of},cause=error}} 5"),
            format!("messages_handled_total{of}}} 2"),
            "messages_published_total{delivery=acked} 4".to_owned(),
            format!("messages_received_total{of}}} 7"),
            format!("messages_redelivered_total{of}}} 3"),
            format!("messages_rejected_total{of}}} 1"),
            format!("messages_retried_total{of}}} 3"),
            "publish_ack_duration_seconds{} 4".to_owned(),
        ];
        assert_eq!(moved, expected, "{driver}");

        // A consumer that somebody deletes is made again.
        pubsub.streams().delete_consumer("ORDERS", "billing").await.unwrap();
        eventually(PATIENCE, || async { orders.stats().remade == 1 }).await;
        let mut told = Vec::new();
        let remade = format!("consumer_remade_total{of}}} 1");
        let tells = || {
            told.extend(recorded.moved(driver, "NATS"));
            let tells = told.contains(&remade);
            async move { tells }
        };
        eventually(PATIENCE, tells).await;
    }
}

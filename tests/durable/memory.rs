//! The same without a server.

use std::time::Duration;

use nats_connector::pubsub::{Message, Outcome};
use nats_connector::{Backoff, ErrorKind};

use super::*;

async fn memory() -> PubSub {
    let pubsub = Connector::memory().pubsub();
    let driver = pubsub.driver().unwrap();
    let config = StreamConfig::new(STREAM, ["orders.>"]);
    driver.streams().unwrap().create_stream(&config, Instant::now() + PATIENCE).await.unwrap();
    pubsub
}

#[tokio::test]
async fn outcomes_and_dead_letters() {
    let pubsub = memory().await;
    let seen = Seen::new();
    let log = seen.clone();
    let handler = move |msg: Message| {
        let log = log.clone();
        async move {
            let what: String = msg.decode()?;
            log.push((what.clone(), msg.delivery().unwrap().deliveries()));
            match what.as_str() {
                "reject" => Ok(Outcome::reject("not an order")),
                "fail" => Err(failed("no database")),
                _ => Ok(Outcome::Ack),
            }
        }
    };
    let call = pubsub.subscribe("orders.*", handler).durable("billing").max_deliver(2);
    let subscription = call.backoff(Backoff::fixed(Duration::from_millis(20))).await.unwrap();
    for what in ["fine", "reject", "fail"] {
        pubsub.publish("orders.new", &what).jetstream().await.unwrap();
    }
    let causes = Seen::new();
    let log = causes.clone();
    let handler = move |msg: Message| {
        log.push(header(&msg, "Dead-Letter-Cause").to_owned());
        async {}
    };
    pubsub.subscribe("dead.*", handler).durable("undertaker").without_dead_letters().await.unwrap();
    causes.reach(2).await;
    assert_eq!(causes.all(), ["not an order", "no database"]);
    let of = |what: &str, n| (what.to_owned(), n);
    assert_eq!(seen.all(), [of("fine", 1), of("reject", 1), of("fail", 1), of("fail", 2)]);
    let stats = subscription.stats();
    assert_eq!((stats.handled, stats.rejected, stats.retried, stats.dead), (1, 1, 1, 2));
    let error =
        pubsub.subscribe("letters.*", |_: Message| async {}).durable("x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_sharing_and_leaving() {
    let pubsub = memory().await;
    let seen = Seen::new();
    let subscribe = || {
        let log = seen.clone();
        let handler = move |msg: Message| {
            let log = log.clone();
            async move {
                tokio::time::sleep(Duration::from_micros(100)).await;
                log.push(msg.decode::<u64>()?);
                Handled::Ok(())
            }
        };
        let call = pubsub.subscribe("orders.*", handler).durable("billing").concurrency(8);
        call.ordered_by_subject().ack_wait(Duration::from_secs(3600))
    };
    let leaving = subscribe().await.unwrap();
    let messages = 1_000;
    for number in 0..messages {
        pubsub.publish(format!("orders.{}", number % 20), &number).jetstream().await.unwrap();
    }
    seen.reach(messages as usize / 2).await;
    leaving.unsubscribe().await.unwrap();
    let stats = leaving.stats();
    assert_eq!((stats.received, stats.redelivered), (stats.handled, 0));
    let staying = subscribe().await.unwrap();
    seen.reach(messages as usize).await;
    eventually(PATIENCE, || async { stats.handled + staying.stats().handled == messages }).await;
    let all = seen.all();
    for key in 0..20 {
        let numbers: Vec<_> = all.iter().filter(|number| *number % 20 == key).collect();
        assert_eq!(numbers.len(), 50);
        assert!(numbers.is_sorted(), "{key}: {numbers:?}");
    }
}

//! Streams and durable consumers of the memory driver, by a paused clock.

use std::time::Duration;

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use futures::future::poll_fn;
use tokio::time::{Instant, timeout};

use super::super::MemoryDriver;
use crate::error::{ErrorKind, Result};
use crate::pubsub::Ack;
use crate::pubsub::driver::{
    ConsumerConfig, Deliveries, Delivery, Driver, OutboundMessage, Settlement, Streams,
};
use crate::streams::{Discard, Retention, StreamConfig};

const SECOND: Duration = Duration::from_secs(1);

fn soon() -> Instant {
    Instant::now() + SECOND
}

async fn driver(config: StreamConfig) -> MemoryDriver {
    let driver = MemoryDriver::default();
    driver.create_stream(&config, soon()).await.unwrap();
    driver
}

fn orders() -> StreamConfig {
    StreamConfig::new("ORDERS", ["orders.>"])
}

fn message(subject: &str, payload: &'static str, with: &[(&str, &str)]) -> OutboundMessage {
    let mut headers = HeaderMap::new();
    for (name, value) in with {
        headers.append(*name, *value);
    }
    OutboundMessage {
        subject: Subject::from(subject),
        reply: None,
        headers: Some(headers),
        payload: Bytes::from(payload),
    }
}

async fn publish(
    driver: &MemoryDriver,
    subject: &str,
    payload: &'static str,
    with: &[(&str, &str)],
) -> Result<Ack> {
    driver.publish_acked(message(subject, payload, with), soon()).await
}

fn all(name: &str) -> ConsumerConfig {
    ConsumerConfig::new("ORDERS", name)
}

async fn join(driver: &MemoryDriver, config: &ConsumerConfig) -> Box<dyn Deliveries> {
    driver.consume(config, false, soon()).await.unwrap().deliveries
}

async fn next(member: &mut Box<dyn Deliveries>, room: usize) -> Option<Delivery> {
    poll_fn(|cx| member.poll_next(room, cx)).await
}

async fn settle(driver: &MemoryDriver, delivery: &Delivery, settlement: Settlement) {
    driver.settle(&delivery.receipt, settlement, soon()).await.unwrap();
}

/// The payloads that the stream holds.
async fn held(driver: &MemoryDriver) -> Vec<Bytes> {
    let mut held = Vec::new();
    let mut sequence = 0;
    while let Some(found) = driver.message_from("ORDERS", ">", sequence, soon()).await.unwrap() {
        sequence = found.sequence + 1;
        held.push(found.message.payload);
    }
    held
}

#[tokio::test(start_paused = true)]
async fn ages_and_lifetimes_end_at_their_moment_without_a_call() {
    let driver = driver(orders().max_age(10 * SECOND).message_ttl(true)).await;
    publish(&driver, "orders.a", "1", &[("Nats-TTL", "2")]).await.unwrap();
    publish(&driver, "orders.a", "2", &[]).await.unwrap();
    publish(&driver, "orders.a", "3", &[("Nats-TTL", "never")]).await.unwrap();
    publish(&driver, "orders.a", "4", &[("Nats-TTL", "1m")]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_999)).await;
    assert_eq!(held(&driver).await, ["1", "2", "3", "4"]);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(held(&driver).await, ["2", "3", "4"]);
    tokio::time::sleep(8 * SECOND).await;
    assert_eq!(held(&driver).await, ["3"]);
    tokio::time::sleep(1_000_000 * SECOND).await;
    assert_eq!(held(&driver).await, ["3"]);

    let status = driver.update_stream(&orders().max_age(20 * SECOND), soon()).await.unwrap();
    assert_eq!((status.messages, status.first_sequence), (1, 3));
    let off = driver.update_stream(&orders().message_ttl(false), soon()).await.unwrap_err();
    assert_eq!(off.kind(), ErrorKind::InvalidInput);
}

#[tokio::test(start_paused = true)]
async fn ids_are_known_for_the_window() {
    let driver = driver(orders().duplicate_window(3 * SECOND)).await;
    let id = [("Nats-Msg-Id", "x")];
    for after in [0, 2] {
        tokio::time::sleep(after * SECOND).await;
        let ack = publish(&driver, "orders.a", "1", &id).await.unwrap();
        assert_eq!((ack.sequence, ack.duplicate), (1, after > 0));
    }
    tokio::time::sleep(SECOND).await;
    let ack = publish(&driver, "orders.a", "1", &id).await.unwrap();
    assert_eq!((ack.sequence, ack.duplicate), (2, false));
}

#[tokio::test(start_paused = true)]
async fn schedules_publish_at_their_time_until_they_are_cancelled() {
    let driver = driver(orders().schedules(true).message_ttl(true)).await;
    let mut member =
        join(&driver, &ConsumerConfig { filters: vec!["orders.out".to_owned()], ..all("worker") })
            .await;
    let at = humantime::format_rfc3339(std::time::SystemTime::now() + 100 * SECOND).to_string();
    let begun = Instant::now();
    let headers = |schedule| {
        [("Nats-Schedule", schedule), ("Nats-Schedule-Target", "orders.out"), ("Trace", "7")]
    };
    let at = format!("@at {at}");
    publish(&driver, "orders.once", "first", &headers("@at 2000-01-01T00:00:00Z")).await.unwrap();
    let first = next(&mut member, 1).await.unwrap();
    assert_eq!(first.message.payload, "first");
    settle(&driver, &first, Settlement::Done).await;
    publish(&driver, "orders.once", "old", &headers(&at)).await.unwrap();
    publish(&driver, "orders.once", "once", &headers(&at)).await.unwrap();
    let ttl = [&headers("@every 30s")[..], &[("Nats-Schedule-TTL", "5")]].concat();
    publish(&driver, "orders.often", "often", &ttl).await.unwrap();
    assert_eq!(held(&driver).await, ["first", "once", "often"]);

    let mut seen = Vec::new();
    for _ in 0..5 {
        let delivery = next(&mut member, 1).await.unwrap();
        let header = |name| delivery.message.headers.as_ref().unwrap().get(name).unwrap().as_str();
        assert_eq!(header("Trace"), "7");
        let once = delivery.message.payload == "once";
        assert_eq!(header("Nats-Scheduler"), if once { "orders.once" } else { "orders.often" });
        assert_eq!(header("Nats-Schedule-Next") == "purge", once);
        seen.push((begun.elapsed().as_secs(), delivery.message.payload.clone()));
        settle(&driver, &delivery, Settlement::Done).await;
    }
    let seconds: Vec<u64> = seen.iter().map(|(at, _)| *at).collect();
    assert!(matches!(seconds[..], [30, 60, 90, 99..=100, 120]), "{seen:?}");
    assert_eq!(seen[3].1, "once");
    // What was published lives 5 s; the schedule by `@at` is over.
    tokio::time::sleep(6 * SECOND).await;
    assert_eq!(held(&driver).await, ["first", "often", "once"]);

    driver.purge_stream("ORDERS", Some("orders.often"), soon()).await.unwrap();
    let more = timeout(1_000 * SECOND, next(&mut member, 1)).await;
    assert!(more.is_err(), "{more:?}");

    for (schedule, target, kind) in [
        ("@at soon", "orders.out", ErrorKind::InvalidInput),
        ("@every 10ms", "orders.out", ErrorKind::InvalidInput),
        ("@every 1s", "orders.x", ErrorKind::InvalidInput),
        ("@every 1s", "payments.x", ErrorKind::InvalidInput),
        ("@every 1s", "", ErrorKind::InvalidInput),
        ("@daily", "orders.out", ErrorKind::Unsupported),
        ("0 0 * * * *", "orders.out", ErrorKind::Unsupported),
    ] {
        let headers = [("Nats-Schedule", schedule), ("Nats-Schedule-Target", target)];
        let error = publish(&driver, "orders.x", "", &headers).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{schedule} {target}: {error}");
    }
}

#[tokio::test]
async fn limits_and_what_a_full_stream_does() {
    let driver = driver(orders().max_messages(3).max_messages_per_subject(2)).await;
    for (subject, payload) in
        [("orders.a", "1"), ("orders.a", "2"), ("orders.a", "3"), ("orders.b", "4")]
    {
        publish(&driver, subject, payload, &[]).await.unwrap();
    }
    assert_eq!(held(&driver).await, ["2", "3", "4"]);
    publish(&driver, "orders.b", "5", &[]).await.unwrap();
    assert_eq!(held(&driver).await, ["3", "4", "5"]);

    driver.update_stream(&orders().discard(Discard::New), soon()).await.unwrap();
    let error = publish(&driver, "orders.c", "6", &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    publish(&driver, "orders.b", "7", &[]).await.unwrap();
    assert_eq!(held(&driver).await, ["3", "5", "7"]);

    let size = driver.stream("ORDERS", soon()).await.unwrap().unwrap().bytes;
    let smaller = orders().discard(Discard::Old).max_bytes(size - 1).max_message_size(40);
    driver.update_stream(&smaller, soon()).await.unwrap();
    assert_eq!(held(&driver).await, ["5", "7"]);
    let long =
        publish(&driver, "orders.a", "a payload of more than forty bytes, which is too long", &[])
            .await
            .unwrap_err();
    assert_eq!(long.kind(), ErrorKind::TooLarge, "{long}");
    driver.update_stream(&orders().max_messages_per_subject(1), soon()).await.unwrap();
    assert_eq!(held(&driver).await, ["7"]);
    let rollup = [("Nats-Rollup", "all")];
    publish(&driver, "orders.z", "8", &rollup).await.unwrap();
    assert_eq!(held(&driver).await, ["8"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_member_did_not_give_goes_to_the_others_and_is_not_counted() {
    let driver = driver(orders()).await;
    let config = all("worker");
    let mut first = join(&driver, &config).await;
    for payload in ["1", "2", "3", "4"] {
        publish(&driver, "orders.a", payload, &[]).await.unwrap();
    }
    let given = next(&mut first, 3).await.unwrap();
    assert_eq!((given.sequence, given.deliveries, given.pending), (1, 1, 3));
    let mut second = join(&driver, &config).await;
    drop(first);
    for sequence in 2..=4 {
        let delivery = next(&mut second, 10).await.unwrap();
        assert_eq!((delivery.sequence, delivery.deliveries), (sequence, 1));
    }
    let begun = Instant::now();
    let again = next(&mut second, 10).await.unwrap();
    assert_eq!((again.sequence, again.deliveries), (1, 2));
    assert_eq!(begun.elapsed(), config.ack_wait);
    driver.close();
    assert!(next(&mut second, 10).await.is_none());
    let late = driver.settle(&again.receipt, Settlement::Done, soon()).await;
    assert!(late.unwrap_err().is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_member_outlives_its_consumer_and_its_stream() {
    let driver = driver(orders()).await;
    let mut member = join(&driver, &all("worker")).await;
    for payload in ["1", "2", "3"] {
        publish(&driver, "orders.a", payload, &[]).await.unwrap();
    }
    for _ in 0..2 {
        let delivery = next(&mut member, 1).await.unwrap();
        settle(&driver, &delivery, Settlement::Done).await;
    }
    assert!(driver.delete_consumer("ORDERS", "worker", soon()).await.unwrap());
    let old = next(&mut member, 1).await.unwrap();
    assert_eq!((old.sequence, old.deliveries), (3, 1));
    assert_eq!(member.events().consumer_remade, 1);

    assert!(driver.delete_stream("ORDERS", soon()).await.unwrap());
    assert!(futures::poll!(Box::pin(next(&mut member, 1))).is_pending());
    driver.create_stream(&orders(), soon()).await.unwrap();
    for payload in ["new 1", "new 2", "new 3"] {
        publish(&driver, "orders.a", payload, &[]).await.unwrap();
    }
    // A word about a message of the old stream says nothing of the new one's.
    settle(&driver, &old, Settlement::Done).await;
    for payload in ["new 1", "new 2", "new 3"] {
        assert_eq!(next(&mut member, 3).await.unwrap().message.payload, payload);
    }
    assert_eq!(member.events().consumer_remade, 2);
    settle(&driver, &old, Settlement::Done).await;
    assert_eq!(next(&mut member, 1).await.unwrap().message.payload, "new 1");

    driver.delete_stream("ORDERS", soon()).await.unwrap();
    member.drain(soon()).await.unwrap();
    assert!(next(&mut member, 1).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn work_queues_and_interest_give_up_what_is_settled() {
    let queue = orders().retention(Retention::WorkQueue);
    let driver = driver(queue).await;
    let only =
        |name: &str, filter: &str| ConsumerConfig { filters: vec![filter.to_owned()], ..all(name) };
    let mut a = join(&driver, &only("a", "orders.a")).await;
    let overlap = driver.consume(&only("b", "orders.*"), false, soon()).await.unwrap_err();
    assert_eq!(overlap.kind(), ErrorKind::InvalidInput, "{overlap}");
    let mut b = join(&driver, &only("b", "orders.b")).await;
    for subject in ["orders.a", "orders.b", "orders.b", "orders.c"] {
        publish(&driver, subject, "x", &[]).await.unwrap();
    }
    let delivery = next(&mut a, 1).await.unwrap();
    settle(&driver, &delivery, Settlement::Done).await;
    let delivery = next(&mut b, 1).await.unwrap();
    settle(&driver, &delivery, Settlement::Never("poison".to_owned())).await;
    assert_eq!(held(&driver).await.len(), 2);

    driver.delete_stream("ORDERS", soon()).await.unwrap();
    drop((a, b));
    driver.create_stream(&orders().retention(Retention::Interest), soon()).await.unwrap();
    assert_eq!(publish(&driver, "orders.a", "nobody", &[]).await.unwrap().sequence, 1);
    let mut a = join(&driver, &only("a", "orders.a")).await;
    let mut both = join(&driver, &only("both", "orders.*")).await;
    for subject in ["orders.a", "orders.b"] {
        publish(&driver, subject, "x", &[]).await.unwrap();
    }
    for _ in 0..2 {
        let delivery = next(&mut both, 1).await.unwrap();
        settle(&driver, &delivery, Settlement::Done).await;
    }
    assert_eq!(held(&driver).await.len(), 1);
    let delivery = next(&mut a, 1).await.unwrap();
    settle(&driver, &delivery, Settlement::Done).await;
    assert!(held(&driver).await.is_empty());
    publish(&driver, "orders.a", "x", &[]).await.unwrap();
    let delivery = next(&mut both, 1).await.unwrap();
    settle(&driver, &delivery, Settlement::Done).await;
    assert!(driver.delete_consumer("ORDERS", "a", soon()).await.unwrap());
    assert!(held(&driver).await.is_empty());
    let status = driver.stream("ORDERS", soon()).await.unwrap().unwrap();
    assert_eq!((status.messages, status.first_sequence, status.last_sequence), (0, 5, 4));
}

#[tokio::test]
async fn a_batch_is_stored_whole_or_not_at_all() {
    let driver = driver(orders().atomic_publish(true)).await;
    let batch = |second: &[(&str, &str)]| {
        vec![message("orders.a", "1", &[]), message("orders.b", "2", second)]
    };
    let ack = driver.publish_atomic("ORDERS", batch(&[]), soon()).await.unwrap();
    assert_eq!((ack.stream.as_str(), ack.sequence), ("ORDERS", 2));
    let wrong = batch(&[("Nats-Expected-Last-Subject-Sequence", "1")]);
    let error = driver.publish_atomic("ORDERS", wrong, soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let strange = vec![message("payments.a", "1", &[])];
    let error = driver.publish_atomic("ORDERS", strange, soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(held(&driver).await, ["1", "2"]);
    driver.update_stream(&orders().atomic_publish(false), soon()).await.unwrap();
    let error = driver.publish_atomic("ORDERS", batch(&[]), soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_plain_request_to_a_stream_gets_its_acknowledgement() {
    let driver = driver(orders()).await;
    let answer = driver.request(message("orders.a", "1", &[]), soon()).await.unwrap();
    assert_eq!(answer.payload, r#"{"seq":1,"stream":"ORDERS"}"#);
    let wrong = message("orders.a", "1", &[("Nats-Expected-Stream", "PAYMENTS")]);
    let answer = driver.request(wrong, soon()).await.unwrap();
    assert!(answer.payload.starts_with(br#"{"error":"#), "{answer:?}");
}

#[test]
fn streams_go_on_in_another_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let driver = MemoryDriver::default();
    let config = ConsumerConfig { ack_wait: Duration::from_millis(100), ..all("worker") };
    let mut member = runtime().block_on(async {
        driver.create_stream(&orders(), soon()).await.unwrap();
        publish(&driver, "orders.a", "1", &[]).await.unwrap();
        let mut member = join(&driver, &config).await;
        assert_eq!(next(&mut member, 1).await.unwrap().deliveries, 1);
        member
    });
    runtime().block_on(async {
        let again = timeout(10 * SECOND, next(&mut member, 1)).await.unwrap().unwrap();
        assert_eq!(again.deliveries, 2);
    });
}

//! Order per key, and in all.

use std::collections::HashMap;
use std::time::Duration;

use nats_connector::Backoff;
use nats_connector::pubsub::{Message, Outcome};
use rand::Rng;
use testkit::size;

use super::*;

/// Handles messages `(key, number)` in random times, some only at their second try; asserts that
/// the numbers of each key come in order.
async fn in_order(lanes: usize, keys: u64, messages: u64, by_subject: bool) {
    let bench = Bench::start().await;
    let context = bench.connector.jetstream().unwrap();
    let mut acks = Vec::new();
    for number in 0..messages {
        let key = number % keys;
        let payload = serde_json::to_vec(&(key, number)).unwrap();
        acks.push(context.publish(format!("orders.{key}"), payload.into()).await.unwrap());
        if acks.len() == 500 {
            acknowledged(&mut acks).await;
        }
    }
    acknowledged(&mut acks).await;
    let seen = Seen::new();
    let log = seen.clone();
    let handler = move |msg: Message| {
        let log = log.clone();
        async move {
            let (key, number): (u64, u64) = msg.decode()?;
            let delivery = msg.delivery().unwrap();
            let micros = rand::rng().random_range(0..2_000);
            tokio::time::sleep(Duration::from_micros(micros)).await;
            if number % 50 == 0 && delivery.deliveries() == 1 {
                return Ok(Outcome::retry());
            }
            log.push((key, number));
            Ok::<_, Error>(Outcome::Ack)
        }
    };
    let call = bench.pubsub.subscribe("orders.*", handler).durable("billing").concurrency(lanes);
    let call = call.backoff(Backoff::fixed(Duration::from_millis(5)));
    let subscription = if by_subject {
        call.ordered_by_subject().await
    } else {
        call.ordered_by(|msg| msg.decode::<(u64, u64)>().map(|(key, _)| key).ok()).await
    };
    let subscription = subscription.unwrap();
    seen.reach(messages as usize).await;
    bench.settled("billing").await;
    let mut last = HashMap::new();
    for (key, number) in seen.all() {
        let before = last.insert(if lanes == 1 { 0 } else { key }, number);
        assert!(before.is_none_or(|before| before < number), "{key}: {number} after {before:?}");
    }
    let stats = subscription.stats();
    assert_eq!((stats.handled, stats.redelivered), (messages, 0));
    assert_eq!(stats.retried, messages.div_ceil(50));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn per_key_under_64_lanes() {
    in_order(64, 200, size(10_000, 100_000), false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn per_subject_under_8_lanes() {
    in_order(8, 50, size(2_000, 20_000), true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_all_with_one_lane() {
    in_order(1, 10, size(1_000, 5_000), true).await;
}

#[tokio::test]
async fn a_stuck_lane_stops_no_other() {
    // The first ones fill the room of the member to the last place, and the server has no more then.
    stuck_lane(&[3]).await;
    stuck_lane(&[3, 4]).await;
    stuck_lane(&[]).await;
}

/// Key 0 is stuck; so many more of it come one after the other, before all others.
async fn stuck_lane(first: &[usize]) {
    let bench = Bench::start().await;
    let (open, gate) = tokio::sync::watch::channel(false);
    let seen = Seen::new();
    let log = seen.clone();
    let handler = move |msg: Message| {
        let (log, mut gate) = (log.clone(), gate.clone());
        async move {
            let key: u64 = msg.decode()?;
            if key == 0 {
                gate.wait_for(|open| *open).await.unwrap();
            }
            log.push(key);
            Handled::Ok(())
        }
    };
    let call = bench.pubsub.subscribe("orders.*", handler).durable("billing").concurrency(4);
    let call = call.ordered_by(|msg: &Message| msg.decode::<u64>().ok());
    let subscription = call.await.unwrap();
    bench.publish("orders.new", [0]).await;
    let mut stuck = 1;
    for more in first {
        bench.publish("orders.new", vec![0; *more]).await;
        stuck += more;
    }
    let stuck = stuck as u64;
    let held = || async { bench.consumer("billing").await["num_ack_pending"] == stuck };
    eventually(PATIENCE, held).await;
    // Of a hundred keys about a quarter shares the lane of key 0.
    for round in 0..10 {
        bench.publish("orders.new", [0; 10]).await;
        bench.publish("orders.new", 1..=100).await;
        seen.reach(60 * (round + 1)).await;
    }
    assert_eq!(seen.times(&0), 0);
    open.send_replace(true);
    bench.settled("billing").await;
    let stuck = 100 + stuck as usize;
    assert_eq!((seen.times(&0), seen.len()), (stuck, stuck + 1_000));
    assert_eq!(subscription.stats().redelivered, 0);
}

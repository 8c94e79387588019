//! Consumers: made, found, compared, changed, deleted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::Shape;
use super::super::bench::{Bench, LONG};
use super::super::probe::{Probe, text};
use crate::error::ErrorKind;
use crate::pubsub::driver::{ConsumerConfig, Driver, Settlement};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(20);

/// A consumer is made by its first member, outlives all of them, is listed and deleted.
pub async fn found_consumers(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    let bench = Bench::with_stream(driver, shape, "found_consumers").await;
    let (probe, streams) = (&bench.probe, bench.streams());
    let names = async || {
        let call = streams.consumer_names(&bench.name, Probe::deadline());
        probe.ok("list consumers", call).await
    };
    let none = names().await;
    probe.check("no consumers at first", none.is_empty(), none);
    bench.publish_numbers("a", 3).await;
    let mut member = bench.join(&bench.consumer("one")).await;
    let two = bench.join(&bench.consumer("two")).await;
    let done = member.done("the first", 1).await;
    probe.check("in order", done == ["1"], done);
    drop((member, two));
    let left = names().await;
    probe.check("consumers outlive their members", left == ["one", "two"], left);
    // Here and below: the servers of a cluster hear of it one after the other.
    let deadline = Probe::deadline();
    loop {
        let status = bench.status().await;
        if status.as_ref().is_some_and(|status| status.consumers == 2) {
            break;
        }
        probe.check("they are counted", Instant::now() < deadline, status);
        sleep(PAUSE).await;
    }
    for expected in [true, false] {
        let call = streams.delete_consumer(&bench.name, "two", Probe::deadline());
        let was_there = probe.ok("delete a consumer", call).await;
        probe.check("deleting tells whether it was there", was_there == expected, was_there);
    }
    let deadline = Probe::deadline();
    loop {
        let left = names().await;
        if left == ["one"] {
            break;
        }
        probe.check("a deleted consumer is gone", Instant::now() < deadline, left);
        sleep(PAUSE).await;
    }

    let nowhere = ConsumerConfig::new(format!("{}_NOWHERE", bench.name), "one");
    let call = streams.consume(&nowhere, false, Probe::deadline());
    bench.refused("a consumer of no stream", ErrorKind::NotFound, call).await;
    bench.done().await;
}

/// A consumer that is there is left as it is and its differences are told, unless it is to be
/// changed.
pub async fn differences(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    let bench = Bench::with_stream(driver, shape, "differences").await;
    let (probe, streams) = (&bench.probe, bench.streams());
    let mut config = bench.consumer("worker");
    config.filters = bench.filters(&["a"]);
    let mut member = bench.join(&config).await;
    let mut wanted =
        ConsumerConfig { ack_wait: Duration::from_secs(1), max_in_flight: 2, ..config.clone() };
    wanted.filters = bench.filters(&["b"]);
    let found = streams.consume(&wanted, false, Probe::deadline());
    let found = probe.ok("join with other options", found).await;
    let mut options: Vec<_> = found.differences.iter().map(|it| it.option).collect();
    options.sort_unstable();
    let told = options == ["ack_wait", "filters", "max_in_flight"];
    probe.check("each difference is told", told, &found.differences);
    probe.check("the ack wait is the one that it has", found.ack_wait == LONG, found.ack_wait);
    drop(found);
    bench.join(&config).await;
    bench.publish("b", "unseen").await;
    bench.publish("a", "seen").await;
    let done = member.done("as it was", 1).await;
    probe.check("it was left as it is", done == ["seen"], done);
    drop(member);

    let changed = streams.consume(&wanted, true, Probe::deadline());
    let changed = probe.ok("join and change", changed).await;
    let differences = &changed.differences;
    probe.check("nothing differs then", differences.is_empty(), differences);
    let ack_wait = changed.ack_wait;
    probe.check("the ack wait is the one asked for", ack_wait == wanted.ack_wait, ack_wait);
    drop(changed);
    let mut member = bench.join(&wanted).await;
    bench.publish("a", "unseen").await;
    bench.publish("b", "seen").await;
    let delivery = loop {
        let delivery = member.delivery("by the new filter", 5).await;
        // A server may go through what its consumer had passed again, or not.
        if text(&delivery.message) != "unseen" || delivery.message.subject == probe.subject("a") {
            break delivery;
        }
        member.settle(&delivery, Settlement::Done).await;
    };
    probe.check("it was changed", text(&delivery.message) == "seen", &delivery);
    bench.done().await;
}

/// A consumer that somebody deletes is made again by its members: nothing is missed.
pub async fn deleted_consumers(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    let bench = Bench::with_stream(driver, shape, "deleted_consumers").await;
    let (probe, streams) = (&bench.probe, bench.streams());
    let config = bench.consumer("worker");
    let (mut one, mut two) = (bench.join(&config).await, bench.join(&config).await);
    bench.publish_numbers("a", 3).await;
    let mut missing: BTreeSet<u64> = (2..=5).collect();
    let first = one.delivery("the first", 1).await;
    one.settle(&first, Settlement::Done).await;
    probe.flush().await;
    let call = streams.delete_consumer(&bench.name, "worker", Probe::deadline());
    let was_there = probe.ok("delete the consumer", call).await;
    probe.check("it was there", was_there, was_there);
    bench.publish_numbers("a", 2).await;
    while !missing.is_empty() {
        let delivery = tokio::select! {
            delivery = one.delivery("after the consumer was deleted", 5) => delivery,
            delivery = two.delivery("after the consumer was deleted", 5) => delivery,
        };
        one.settle(&delivery, Settlement::Done).await;
        missing.remove(&delivery.sequence);
    }
    let remade = one.deliveries.events().consumer_remade + two.deliveries.events().consumer_remade;
    probe.check("the members tell that it was made again", remade >= 1, remade);
    let call = streams.consumer_names(&bench.name, Probe::deadline());
    let names = probe.ok("list consumers", call).await;
    probe.check("there is one consumer again", names == ["worker"], names);
    drop((one, two));
    bench.done().await;
}

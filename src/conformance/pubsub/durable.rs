//! Durable consumers: every message is delivered until it is settled.

mod consumers;
mod members;
mod settling;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use consumers::{deleted_consumers, differences, found_consumers};
pub use members::{
    closed_members, drained_members, dropped_members, members_share, most_in_flight,
};
pub use settling::{again, redelivery, settled_stays_settled, working};

use super::Shape;
use super::bench::Bench;
use super::probe::{Probe, text};
use crate::error::ErrorKind;
use crate::pubsub::driver::{ConsumerConfig, Driver, Settlement, Start};

/// Each message is delivered once when it is settled, in order, unchanged.
pub async fn deliveries(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    const MESSAGES: usize = 200;
    let bench = Bench::with_stream(driver, shape, "deliveries").await;
    let probe = &bench.probe;
    let mut member = bench.join(&bench.consumer("worker")).await;
    member.ask(10).await;
    for number in 1..=MESSAGES {
        let trace = number.to_string();
        let sent = bench.try_publish("a.b", trace.clone(), &[("Trace", &trace)]).await;
        probe.check("publish", sent.is_ok(), sent);
    }
    for number in 1..=MESSAGES {
        let delivery = member.delivery("a message", 10).await;
        let message = &delivery.message;
        let trace = message.headers.as_ref().and_then(|all| all.get("Trace"));
        let trace = trace.map(|value| value.as_str().to_owned());
        let expected = number.to_string();
        let same = text(message) == expected
            && trace.as_ref() == Some(&expected)
            && message.subject == probe.subject("a.b")
            && message.reply.is_none();
        probe.check("in order and unchanged", same, &delivery);
        let counted = delivery.sequence == number as u64 && delivery.deliveries == 1;
        probe.check("with its sequence, delivered once", counted, &delivery);
        let left = (MESSAGES - number) as u64;
        probe.check("with how many are left", delivery.pending <= left, &delivery);
        let age = SystemTime::now().duration_since(delivery.stored).unwrap_or_default();
        probe.check("with when it was stored", age < Duration::from_secs(600), age);
        member.settle(&delivery, Settlement::Done).await;
    }
    // Gone for good before the next message comes, so that it is on its way to the other one alone.
    member.close().await;
    let mut other = bench.join(&bench.consumer("worker")).await;
    bench.publish("a.b", "last").await;
    let delivery = other.delivery("the next message", 10).await;
    let last = text(&delivery.message) == "last" && delivery.deliveries == 1;
    probe.check("what is settled does not come again", last, &delivery);
    bench.done().await;
}

/// A new consumer begins where it is told.
pub async fn starts(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    let bench = Bench::with_stream(driver, shape, "starts").await;
    let probe = &bench.probe;
    bench.publish_numbers("a", 2).await;
    // So that the third has a time of its own.
    tokio::time::sleep(Duration::from_millis(5)).await;
    bench.publish("a", "3").await;
    let call = bench.streams().message_from(&bench.name, ">", 3, Probe::deadline());
    let Some(third) = probe.ok("read the third message", call).await else {
        probe.fail("read the third message", "it is not there");
    };
    let mut members = Vec::new();
    for (step, start, expected) in [
        ("all", Start::All, &["1", "2", "3", "4"][..]),
        ("new", Start::New, &["4"]),
        ("from_a_sequence", Start::Sequence(2), &["2", "3", "4"]),
        ("from_a_time", Start::Time(third.stored), &["3", "4"]),
    ] {
        let config = ConsumerConfig { start, ..bench.consumer(step) };
        members.push((step, bench.join(&config).await, config, expected));
    }
    bench.publish("a", "4").await;
    for (step, mut member, config, expected) in members {
        let payloads = member.done(step, expected.len()).await;
        probe.check(step, payloads == expected, payloads);
        // Where to begin says nothing of a consumer that is there.
        drop(member);
        probe.flush().await;
        let other = ConsumerConfig { start: Start::All, ..config };
        let _ = bench.join(&other).await;
    }
    bench.done().await;
}

/// A consumer gets what its filters cover, of what is there and of what comes.
pub async fn filters(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    let bench = Bench::with_stream(driver, shape, "filters").await;
    let probe = &bench.probe;
    let tails = ["a.x", "b.x", "a.y", "c", "a.x.z"];
    for tail in tails {
        bench.publish(tail, tail).await;
    }
    let mut members = Vec::new();
    for (step, filters, expected) in [
        ("one_subject", &["a.x"][..], &["a.x"][..]),
        ("one_pattern", &["a.*"], &["a.x", "a.y"]),
        ("all_below", &["a.>"], &["a.x", "a.y", "a.x.z"]),
        ("several", &["a.y", "b.*", "c"], &["b.x", "a.y", "c"]),
    ] {
        let mut config = bench.consumer(step);
        config.filters = bench.filters(filters);
        let call = bench.streams().consume(&config, false, Probe::deadline());
        match probe.within(step, call).await {
            Ok(_) => members.push((step, bench.join(&config).await, expected)),
            Err(error) => {
                let refused = error.kind() == ErrorKind::Unsupported && filters.len() > 1;
                probe.check("several filters are taken or refused", refused, error);
            }
        }
    }
    for tail in tails {
        bench.publish(tail, tail).await;
    }
    for (step, mut member, expected) in members {
        let payloads = member.done(step, 2 * expected.len()).await;
        probe.check(step, payloads == [expected, expected].concat(), payloads);
    }
    bench.done().await;
}

//! Several members of one consumer, and how they end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future;
use tokio::time::sleep;

use super::super::Shape;
use super::super::bench::{Bench, LONG};
use super::super::probe::text;
use crate::pubsub::driver::{ConsumerConfig, Driver, Settlement};

/// Members share the messages: each once, to one of them, and each member some.
pub async fn members_share(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    const MESSAGES: usize = 150;
    let bench = Bench::with_stream(driver, shape, "members_share").await;
    let probe = &bench.probe;
    let config = bench.consumer("worker");
    let mut members = Vec::new();
    for _ in 0..3 {
        let mut member = bench.join(&config).await;
        member.ask(1).await;
        members.push(member);
    }
    let (told, heard) = tokio::sync::watch::channel(0);
    let work = future::join_all(members.iter_mut().map(|member| {
        let (told, mut heard) = (told.clone(), heard.clone());
        async move {
            let mut payloads = Vec::new();
            loop {
                let delivery = tokio::select! {
                    delivery = member.delivery("a share", 1) => delivery,
                    _ = heard.wait_for(|done| *done >= MESSAGES) => return payloads,
                };
                payloads.push(text(&delivery.message));
                sleep(Duration::from_millis(1)).await;
                member.settle(&delivery, Settlement::Done).await;
                told.send_modify(|done| *done += 1);
            }
        }
    }));
    let ((), shares) = future::join(bench.publish_numbers("a", MESSAGES), work).await;
    for share in &shares {
        probe.check("each member gets some", !share.is_empty(), &shares);
    }
    let mut all = shares.concat();
    all.sort_by_key(|number| number.parse().unwrap_or(0));
    let expected: Vec<String> = (1..=MESSAGES).map(|number| number.to_string()).collect();
    probe.check("each message goes to one member", all == expected, all);
    bench.done().await;
}

/// All members together never have more than the most in flight, and settling makes room.
pub async fn most_in_flight(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    const MOST: usize = 7;
    let bench = Bench::with_stream(driver, shape, "most_in_flight").await;
    let probe = &bench.probe;
    let config = ConsumerConfig { max_in_flight: MOST, ..bench.consumer("worker") };
    let (mut one, mut two) = (bench.join(&config).await, bench.join(&config).await);
    bench.publish_numbers("a", 3 * MOST).await;
    let mut seen = BTreeSet::new();
    for round in 1..=3 {
        let mut held = Vec::new();
        while held.len() < MOST {
            let delivery = tokio::select! {
                delivery = one.delivery("up to the most", 100) => delivery,
                delivery = two.delivery("up to the most", 100) => delivery,
            };
            seen.insert(delivery.sequence);
            held.push(delivery);
        }
        let quiet = Duration::from_millis(150);
        let more = future::join(one.within(quiet, 100), two.within(quiet, 100)).await;
        let none = more.0.is_none() && more.1.is_none();
        probe.check("no more than the most are in flight", none, more);
        probe.check("each is another one", seen.len() == round * MOST, &seen);
        for delivery in &held {
            one.settle(delivery, Settlement::Done).await;
        }
    }
    bench.done().await;
}

/// What a dropped member had comes to another one; what it had settled does not.
pub async fn dropped_members(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    leaves(driver, shape, "dropped_members", false).await;
}

/// What a closed member had comes to another one; what it had settled does not.
pub async fn closed_members(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    leaves(driver, shape, "closed_members", true).await;
}

async fn leaves(driver: &Arc<dyn Driver>, shape: Shape<'_>, part: &'static str, close: bool) {
    const MESSAGES: usize = 30;
    let bench = Bench::with_stream(driver, shape, part).await;
    let probe = &bench.probe;
    let ack_wait = Duration::from_secs(2);
    let config = ConsumerConfig { ack_wait, ..bench.consumer("worker") };
    let mut first = bench.join(&config).await;
    let mut idle = bench.join(&config).await;
    idle.ask(10).await;
    bench.publish_numbers("a", MESSAGES).await;
    let mut done = BTreeSet::new();
    for number in 0..6 {
        let delivery = first.delivery("a message", 10).await;
        if number < 3 {
            first.settle(&delivery, Settlement::Done).await;
            done.insert(delivery.sequence);
        }
    }
    if close {
        first.close().await;
        let end = first.next("the end", 10).await;
        probe.check("a closed member has ended", end.is_none(), end);
        idle.close().await;
    }
    drop((first, idle));
    let mut second = bench.join(&config).await;
    while done.len() < MESSAGES {
        let delivery = second.delivery("what the others left", 10).await;
        second.settle(&delivery, Settlement::Done).await;
        let settled_before = delivery.deliveries == 1 && done.contains(&delivery.sequence);
        probe.check("what was settled does not come again", !settled_before, &delivery);
        done.insert(delivery.sequence);
    }
    bench.done().await;
}

/// A drained member gives what has arrived, and then ends; all else goes to another one, at once. With
/// several copies of the stream, what was on its way between servers may come again after the ack wait.
pub async fn drained_members(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    const MESSAGES: usize = 40;
    let bench = Bench::with_stream(driver, shape, "drained_members").await;
    let probe = &bench.probe;
    let is_replicated = bench.config().replicas.is_some_and(|copies| copies > 1);
    // What is lost would come again too late.
    let ack_wait = if is_replicated { Duration::from_secs(3) } else { LONG };
    let config = ConsumerConfig { ack_wait, ..bench.consumer("worker") };
    let (mut first, mut idle) = (bench.join(&config).await, bench.join(&config).await);
    idle.ask(20).await;
    idle.drain().await;
    let end = idle.next("the end", 20).await;
    probe.check("an idle member that is drained ends", end.is_none(), end);

    bench.publish_numbers("a", MESSAGES / 2).await;
    let mut given = Vec::new();
    for _ in 0..3 {
        let delivery = first.delivery("a message", 10).await;
        first.settle(&delivery, Settlement::Done).await;
        given.push(delivery.sequence);
    }
    first.drain().await;
    while let Some(delivery) = first.next("what has arrived", 10).await {
        first.settle(&delivery, Settlement::Done).await;
        given.push(delivery.sequence);
    }
    let end = first.next("the end again", 10).await;
    probe.check("the end is final", end.is_none(), end);

    let mut second = bench.join(&config).await;
    bench.publish_numbers("a", MESSAGES / 2).await;
    while given.len() < MESSAGES {
        let delivery = second.delivery("the rest, at once", 10).await;
        second.settle(&delivery, Settlement::Done).await;
        let is_first = delivery.deliveries == 1 || is_replicated;
        probe.check("nothing comes twice", is_first, &delivery);
        given.push(delivery.sequence);
    }
    let all: BTreeSet<u64> = given.iter().copied().collect();
    probe.check("each message is given once", all.len() == MESSAGES, given);
    bench.done().await;
}

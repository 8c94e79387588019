//! What becomes of a delivery, and when it comes again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::Shape;
use super::super::bench::{Bench, conclusive};
use super::super::probe::text;
use crate::pubsub::driver::{ConsumerConfig, Driver, Settlement};

/// Without a word a message comes again after the ack wait, counted, no earlier.
pub async fn redelivery(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    let bench = Bench::with_stream(driver, shape, "redelivery").await;
    let probe = &bench.probe;
    let ack_wait = Duration::from_secs(1);
    let mut member = bench.join(&ConsumerConfig { ack_wait, ..bench.consumer("worker") }).await;
    let begun = Instant::now();
    bench.publish("a", "1").await;
    for deliveries in 1..=3 {
        let delivery = member.delivery("a message without a word", 5).await;
        probe.check("deliveries are counted", delivery.deliveries == deliveries, &delivery);
        let same = delivery.sequence == 1 && text(&delivery.message) == "1";
        probe.check("it is the same message", same, &delivery);
        let (elapsed, least) = (begun.elapsed(), ack_wait * (deliveries as u32 - 1));
        probe.check("not before the ack wait", elapsed >= least, (deliveries, elapsed));
    }
    bench.done().await;
}

/// What is done, or never to come again, does not come again; what is settled late is settled too.
pub async fn settled_stays_settled(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    let bench = Bench::with_stream(driver, shape, "settled_stays_settled").await;
    let probe = &bench.probe;
    let mut turn = 0;
    conclusive(probe, async |ack_wait| {
        turn += 1;
        let name = format!("worker_{turn}");
        let call = bench.streams().purge_stream(&bench.name, None, super::Probe::deadline());
        probe.ok("empty the stream", call).await;
        let mut member = bench.join(&ConsumerConfig { ack_wait, ..bench.consumer(&name) }).await;
        let begun = Instant::now();
        for payload in ["done", "never", "silent"] {
            bench.publish("a", payload).await;
        }
        let mut receipts = Vec::new();
        for settlement in [
            Some(Settlement::Done),
            Some(Settlement::Never("a poison message\\nof two lines".to_owned())),
            None,
        ] {
            let delivery = member.delivery("a message", 5).await;
            if let Some(settlement) = settlement {
                member.settle(&delivery, settlement).await;
            }
            receipts.push(delivery);
        }
        probe.flush().await;
        if begun.elapsed() > ack_wait / 2 {
            return false;
        }
        // The silent one comes again when the time of the others is past too.
        let again = member.delivery("the one without a word", 5).await;
        let silent = text(&again.message) == "silent" && again.deliveries == 2;
        probe.check("only it comes again", silent, &again);
        member.settle(&receipts[2], Settlement::Done).await;
        probe.flush().await;
        bench.publish("a", "last").await;
        let settled = Instant::now();
        let next = member.delivery("the last one", 5).await;
        let last = text(&next.message) == "last" && next.deliveries == 1;
        probe.check("nothing else comes", last, &next);
        if settled.elapsed() > ack_wait / 2 {
            return false;
        }
        let next = member.delivery("the last one again", 5).await;
        let last = text(&next.message) == "last" && next.deliveries == 2;
        probe.check("what was settled by an earlier receipt is settled", last, &next);
        true
    })
    .await;
    bench.done().await;
}

/// A message that is to come again after a while does, no earlier, before the ack wait; at once
/// without a while.
pub async fn again(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    let bench = Bench::with_stream(driver, shape, "again").await;
    let probe = &bench.probe;
    let mut member = bench.join(&bench.consumer("worker")).await;
    bench.publish_numbers("a", 2).await;
    let first = member.delivery("the first", 1).await;
    let second = member.delivery("the second", 1).await;
    let (long, short) = (Duration::from_secs(3), Duration::from_millis(400));
    let begun = Instant::now();
    member.settle(&first, Settlement::Again(long)).await;
    member.settle(&second, Settlement::Again(short)).await;
    for (number, wait) in [("2", short), ("1", long)] {
        let delivery = member.delivery("a message that is to come again", 1).await;
        let elapsed = begun.elapsed();
        probe.check("the shorter wait first", text(&delivery.message) == number, &delivery);
        probe.check("deliveries are counted", delivery.deliveries == 2, &delivery);
        probe.check("not before the wait", elapsed >= wait, elapsed);
        if number == "1" {
            member.settle(&delivery, Settlement::Again(Duration::ZERO)).await;
            let delivery = member.delivery("at once", 1).await;
            let at_once = text(&delivery.message) == "1" && delivery.deliveries == 3;
            probe.check("without a wait it comes at once", at_once, &delivery);
        }
    }
    bench.done().await;
}

/// Word that a message is at work holds it back.
pub async fn working(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    let bench = Bench::with_stream(driver, shape, "working").await;
    let probe = &bench.probe;
    let mut turn = 0;
    conclusive(probe, async |ack_wait| {
        turn += 1;
        let name = format!("worker_{turn}");
        let mut member = bench.join(&ConsumerConfig { ack_wait, ..bench.consumer(&name) }).await;
        let begun = Instant::now();
        if turn == 1 {
            bench.publish("a", "1").await;
        }
        let delivery = member.delivery("a message", 5).await;
        let (mut last, mut gap) = (begun, Duration::ZERO);
        while begun.elapsed() < 2 * ack_wait {
            sleep(ack_wait / 8).await;
            let begun = Instant::now();
            member.settle(&delivery, Settlement::Working).await;
            probe.flush().await;
            gap = gap.max(last.elapsed());
            last = begun;
        }
        let early = member.within(Duration::from_millis(1), 5).await;
        if gap > ack_wait / 2 {
            return false;
        }
        probe.check("it does not come again while it is at work", early.is_none(), early);
        let again = member.delivery("a message that is at work no more", 5).await;
        let elapsed = last.elapsed();
        probe.check("then it comes again", again.deliveries == 2, &again);
        probe.check("the ack wait began anew", elapsed >= ack_wait, elapsed);
        true
    })
    .await;
    bench.done().await;
}

//! How a subscription ends: drained, closed, dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::probe::{Probe, text};
use crate::pubsub::driver::{Driver, InboundMessage};

/// Publishes 0, 1, 2 ... at some 10,000 a second, in a task of its own.
struct Load {
    sent: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Load {
    fn start(probe: &Probe, tail: &'static str) -> Self {
        let sent = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn({
            let (probe, sent, stop) = (probe.clone(), Arc::clone(&sent), Arc::clone(&stop));
            async move {
                let mut ticks = tokio::time::interval(Duration::from_millis(2));
                while !stop.load(Ordering::SeqCst) {
                    ticks.tick().await;
                    for _ in 0..20 {
                        let number = sent.load(Ordering::SeqCst);
                        probe.publish(tail, number.to_string()).await;
                        sent.store(number + 1, Ordering::SeqCst);
                    }
                }
            }
        });
        Load { sent, stop, task }
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    /// How many messages were published in all.
    async fn stop(self, probe: &Probe) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        if let Err(error) = self.task.await {
            probe.fail("publish under load", error);
        }
        self.sent.load(Ordering::SeqCst)
    }
}

fn number(probe: &Probe, message: &InboundMessage) -> usize {
    text(message).parse().unwrap_or_else(|error| probe.fail("a payload arrives whole", error))
}

/// A drain in the middle of a stream of messages keeps all that came before it, and then the source
/// ends.
pub async fn drain_loses_nothing(driver: &Arc<dyn Driver>) {
    let probe = Probe::new(driver, "drain_loses_nothing");
    let mut inbox = probe.subscribe("load", None).await;
    let load = Load::start(&probe, "load");
    let mut received = Vec::new();
    while received.len() < 200 {
        received.push(number(&probe, &inbox.message("a message under load").await));
    }
    let before = load.sent();
    probe.flush().await;
    inbox.drain().await;
    received.extend(inbox.rest().await.iter().map(|message| number(&probe, message)));
    load.stop(&probe).await;

    probe.check("what was sent before the drain arrived", received.len() >= before, received.len());
    let gapless = received.iter().enumerate().all(|(at, number)| at == *number);
    probe.check("nothing is missing in between", gapless, received);
}

/// A member that leaves a queue group by a drain handles what it was given; the others get the rest:
/// every message once.
pub async fn drain_in_a_queue_group(driver: &Arc<dyn Driver>) {
    let probe = Probe::new(driver, "drain_in_a_queue_group");
    let mut leaving = probe.subscribe("load", Some("workers")).await;
    let mut staying = probe.subscribe("load", Some("workers")).await;
    let load = Load::start(&probe, "load");
    let mut received = Vec::new();
    for _ in 0..100 {
        let message = leaving.message("a message for the member that leaves").await;
        received.push(number(&probe, &message));
    }
    leaving.drain().await;
    received.extend(leaving.rest().await.iter().map(|message| number(&probe, message)));
    let at_leaving = load.sent();
    loop {
        let next = number(&probe, &staying.message("a message for the member that stays").await);
        received.push(next);
        if next > at_leaving + 100 {
            break;
        }
    }
    let sent = load.stop(&probe).await;
    probe.flush().await;
    staying.drain().await;
    received.extend(staying.rest().await.iter().map(|message| number(&probe, message)));

    received.sort_unstable();
    let once = received.iter().copied().eq(0..sent);
    probe.check("every message went to one member", once, (sent, received));
}

/// Closing ends a source at once and takes the subscription away.
pub async fn close_ends_at_once(driver: &Arc<dyn Driver>) {
    let probe = Probe::new(driver, "close_ends_at_once");
    let mut inbox = probe.subscribe("a", None).await;
    for payload in ["1", "2", "3"] {
        probe.publish("a", payload).await;
    }
    probe.flush().await;
    let first = text(&inbox.message("the first message").await);
    probe.check("the first message comes first", first == "1", first);
    probe.within("close", inbox.source.close()).await;
    let next = inbox.next("read after a close").await;
    probe.check("a closed source has ended", next.is_none(), next);

    let result = probe.request(probe.message("a", "?"), Duration::from_secs(5)).await;
    let gone = result.as_ref().is_err_and(crate::Error::is_no_responders);
    probe.check("a closed source is unsubscribed", gone, result);
}

/// Dropping a source unsubscribes, and leaves its duplicate alone.
pub async fn drop_unsubscribes(driver: &Arc<dyn Driver>) {
    let probe = Probe::new(driver, "drop_unsubscribes");
    let dropped = probe.subscribe("a", None).await;
    let kept = probe.subscribe("a", None).await;
    drop(dropped);
    probe.publish("a", "1").await;
    let all = kept.all().await;
    probe.check("a duplicate of a dropped source lives on", all == ["1"], all);

    // A drop cannot wait for the back end, so its effect may come a moment later.
    let started = Instant::now();
    loop {
        let result = probe.request(probe.message("a", "?"), Duration::from_millis(100)).await;
        match result {
            Err(error) if error.is_no_responders() => break,
            other if started.elapsed() > Duration::from_secs(10) => {
                probe.fail("a dropped source is unsubscribed", other)
            }
            _ => {}
        }
    }
}

//! What a publish may ask of a stream.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::super::Shape;
use super::super::bench::{Bench, batch};
use super::super::probe::{Probe, text};
use crate::error::{Error, ErrorKind};
use crate::pubsub::driver::{Driver, Settlement};

/// What a publish expects of the stream holds, or it is a conflict and nothing is stored.
pub async fn expectations(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    let bench = Bench::with_stream(driver, shape, "expectations").await;
    let probe = &bench.probe;
    bench.publish("a", "0").await;
    let first = bench.try_publish("a", "1", &[("Nats-Msg-Id", "one")]).await;
    probe.check("a message with an id", first.as_ref().is_ok_and(|ack| ack.sequence == 2), first);
    for (name, wrong) in [
        ("Nats-Expected-Stream", "ELSEWHERE"),
        ("Nats-Expected-Last-Sequence", "1"),
        ("Nats-Expected-Last-Subject-Sequence", "1"),
        ("Nats-Expected-Last-Subject-Sequence", "7"),
    ] {
        let refused = bench.try_publish("a", "2", &[(name, wrong)]).await;
        let conflict = refused.as_ref().is_err_and(Error::is_conflict);
        probe.check("an expectation that fails is a conflict", conflict, (name, wrong, refused));
    }
    let held = bench.held().await;
    probe.check("a conflict stores nothing", held == ["0", "1"], held);
    for (tail, name, right) in [
        ("a", "Nats-Expected-Last-Msg-Id", "one"),
        ("b", "Nats-Expected-Stream", bench.name.as_str()),
        ("b", "Nats-Expected-Last-Sequence", "4"),
        ("a", "Nats-Expected-Last-Subject-Sequence", "3"),
        ("c", "Nats-Expected-Last-Subject-Sequence", "0"),
    ] {
        let met = bench.try_publish(tail, "2", &[(name, right)]).await;
        probe.check("an expectation that holds", met.is_ok(), (name, right, met));
    }
    // A replicated stream of nats-server 2.15.1 is stuck for ever after this one.
    if bench.config().replicas.is_none_or(|copies| copies == 1) {
        let refused = bench.try_publish("a", "3", &[("Nats-Expected-Last-Msg-Id", "two")]).await;
        let conflict = refused.as_ref().is_err_and(Error::is_conflict);
        probe.check("another last message id is a conflict", conflict, refused);
        let held = bench.held().await.len();
        probe.check("and stores nothing", held == 7, held);
    }
    bench.done().await;
}

/// Several messages are stored together or not at all, where the stream allows it.
pub async fn atomic_publishing(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    let bench = Bench::new(driver, shape, "atomic_publishing");
    let (probe, streams) = (&bench.probe, bench.streams());
    if !bench.create_if_supported(bench.config().atomic_publish(true)).await {
        return;
    }
    bench.publish("a", "0").await;
    let messages = batch(probe, &[("a", "1"), ("b", "2"), ("c", "3")]);
    let call = streams.publish_atomic(&bench.name, messages.clone(), Probe::deadline());
    let ack = probe.ok("publish together", call).await;
    probe.check("the last one's sequence", ack.sequence == 4 && ack.stream == bench.name, ack);
    bench.holds("all are stored in order", &["0", "1", "2", "3"]).await;

    let mut torn = messages;
    let mut headers = async_nats::HeaderMap::new();
    headers.append("Nats-Expected-Last-Subject-Sequence", "1");
    torn[1].headers = Some(headers);
    let call = streams.publish_atomic(&bench.name, torn.clone(), Probe::deadline());
    bench.refused("one expectation fails", ErrorKind::Conflict, call).await;
    let held = bench.held().await;
    probe.check("then none is stored", held.len() == 4, held);

    let plain = Bench::with_stream(driver, shape, "no_atomic_publishing").await;
    let messages = batch(&plain.probe, &[("a", "1"), ("a", "2")]);
    let call = streams.publish_atomic(&plain.name, messages, Probe::deadline());
    plain.refused("a stream that does not allow it", ErrorKind::Unsupported, call).await;
    let held = plain.held().await;
    plain.probe.check("a refusal stores nothing", held.is_empty(), held);
    plain.done().await;
    bench.done().await;
}

/// A stream publishes a message at its time, once, where it can; unless it is taken back.
pub async fn schedules(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    let bench = Bench::new(driver, shape, "schedules");
    let (probe, streams) = (&bench.probe, bench.streams());
    if !bench.create_if_supported(bench.config().schedules(true)).await {
        return;
    }
    let target = probe.subject("out").to_string();
    let mut config = bench.consumer("worker");
    config.filters = vec![target.clone()];
    let mut member = bench.join(&config).await;
    let schedule = async |tail: &str, payload: &'static str, at: SystemTime| {
        let at = format!("@at {}", humantime::format_rfc3339(at));
        let headers =
            [("Nats-Schedule", at.as_str()), ("Nats-Schedule-Target", &target), ("Trace", "x")];
        let call = bench.try_publish(tail, payload, &headers);
        probe.ok("schedule a message", call).await
    };
    // Time enough to replace and take back what is due before.
    let due = SystemTime::now() + Duration::from_secs(5);
    schedule("late.1", "replaced", due - Duration::from_millis(500)).await;
    schedule("late.1", "later", due).await;
    schedule("late.2", "taken back", due - Duration::from_millis(500)).await;
    let taken_back = probe.subject("late.2").to_string();
    let call = streams.purge_stream(&bench.name, Some(&taken_back), Probe::deadline());
    let purged = probe.ok("take a schedule back", call).await;
    probe.check("it was there", purged == 1, purged);

    let delivery = member.delivery("the scheduled message", 5).await;
    let early = due.duration_since(SystemTime::now()).ok();
    // Servers look at their schedules by the second.
    let early = early.filter(|early| *early > Duration::from_secs(1));
    probe.check("not before its time", early.is_none(), early);
    let payload = text(&delivery.message);
    probe.check("it is the one that was scheduled last", payload == "later", &payload);
    let trace = delivery.message.headers.as_ref().and_then(|all| all.get("Trace"));
    let kept = trace.is_some_and(|trace| trace.as_str() == "x");
    probe.check("it has its headers", kept, &delivery.message.headers);
    member.settle(&delivery, Settlement::Done).await;
    bench.holds("the schedule is over", &["later"]).await;

    let plain = Bench::with_stream(driver, shape, "no_schedules").await;
    let headers =
        [("Nats-Schedule", "@at 2000-01-01T00:00:00Z"), ("Nats-Schedule-Target", &target)];
    let refused = plain.try_publish("late", "1", &headers).await;
    plain.probe.check("a stream without schedules refuses them", refused.is_err(), refused);
    plain.done().await;
    bench.done().await;
}

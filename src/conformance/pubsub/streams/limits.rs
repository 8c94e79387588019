//! What a stream gives up, and when.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::Shape;
use super::super::bench::{Bench, is};
use super::super::probe::Probe;
use crate::error::ErrorKind;
use crate::pubsub::driver::{Driver, Settlement};
use crate::streams::{Discard, Retention};

/// A full stream gives up its oldest messages, or refuses new ones.
pub async fn limits(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    let bench = Bench::new(driver, shape, "limits");
    let (probe, streams) = (&bench.probe, bench.streams());
    bench.create(bench.config().max_messages(4).max_messages_per_subject(2)).await;
    for (tail, payload) in [("a", "1"), ("a", "2"), ("a", "3"), ("b", "4"), ("c", "5")] {
        bench.publish(tail, payload).await;
    }
    bench.holds("of one subject the newest are kept", &["2", "3", "4", "5"]).await;
    bench.publish("c", "6").await;
    bench.holds("of all the newest are kept", &["3", "4", "5", "6"]).await;

    let change = bench.config().discard(Discard::New);
    probe.ok("change it", streams.update_stream(&change, Probe::deadline())).await;
    let refused = bench.try_publish("d", "7", &[]).await;
    let full = refused.as_ref().is_err_and(is(ErrorKind::Unavailable));
    probe.check("a full stream refuses", full, refused);
    bench.holds("and stores nothing", &["3", "4", "5", "6"]).await;
    let call = streams.delete_message(&bench.name, 3, Probe::deadline());
    probe.ok("make room", call).await;
    bench.publish("d", "8").await;
    bench.holds("with room it stores again", &["4", "5", "6", "8"]).await;

    let change = bench.config().discard(Discard::Old).max_messages(0).max_message_size(100);
    probe.ok("change it", streams.update_stream(&change, Probe::deadline())).await;
    let refused = bench.try_publish("d", vec![b'x'; 101], &[]).await;
    let large = refused.as_ref().is_err_and(is(ErrorKind::TooLarge));
    probe.check("a message above the limit is too large", large, refused);
    let fits = bench.try_publish("d", vec![b'x'; 100], &[]).await;
    probe.check("one at the limit is not", fits.is_ok(), fits);

    let change = bench.config().max_message_size(0).max_bytes(2_000);
    probe.ok("change it", streams.update_stream(&change, Probe::deadline())).await;
    for _ in 0..30 {
        bench.publish("e", vec![b'x'; 200]).await;
        bench.publish("f", vec![b'x'; 200]).await;
    }
    let status = bench.status().await;
    let bounded = status.as_ref().is_some_and(|status| status.bytes <= 2_000);
    probe.check("its size stays within the limit", bounded, status);
    bench.done().await;
}

/// A message is kept for the stream's age, no less, and not much longer.
pub async fn ages(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    let bench = Bench::new(driver, shape, "ages");
    let probe = &bench.probe;
    let age = Duration::from_millis(1_500);
    bench.create(bench.config().max_age(age)).await;
    let begun = Instant::now();
    bench.publish("a", "1").await;
    let held = bench.held().await;
    if begun.elapsed() < age {
        probe.check("it is there before its age", held == ["1"], held);
    }
    bench.holds("it goes with its age", &[]).await;
    let elapsed = begun.elapsed();
    probe.check("it goes no earlier", elapsed >= age, elapsed);
    bench.done().await;
}

/// A single message may have a lifetime, where the stream allows it.
pub async fn lifetimes(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    let bench = Bench::new(driver, shape, "lifetimes");
    let probe = &bench.probe;
    if !bench.create_if_supported(bench.config().message_ttl(true)).await {
        return;
    }
    let begun = Instant::now();
    for (payload, ttl) in
        [("1", &[("Nats-TTL", "2")][..]), ("2", &[]), ("3", &[("Nats-TTL", "900")])]
    {
        let stored = bench.try_publish("a", payload, ttl).await;
        probe.check("a message with a lifetime", stored.is_ok(), stored);
    }
    let held = bench.held().await;
    if begun.elapsed() < Duration::from_secs(2) {
        probe.check("it is there before its end", held == ["1", "2", "3"], held);
    }
    bench.holds("it goes at its end", &["2", "3"]).await;
    let elapsed = begun.elapsed();
    probe.check("it goes no earlier", elapsed >= Duration::from_secs(2), elapsed);

    let strict = Bench::new(driver, shape, "no_lifetimes");
    strict.create(strict.config()).await;
    let refused = strict.try_publish("a", "1", &[("Nats-TTL", "2")]).await;
    let unsupported = refused.as_ref().is_err_and(is(ErrorKind::Unsupported));
    probe.check("a stream without lifetimes refuses them", unsupported, refused);
    strict.done().await;
    bench.done().await;
}

/// A message id is known for the window, no longer.
pub async fn duplicate_window(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    let bench = Bench::new(driver, shape, "duplicate_window");
    let probe = &bench.probe;
    let window = Duration::from_millis(1_500);
    bench.create(bench.config().duplicate_window(window)).await;
    let id = [("Nats-Msg-Id", "one")];
    let first = probe.ok("an id", bench.try_publish("a", "1", &id)).await;
    let stored = Instant::now();
    loop {
        let asked = Instant::now();
        let again = probe.ok("the same id", bench.try_publish("b", "2", &id)).await;
        if !again.duplicate {
            let known = stored.elapsed();
            probe.check("an id is known for the window", known >= window / 2, known);
            probe.check("then it is new", again.sequence == first.sequence + 1, again);
            break;
        }
        probe.check("it names the first", again.sequence == first.sequence, again);
        let late = asked.duration_since(stored) > window + Duration::from_secs(5);
        probe.check("it is forgotten after the window", !late, asked.duration_since(stored));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bench.done().await;
}

/// A work queue gives up what its consumer settled, and has one consumer for each message; interest
/// keeps a message until every consumer that it is for has settled it.
pub async fn retention(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    let bench = Bench::new(driver, shape, "retention");
    let streams = bench.streams();
    bench.create(bench.config().retention(Retention::WorkQueue)).await;
    for (tail, payload) in [("a", "1"), ("a", "2"), ("b", "3")] {
        bench.publish(tail, payload).await;
    }
    let mut only = bench.consumer("only_a");
    only.filters = bench.filters(&["a"]);
    let mut member = bench.join(&only).await;
    let mut all = bench.consumer("all");
    all.filters = bench.filters(&[">"]);
    let call = streams.consume(&all, false, Probe::deadline());
    bench.refused("a second consumer of a message", ErrorKind::InvalidInput, call).await;
    let first = member.delivery("the first of the queue", 5).await;
    member.settle(&first, Settlement::Done).await;
    bench.holds("what is done is given up", &["2", "3"]).await;
    let second = member.delivery("the second of the queue", 5).await;
    member.settle(&second, Settlement::Never("poison".to_owned())).await;
    bench.holds("so is what is never to come again", &["3"]).await;
    drop(member);
    bench.done().await;

    let bench = Bench::new(driver, shape, "interest");
    let probe = &bench.probe;
    bench.create(bench.config().retention(Retention::Interest)).await;
    let mut first = bench.join(&bench.consumer("first")).await;
    let mut second = bench.join(&bench.consumer("second")).await;
    bench.publish_numbers("a", 2).await;
    let done = first.done("the first consumer", 2).await;
    probe.check("each consumer gets all", done == ["1", "2"], done);
    let held = bench.held().await;
    probe.check("what another one needs is kept", held == ["1", "2"], held);
    second.done("the second consumer", 1).await;
    bench.holds("what all have done is given up", &["2"]).await;
    drop((first, second));
    bench.done().await;
}

//! Streams: made, changed, found, emptied, deleted; what they store and what they give up.

mod limits;
mod messages;
mod publishing;

use std::sync::Arc;
use std::time::Duration;

pub use limits::{ages, duplicate_window, lifetimes, limits, retention};
pub use messages::{plain_publishing, stored_messages};
pub use publishing::{atomic_publishing, expectations, schedules};

use super::Shape;
use super::bench::{Bench, is};
use super::probe::Probe;
use crate::error::ErrorKind;
use crate::pubsub::driver::Driver;
use crate::streams::{Discard, StreamConfig};

/// A stream is made once, found, listed and deleted.
pub async fn lifecycle(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    let bench = Bench::new(driver, shape, "lifecycle");
    let (probe, streams) = (&bench.probe, bench.streams());
    let none = bench.status().await;
    probe.check("no stream before it is made", none.is_none(), none);
    let config = bench.config();
    bench
        .refused(
            "change what is not there",
            ErrorKind::NotFound,
            streams.update_stream(&config, Probe::deadline()),
        )
        .await;

    let made = bench.create(config.clone()).await;
    let differences = config.differences(&made.config);
    probe.check("it is as it was asked for", differences.is_empty(), differences);
    let figures = (made.messages, made.first_sequence, made.last_sequence, made.consumers);
    probe.check("a new stream is empty", figures == (0, 0, 0, 0), figures);
    let created = made.created;
    for again in [config.clone(), config.clone().max_messages(7)] {
        let call = streams.create_stream(&again, Probe::deadline());
        bench.refused("make it again", ErrorKind::AlreadyExists, call).await;
    }
    let names = probe.ok("list streams", streams.stream_names(Probe::deadline())).await;
    probe.check("names are sorted", names.is_sorted(), &names);
    let listed = names.iter().filter(|name| **name == bench.name).count();
    probe.check("it is listed once", listed == 1, names);

    bench.publish("a", "1").await;
    let status = bench.status().await;
    let told = status.as_ref().is_some_and(|now| {
        (now.messages, now.first_sequence, now.last_sequence) == (1, 1, 1)
            && now.bytes > 0
            && now.created == created
    });
    probe.check("it tells what it holds", told, status);

    for expected in [true, false] {
        let call = streams.delete_stream(&bench.name, Probe::deadline());
        let was_there = probe.ok("delete the stream", call).await;
        probe.check("deleting tells whether it was there", was_there == expected, was_there);
    }
    let gone = bench.status().await;
    probe.check("it is gone", gone.is_none(), gone);
    bench.create(config).await;
    let held = bench.held().await;
    probe.check("a stream made again is empty", held.is_empty(), held);
    bench.done().await;
}

/// A change sets what it says and keeps the rest.
pub async fn updates(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    let bench = Bench::new(driver, shape, "updates");
    let (probe, streams) = (&bench.probe, bench.streams());
    let config = bench
        .config_of(&["a.>"])
        .description("first")
        .max_age(Duration::from_secs(3600))
        .max_messages(100)
        .duplicate_window(Duration::from_secs(7));
    bench.create(config.clone()).await;
    bench.publish("a.1", "1").await;
    let subjects = [probe.subject("a.>").to_string(), probe.subject("b").to_string()];
    let change = StreamConfig::new(&bench.name, subjects)
        .max_messages(0)
        .max_bytes(100_000)
        .discard(Discard::New);
    let changed = streams.update_stream(&change, Probe::deadline());
    let changed = probe.ok("change the stream", changed).await.config;
    let differences = change.differences(&changed);
    probe.check("what was asked for is so", differences.is_empty(), differences);
    let kept = StreamConfig::new(&bench.name, Vec::<String>::new())
        .description("first")
        .max_age(Duration::from_secs(3600))
        .duplicate_window(Duration::from_secs(7));
    let differences = kept.differences(&changed);
    probe.check("the rest is as it was", differences.is_empty(), differences);
    bench.publish("b", "2").await;
    let held = bench.held().await;
    probe.check("what it held is kept", held == ["1", "2"], held);
    bench.done().await;
}

/// Each subject belongs to one stream, which is found by it.
pub async fn subjects(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    let bench = Bench::new(driver, shape, "subjects");
    let (probe, streams) = (&bench.probe, bench.streams());
    bench.create(bench.config_of(&["a", "b.*", "c.>"])).await;
    let other = format!("{}_OTHER", bench.name);
    for overlapping in ["a", "b.x", "b.*", "*.x", "c.>", "c.x.y"] {
        let config = bench.named(&other, &[overlapping]);
        let call = streams.create_stream(&config, Probe::deadline());
        bench.refused(overlapping, ErrorKind::Conflict, call).await;
    }
    let found = probe.ok("ask for it", streams.stream(&other, Probe::deadline())).await;
    probe.check("a conflict makes nothing", found.is_none(), found);
    let config = bench.named(&other, &["b.x.y", "d"]);
    probe.ok("beside it", streams.create_stream(&config, Probe::deadline())).await;
    let change = bench.named(&other, &["b.x.y", "c.z"]);
    let call = streams.update_stream(&change, Probe::deadline());
    bench.refused("take over a subject", ErrorKind::Conflict, call).await;

    for (subject, expected) in [
        ("a", Some(&bench.name)),
        ("b.x", Some(&bench.name)),
        ("c.x.y", Some(&bench.name)),
        ("c.>", Some(&bench.name)),
        ("d", Some(&other)),
        ("b.x.y", Some(&other)),
        ("a.x", None),
        ("c", None),
    ] {
        let full = probe.subject(subject);
        let found = probe.ok("find it", streams.stream_of(&full, Probe::deadline())).await;
        probe.check(subject, found.as_ref() == expected, found);
    }
    bench.publish("b.x", "1").await;
    let error = bench.try_publish("b", "2", &[]).await;
    let told = error.as_ref().is_err_and(crate::Error::is_no_responders);
    probe.check("no stream stores it", told, error);
    let held = bench.held().await;
    probe.check("each stream stores its own", held == ["1"], held);

    probe.ok("delete", streams.delete_stream(&other, Probe::deadline())).await;
    let gone = bench.try_publish("d", "3", &[]).await;
    let told = gone.as_ref().is_err_and(crate::Error::is_no_responders);
    probe.check("a deleted stream stores nothing", told, gone);
    let found = probe.within("names of a stream that is gone", async {
        streams.consumer_names(&other, Probe::deadline()).await
    });
    let found = found.await;
    probe.check("it is not found", found.as_ref().is_err_and(is(ErrorKind::NotFound)), found);
    bench.done().await;
}

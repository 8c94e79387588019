//! What a stream holds: read, deleted, purged.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::HeaderMap;

use super::super::Shape;
use super::super::bench::{Bench, is};
use super::super::probe::{Probe, text};
use crate::error::ErrorKind;
use crate::pubsub::driver::Driver;

/// What is stored is read by its sequence and subject, unchanged, until it is deleted or purged.
pub async fn stored_messages(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    let bench = Bench::with_stream(driver, shape, "stored_messages").await;
    let (probe, streams) = (&bench.probe, bench.streams());
    for (tail, payload) in [("a.1", "one"), ("a.2", "two"), ("b", "three"), ("a.1", "four")] {
        bench.publish(tail, payload).await;
    }
    let with = bench.try_publish("b", "", &[("Trace", "x"), ("Trace", "y")]).await;
    probe.check("an empty message with headers", with.is_ok(), with);

    let at = async |filter: &str, sequence| {
        let call = streams.message_from(&bench.name, filter, sequence, Probe::deadline());
        probe.ok("read a stored message", call).await
    };
    let below = |tail: &str| probe.subject(tail).to_string();
    for (filter, from, expected) in [
        (">".to_owned(), 0, Some(1)),
        (">".to_owned(), 2, Some(2)),
        (">".to_owned(), 6, None),
        (below("b"), 1, Some(3)),
        (below("b"), 4, Some(5)),
        (below("a.*"), 3, Some(4)),
        (below("a.2"), 3, None),
        (below("none"), 0, None),
    ] {
        let found = at(&filter, from).await.map(|found| found.sequence);
        probe.check("the first one at or behind", found == expected, (filter, from, found));
    }
    if let Some(last) = at(">", 5).await {
        let mut headers = HeaderMap::new();
        headers.append("Trace", "x");
        headers.append("Trace", "y");
        let same = last.message.headers.as_ref() == Some(&headers)
            && last.message.subject == probe.subject("b")
            && last.message.payload.is_empty();
        probe.check("it is as it was published", same, &last);
        let age = SystemTime::now().duration_since(last.stored).unwrap_or_default();
        probe.check("it tells when it was stored", age < Duration::from_secs(600), age);
    }
    let bare = at(">", 1).await.and_then(|found| found.message.headers);
    probe.check("no headers are made up", bare.is_none_or(|it| it.is_empty()), "headers");

    for expected in [true, false] {
        let call = streams.delete_message(&bench.name, 2, Probe::deadline());
        let was_there = probe.ok("delete a message", call).await;
        probe.check("deleting tells whether it was there", was_there == expected, was_there);
    }
    let subject = below("b");
    let call = streams.purge_stream(&bench.name, Some(&subject), Probe::deadline());
    let purged = probe.ok("purge a subject", call).await;
    probe.check("a purge tells how many", purged == 2, purged);
    let held = bench.held().await;
    probe.check("the others stay", held == ["one", "four"], held);
    let call = streams.purge_stream(&bench.name, None, Probe::deadline());
    let purged = probe.ok("purge all", call).await;
    probe.check("a purge of all tells how many", purged == 2, purged);
    let next = bench.publish("a.1", "five").await;
    probe.check("sequences go on", next.sequence == 6, next);

    let nowhere = format!("{}_NOWHERE", bench.name);
    let missing = [
        streams.message_from(&nowhere, ">", 1, Probe::deadline()).await.err(),
        streams.delete_message(&nowhere, 1, Probe::deadline()).await.err(),
        streams.purge_stream(&nowhere, None, Probe::deadline()).await.err(),
        streams.consumer_names(&nowhere, Probe::deadline()).await.err(),
    ];
    for error in missing {
        let not_found = error.as_ref().is_some_and(is(ErrorKind::NotFound));
        probe.check("a stream that is not there is not found", not_found, error);
    }
    bench.done().await;
}

/// A plain publish is stored too, and everyone who subscribes gets what a stream stores.
pub async fn plain_publishing(driver: &Arc<dyn Driver>, shape: Shape<'_>) {
    let bench = Bench::with_stream(driver, shape, "plain_publishing").await;
    let probe = &bench.probe;
    let mut inbox = probe.subscribe("a", None).await;
    probe.publish("a", "plain").await;
    bench.holds("a plain message is stored", &["plain"]).await;
    bench.publish("a", "acked").await;
    bench.holds("so is an acknowledged one", &["plain", "acked"]).await;
    for expected in ["plain", "acked"] {
        let message = inbox.message("a subscriber gets it as well").await;
        probe.check("in order", text(&message) == expected, message);
    }
    bench.done().await;
}

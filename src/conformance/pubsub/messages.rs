//! What a message carries, unchanged, and how much of it.

use std::sync::Arc;

use async_nats::HeaderMap;
use bytes::Bytes;

use super::probe::Probe;
use crate::error::ErrorKind;
use crate::pubsub::driver::Driver;

/// Headers arrive with their case, their order of values and text beyond ASCII, on a request and
/// its answer too.
pub async fn headers(driver: &Arc<dyn Driver>) {
    let probe = Probe::new(driver, "headers");
    let mut inbox = probe.subscribe("a", None).await;
    let mut headers = HeaderMap::new();
    headers.append("X-Step", "one");
    headers.append("X-Step", "two");
    headers.append("x-step", "other case, other header");
    headers.append("Content-Type", "text/plain; charset=utf-8");
    headers.append("Note", "h\u{e9}llo: \u{1f30d}");
    probe.send(probe.with_headers("a", "", headers.clone())).await;
    let found = inbox.message("a message with headers and no payload").await.headers;
    probe.check("headers arrive as they were sent", found.as_ref() == Some(&headers), found);

    probe.publish("a", "plain").await;
    let found = inbox.message("a message without headers").await.headers;
    probe.check("no headers are made up", found.is_none_or(|found| found.is_empty()), "headers");
}

/// Payloads are bytes: empty, any value, as large as allowed.
pub async fn payloads(driver: &Arc<dyn Driver>) {
    let probe = Probe::new(driver, "payloads");
    let mut inbox = probe.subscribe("a", None).await;
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let largest = vec![b'x'; probe.driver.capabilities().max_payload];
    for (what, payload) in [
        ("an empty payload", Vec::new()),
        ("every byte value", every_byte),
        ("line ends and protocol words", b"\r\nPUB a 1\r\n\r\n".to_vec()),
        ("the largest payload allowed", largest),
    ] {
        let payload = Bytes::from(payload);
        probe.publish("a", payload.clone()).await;
        let found = inbox.message(what).await.payload;
        probe.check(what, found == payload, found.len());
    }
}

/// What is above the limit is refused before it is sent, and does no harm.
pub async fn payload_limit(driver: &Arc<dyn Driver>) {
    let probe = Probe::new(driver, "payload_limit");
    let inbox = probe.subscribe("a", None).await;
    let limit = probe.driver.capabilities().max_payload;
    let mut headers = HeaderMap::new();
    headers.append("Trace", "1");
    for (what, message) in [
        ("one byte above the limit", probe.message("a", vec![0; limit + 1])),
        ("headers beside the largest payload", probe.with_headers("a", vec![0; limit], headers)),
    ] {
        let published =
            probe.within(what, driver.publish(message.clone(), Probe::deadline())).await;
        let requested =
            probe.within(what, driver.request(message, Probe::deadline())).await.map(|_| ());
        for result in [published, requested] {
            let kind = result.as_ref().map_err(crate::Error::kind);
            probe.check(what, kind == Err(ErrorKind::TooLarge), result);
        }
    }
    probe.publish("a", "after").await;
    let all = inbox.all().await;
    probe.check("only what was allowed arrives", all == ["after"], all);
}

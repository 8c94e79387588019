//! Publishing that a stream acknowledges.

use std::sync::Arc;

use async_nats::{HeaderMap, Subject, header};
use bytes::Bytes;

use super::probe::Probe;
use crate::error::{Error, ErrorKind, Result};
use crate::pubsub::Ack;
use crate::pubsub::driver::{Driver, OutboundMessage};

/// A driver that does not claim acknowledged publishing refuses it and sends nothing.
pub async fn unclaimed_acked_publish(driver: &Arc<dyn Driver>) {
    if driver.capabilities().acked_publish {
        return;
    }
    let probe = Probe::new(driver, "unclaimed_acked_publish");
    let inbox = probe.subscribe("a", None).await;
    let call = driver.publish_acked(probe.message("a", "1"), Probe::deadline());
    let result = probe.within("publish_acked", call).await;
    let kind = result.as_ref().map_err(Error::kind);
    probe.check("refused as unsupported", kind == Err(ErrorKind::Unsupported), &result);
    let all = inbox.all().await;
    probe.check("nothing was sent", all.is_empty(), all);
}

/// Acknowledgements, duplicates, expectations and a missing stream, for a driver that claims
/// acknowledged publishing. A stream with a duplicate window must store `subject`, and nobody else
/// may publish to that stream meanwhile.
pub async fn acked_publish(driver: &Arc<dyn Driver>, subject: &str) {
    let probe = Probe::new(driver, "acked_publish");
    probe.check("claimed", driver.capabilities().acked_publish, driver.capabilities());
    let publish = async |payload: &'static str, headers: &[(&str, &str)]| -> Result<Ack> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, *value);
        }
        let message = OutboundMessage {
            subject: Subject::from(subject),
            reply: None,
            headers: Some(map),
            payload: Bytes::from(payload),
        };
        probe.within("publish_acked", driver.publish_acked(message, Probe::deadline())).await
    };

    let first = probe.ok("the first message", publish("1", &[])).await;
    let second = probe.ok("the second message", publish("2", &[])).await;
    probe.check("a stream is named", !first.stream.is_empty(), &first);
    let follows = second.sequence == first.sequence + 1 && second.stream == first.stream;
    probe.check("sequences follow", follows, (&first, &second));

    let id = format!("{:016x}", rand::random::<u64>());
    let id = [(header::NATS_MESSAGE_ID.as_ref(), id.as_str())];
    let stored = probe.ok("a message with an id", publish("3", &id)).await;
    let again = probe.ok("the same id again", publish("3", &id)).await;
    probe.check("a new id is no duplicate", !stored.duplicate, &stored);
    let same = again.duplicate && again.sequence == stored.sequence;
    probe.check("the same id is a duplicate of it", same, &again);

    let last = stored.sequence.to_string();
    let before = second.sequence.to_string();
    let expect = |last| [(header::NATS_EXPECTED_LAST_SEQUENCE.as_ref(), last)];
    let result = publish("4", &expect(before.as_str())).await;
    let conflict = result.as_ref().is_err_and(Error::is_conflict);
    probe.check("an expectation that fails is a conflict", conflict, result);
    let met = probe.ok("an expectation that holds", publish("4", &expect(last.as_str()))).await;
    probe.check("the conflict stored nothing", met.sequence == stored.sequence + 1, met);

    let nowhere = driver.publish_acked(probe.message("nowhere", "5"), Probe::deadline());
    let result = probe.within("no stream", nowhere).await;
    let told = result.as_ref().is_err_and(Error::is_no_responders);
    probe.check("a subject without a stream is told", told, result);
}

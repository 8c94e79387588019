//! Where a message of a consumer stands, as the subject for its acknowledgement tells.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Debug, PartialEq)]
pub(crate) struct Position {
    /// How often it was delivered, this time included.
    pub(crate) deliveries: u64,
    /// Its sequence in the stream.
    pub(crate) stream: u64,
    /// The number of this delivery, by the consumer.
    pub(crate) consumer: u64,
    /// When it was stored, in nanoseconds of the Unix time.
    nanos: u64,
    /// How many messages were still to come.
    pub(crate) pending: u64,
}

impl Position {
    /// Reads `$JS.ACK.<stream>.<consumer>.<delivered>.<stream sequence>.<consumer sequence>.<time>.
    /// <pending>`, or the form with `<domain>.<account>` in front of the stream, which may have more
    /// at its end.
    pub(crate) fn read(reply: &str) -> Option<Self> {
        let rest = reply.strip_prefix("$JS.ACK.")?;
        let tokens = rest.bytes().filter(|b| *b == b'.').count() + 1;
        let before = if tokens >= 9 { 4 } else { 2 };
        let mut numbers = rest.split('.').skip(before).map(str::parse);
        let mut number = || numbers.next()?.ok();
        Some(Position {
            deliveries: number()?,
            stream: number()?,
            consumer: number()?,
            nanos: number()?,
            pending: number()?,
        })
    }

    /// When the stream stored it, by the server's clock.
    pub(crate) fn stored(&self) -> SystemTime {
        // Nanoseconds in 64 bits end in the year 2554.
        UNIX_EPOCH.checked_add(Duration::from_nanos(self.nanos)).unwrap_or(UNIX_EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_in_both_forms() {
        let (nanos, pending) = (1_700_000_000, 7);
        let position = Some(Position { deliveries: 2, stream: 20, consumer: 3, nanos, pending });
        assert_eq!(Position::read("$JS.ACK.KV_b.feed.2.20.3.1700000000.7"), position);
        assert_eq!(Position::read("$JS.ACK.hub.ACC.KV_b.feed.2.20.3.1700000000.7"), position);
        assert_eq!(Position::read("$JS.ACK._.ACC.KV_b.feed.2.20.3.1700000000.7.x1y2"), position);
        for nonsense in ["", "_INBOX.x", "$JS.ACK.KV_b.feed.1.20.3", "$JS.ACK.a.b.1.x.3.4.5"] {
            assert_eq!(Position::read(nonsense), None, "{nonsense}");
        }
    }
}

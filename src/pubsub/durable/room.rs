//! How many messages a member holds: enough that its handlers never wait for the server, and no
//! more than they handle in about a second, so that a slow member does not keep from others what
//! they could do, and little comes twice when it dies.

use std::time::Duration;

use tokio::time::Instant;

/// The longest that a message may wait for its handler before the room shrinks.
const PATIENCE: Duration = Duration::from_secs(1);
/// As much as a near server is good for: with more under way it only gets slower.
const NEAR: usize = 1_024;
/// Handlers that wait so long for messages although there are more wait for the network, not for the
/// server.
const FAR: Duration = Duration::from_millis(25);
/// The most bytes of payload that a room is to be good for.
const BYTES: usize = 64 << 20;

/// Grows when the handlers find nothing to do although the server has more, shrinks when messages
/// wait.
#[derive(Debug)]
pub(super) struct Room {
    least: usize,
    /// As far as it grows while messages come quickly.
    near: usize,
    most: usize,
    limit: usize,
    /// How long a message may wait; without one it may wait for ever.
    patience: Option<Duration>,
    /// Messages since the room last changed, or was found right.
    since_change: usize,
    /// How often, and how long in all, handlers waited for messages since then.
    waits: u32,
    waited: Duration,
    /// A handler waits since then although the server has more.
    waiting: Option<Instant>,
    window: Option<Window>,
    /// What the last window came to, for each message.
    each: Duration,
    bytes_each: usize,
}

/// A stretch of messages without a pause.
#[derive(Debug)]
struct Window {
    begun: Instant,
    messages: usize,
    bytes: usize,
}

impl Room {
    /// It begins with one message for each handler: a member that dies at one message again and
    /// again takes few others with it. In `lanes`, messages of one key wait behind each other however
    /// quick the handlers are: that they wait says nothing.
    pub(super) fn new(handlers: usize, most: usize, ack_wait: Duration, lanes: bool) -> Self {
        let least = handlers.min(most);
        Room {
            least,
            near: NEAR.max(2 * least),
            most,
            limit: least,
            patience: (!lanes).then_some(PATIENCE.min(ack_wait / 4)),
            since_change: 0,
            waits: 0,
            waited: Duration::ZERO,
            waiting: None,
            window: None,
            each: Duration::ZERO,
            bytes_each: 0,
        }
    }

    /// What is left of it beside what is held.
    pub(super) fn left(&self, held: usize) -> usize {
        self.limit.saturating_sub(held)
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// A handler took a message.
    pub(super) fn took(&mut self, bytes: usize) {
        self.since_change += 1;
        if let Some(since) = self.waiting.take() {
            self.waits += 1;
            self.waited += since.elapsed();
        }
        let Some(window) = &mut self.window else {
            self.window = Some(Window { begun: Instant::now(), messages: 0, bytes });
            return;
        };
        window.messages += 1;
        window.bytes += bytes;
        if window.messages > self.limit / 4 {
            let now = Instant::now();
            self.measured(now);
            self.window = Some(Window { begun: now, messages: 0, bytes });
        }
    }

    /// A handler found nothing to do although the room is used by `held` messages; whether there is
    /// more room now. `more`: the server has messages for it; `last`: no other handler is at work.
    pub(super) fn idle(&mut self, held: usize, more: bool, last: bool) -> bool {
        if last && let Some(window) = &mut self.window {
            window.messages += 1;
            self.measured(Instant::now());
        }
        self.window = None;
        if more {
            self.waiting.get_or_insert_with(Instant::now);
        }
        // Only after the room was used once as it is; or it is used by messages that wait for other
        // handlers, whatever these wait for.
        let used = self.since_change >= self.limit;
        let full = self.left(held) == 0;
        let wait = self.waited / self.waits.max(1);
        if used && self.limit > self.near && wait < FAR / 4 {
            self.set(self.limit / 2);
            return false;
        }
        let twice = (self.limit * 2).min(self.most);
        let pays = full || used && (twice <= self.near || wait >= FAR);
        // Of a full room nobody knows whether the server has got more since: it is not asked.
        let grows = (more || full) && pays && twice > self.limit && self.fits(twice);
        if grows || used {
            self.set(if grows { twice } else { self.limit });
        }
        grows
    }

    /// Messages have waited for long.
    pub(super) fn shrink(&mut self) {
        if self.patience.is_some() {
            self.set(self.least);
        }
    }

    /// Whether so many messages are handled soon, and not too large together.
    fn fits(&self, messages: usize) -> bool {
        let count = u32::try_from(messages).unwrap_or(u32::MAX);
        self.patience.is_none_or(|patience| self.each.saturating_mul(count) <= patience)
            && self.bytes_each.saturating_mul(messages) <= BYTES
    }

    fn measured(&mut self, now: Instant) {
        let Some(window) = &self.window else { return };
        let count = u32::try_from(window.messages).unwrap_or(u32::MAX).max(1);
        self.each = now.duration_since(window.begun) / count;
        self.bytes_each = window.bytes / count as usize;
        if !self.fits(self.limit) {
            self.set((self.limit / 2).max(self.least));
        }
    }

    fn set(&mut self, limit: usize) {
        (self.limit, self.since_change) = (limit, 0);
        (self.waits, self.waited) = (0, Duration::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACK_WAIT: Duration = Duration::from_secs(30);

    /// Takes all of the room, each message after `each`, and finds nothing more for a while.
    async fn round(room: &mut Room, each: Duration, bytes: usize, pause: Duration) {
        for _ in 0..room.limit() {
            room.took(bytes);
            tokio::time::advance(each).await;
        }
        room.idle(0, true, true);
        tokio::time::advance(pause).await;
    }

    #[tokio::test(start_paused = true)]
    async fn grows_while_handlers_are_quick_and_shrinks_when_they_are_slow() {
        let mut room = Room::new(1, 10_000, ACK_WAIT, false);
        assert_eq!(room.left(0), 1);
        for _ in 0..16 {
            round(&mut room, Duration::from_micros(5), 100, Duration::ZERO).await;
        }
        assert_eq!((room.limit(), room.left(1_000), room.left(20_000)), (1_024, 24, 0));
        let trip = Duration::from_millis(30);
        for _ in 0..16 {
            round(&mut room, Duration::from_micros(5), 100, trip).await;
        }
        assert_eq!(room.limit(), 10_000, "the server is far away");
        for _ in 0..16 {
            round(&mut room, Duration::from_micros(5), 100, Duration::ZERO).await;
        }
        assert!(room.limit() <= 1_250, "it has come near: {room:?}");
        // A handler of 10 ms is good for a hundred in a second.
        for _ in 0..20 {
            room.took(100);
            for _ in 0..room.limit() {
                tokio::time::advance(Duration::from_millis(10)).await;
                room.took(100);
            }
        }
        assert!((40..=100).contains(&room.limit()), "{room:?}");
        for _ in 0..20 {
            round(&mut room, Duration::from_secs(10), 100, Duration::ZERO).await;
        }
        assert_eq!(room.limit(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn stays_small_for_large_messages_and_within_what_is_allowed() {
        let mut room = Room::new(4, 10_000, ACK_WAIT, false);
        for _ in 0..16 {
            round(&mut room, Duration::from_micros(5), 1 << 20, Duration::ZERO).await;
        }
        assert_eq!(room.limit(), 64);
        let mut lanes = Room::new(4, 100, ACK_WAIT, true);
        lanes.took(1);
        lanes.shrink();
        assert!(!lanes.idle(3, true, false) && lanes.idle(4, true, false), "all is used by others");
        assert_eq!(lanes.left(4), 4);
        assert!(
            !lanes.idle(7, false, false) && lanes.idle(8, false, false),
            "nobody knows of more"
        );
        assert_eq!(lanes.left(8), 8);
        let mut few = Room::new(100, 7, ACK_WAIT, false);
        round(&mut few, Duration::ZERO, 1, Duration::ZERO).await;
        assert_eq!(few.limit(), 7, "never more than allowed, however many handlers");
    }
}

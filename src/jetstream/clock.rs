//! The server's clock. Lifetimes are counted by it, so that a process whose own clock is wrong
//! neither loses values early nor keeps them.

use std::time::{Duration, SystemTime};

/// How far the server's clock is ahead of this process', as the answers to requests tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Clock {
    ahead: Duration,
    behind: Duration,
}

impl Clock {
    /// What is known when the server said `at` between `sent` and `answered`, local times. Clocks
    /// that may agree are taken to: a slow answer is no reason to shift anything.
    pub(crate) fn read(sent: SystemTime, at: SystemTime, answered: SystemTime) -> Self {
        if (sent..=answered).contains(&at) {
            return Clock::default();
        }
        let middle = sent + answered.duration_since(sent).unwrap_or_default() / 2;
        Clock {
            ahead: at.duration_since(middle).unwrap_or_default(),
            behind: middle.duration_since(at).unwrap_or_default(),
        }
    }

    /// A moment of the server's clock as one of this process'.
    pub(crate) fn local(self, at: SystemTime) -> Option<SystemTime> {
        at.checked_add(self.behind)?.checked_sub(self.ahead)
    }

    /// A moment of this process' clock as one of the server's.
    pub(crate) fn server(self, at: SystemTime) -> Option<SystemTime> {
        at.checked_add(self.ahead)?.checked_sub(self.behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_skewed_clock_is_set_right() {
        let now = SystemTime::UNIX_EPOCH + 1_000_000 * SECOND;
        for (server, text) in [(now + 3600 * SECOND, "ahead"), (now - 3600 * SECOND, "behind")] {
            let clock = Clock::read(now - SECOND, server, now + SECOND);
            assert_eq!(clock.server(now), Some(server), "{text}");
            assert_eq!(clock.local(server), Some(now), "{text}");
            assert_eq!(clock.local(server + SECOND), Some(now + SECOND), "{text}");
        }
    }

    #[test]
    fn clocks_that_may_agree_do() {
        let now = SystemTime::UNIX_EPOCH + 1_000_000 * SECOND;
        assert_eq!(Clock::read(now - SECOND, now + SECOND, now + 5 * SECOND), Clock::default());
        assert_eq!(Clock::default().local(now), Some(now));
    }
}

//! Pauses between the tries of one call.

use std::time::Duration;

use rand::Rng;
use tokio::time::{Instant, sleep};

/// The longest pause, before jitter.
const LONGEST: Duration = Duration::from_millis(100);

/// Growing pauses with jitter, which keeps those who collided from meeting again, until a deadline.
pub(crate) struct Retry {
    longest: Duration,
    deadline: Instant,
}

impl Retry {
    pub(crate) fn until(deadline: Instant) -> Self {
        Retry { longest: Duration::from_millis(1), deadline }
    }

    /// Goes on until `deadline`.
    pub(super) fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// Waits before the next try; `false`, at once, when the deadline would come first.
    pub(crate) async fn pause(&mut self) -> bool {
        let pause = rand::rng().random_range(Duration::ZERO..=self.longest);
        if Instant::now() + pause >= self.deadline {
            return false;
        }
        sleep(pause).await;
        self.longest = (self.longest * 2).min(LONGEST);
        true
    }
}

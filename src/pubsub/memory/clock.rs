//! One clock for timers and for the times that messages carry: Tokio's, so that a paused one pauses
//! streams too.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Further than any program runs.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Ties Tokio's clock to the time of day at the moment when it is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    instant: Instant,
    system: SystemTime,
}

impl Clock {
    pub(super) fn new() -> Self {
        Clock { instant: Instant::now(), system: SystemTime::now() }
    }

    pub(super) fn system(&self, at: Instant) -> SystemTime {
        self.system + at.saturating_duration_since(self.instant)
    }

    /// What is before the clock was made counts as that moment.
    pub(super) fn instant(&self, at: SystemTime) -> Instant {
        later(self.instant, at.duration_since(self.system).unwrap_or_default())
    }
}

/// `time` after `from`; at most a hundred years.
pub(super) fn later(from: Instant, time: Duration) -> Instant {
    from + time.min(FAR)
}

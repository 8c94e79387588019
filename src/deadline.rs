//! Deadlines that cost nothing when the answer is there at once.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// The deadline passed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Elapsed;

/// Runs `future` until `deadline`. The timer is armed, and the clock read, only when the first poll
/// did not finish.
pub(crate) async fn within<F: Future>(
    deadline: impl Into<Deadline>,
    future: F,
) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    if let Poll::Ready(output) = poll_once(future.as_mut()).await {
        return Ok(output);
    }
    timeout_at(deadline.into().instant(), future).await.map_err(|_| Elapsed)
}

/// Polls once, and tells what came of it.
pub(crate) fn poll_once<F: Future>(
    mut future: Pin<&mut F>,
) -> impl Future<Output = Poll<F::Output>> {
    poll_fn(move |cx| Poll::Ready(future.as_mut().poll(cx)))
}

/// A point in time, or a duration from the moment it is first needed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deadline {
    At(Instant),
    In(Duration),
}

impl Deadline {
    /// The point in time; for a duration, counted from now.
    pub(crate) fn instant(self) -> Instant {
        match self {
            Deadline::At(instant) => instant,
            Deadline::In(duration) => after(duration),
        }
    }
}

impl From<Instant> for Deadline {
    fn from(instant: Instant) -> Self {
        Deadline::At(instant)
    }
}

impl From<Duration> for Deadline {
    fn from(duration: Duration) -> Self {
        Deadline::In(duration)
    }
}

/// The instant `duration` from now; a duration beyond what the clock can hold counts as 30 years.
pub(crate) fn after(duration: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    let now = Instant::now();
    now.checked_add(duration).unwrap_or(now + FAR)
}

//! Waiting for a condition, and the sizes of tests.

use std::future::Future;
use std::panic::Location;
use std::time::{Duration, Instant};

/// How often a condition is asked again.
const POLL: Duration = Duration::from_millis(10);

/// Waits until `condition` is true, asking every 10 ms.
///
/// # Panics
///
/// At `deadline`, naming the caller's line.
#[track_caller]
pub fn eventually<F, Fut>(deadline: Duration, mut condition: F) -> impl Future<Output = ()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let caller = Location::caller();
    async move {
        let holds = async {
            while !condition().await {
                tokio::time::sleep(POLL).await;
            }
        };
        let in_time = tokio::time::timeout(deadline, holds).await.is_ok();
        assert!(in_time, "not true within {deadline:?}, waited for at {caller}");
    }
}

/// [`eventually`] for code without a runtime: whether `condition` came true by the deadline.
pub(crate) fn poll_until(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() >= deadline {
            return false;
        }
        std::thread::sleep(POLL);
    }
    true
}

/// Whether the long tests run: `SOAK=1`, which `cargo xtask soak` sets.
#[must_use]
pub fn soak() -> bool {
    std::env::var_os("SOAK").is_some_and(|value| value == "1")
}

/// `test` in an ordinary test run, `soak` under [`soak`].
#[must_use]
pub fn size<T>(test: T, soak_size: T) -> T {
    if soak() { soak_size } else { test }
}

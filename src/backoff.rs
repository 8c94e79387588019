//! How long to wait before something is tried again.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;

/// The waits between tries, by how often it was tried so far.
///
/// ```
/// use nats_connector::Backoff;
/// use std::time::Duration;
///
/// let second = Duration::from_secs(1);
/// // About 1 s, 2 s, 4 s ... and never more than a minute.
/// let growing = Backoff::exponential(second, 60 * second);
/// assert!(growing.delay(3) >= 2 * second && growing.delay(3) <= 4 * second);
/// // 1 s, then 10 s, then 30 s each time.
/// let listed = Backoff::list([second, 10 * second, 30 * second]);
/// assert_eq!(listed.delay(7), 30 * second);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a backoff does nothing until it is given to what tries again"]
pub struct Backoff(Shape);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    Exponential { first: Duration, longest: Duration },
    Fixed(Duration),
    List(Arc<[Duration]>),
}

impl Backoff {
    /// `first`, then twice as long each time, up to `longest`. Each wait is cut by a random part of
    /// up to its half, so that those who failed together do not try again together.
    pub const fn exponential(first: Duration, longest: Duration) -> Self {
        Backoff(Shape::Exponential { first, longest })
    }

    /// The same wait each time.
    pub const fn fixed(delay: Duration) -> Self {
        Backoff(Shape::Fixed(delay))
    }

    /// These waits, one after the other; the last one from then on. None: no wait.
    pub fn list(delays: impl IntoIterator<Item = Duration>) -> Self {
        Backoff(Shape::List(delays.into_iter().collect()))
    }

    /// How long to wait after the try of this number failed; the first one is 1.
    #[must_use]
    pub fn delay(&self, tries: u64) -> Duration {
        let before = tries.saturating_sub(1);
        match &self.0 {
            Shape::Fixed(delay) => *delay,
            Shape::List(delays) => {
                let index = usize::try_from(before).unwrap_or(usize::MAX);
                delays.get(index).or(delays.last()).copied().unwrap_or_default()
            }
            Shape::Exponential { first, longest } => {
                let doublings = u32::try_from(before).unwrap_or(u32::MAX);
                let factor = 2_u32.saturating_pow(doublings);
                let whole = first.saturating_mul(factor).min(*longest);
                rand::rng().random_range(whole / 2..=whole)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_longest() {
        let ms = Duration::from_millis;
        let backoff = Backoff::exponential(ms(100), ms(1000));
        for (tries, whole) in [(0, 100), (1, 100), (2, 200), (4, 800), (5, 1000), (u64::MAX, 1000)]
        {
            for _ in 0..100 {
                let delay = backoff.delay(tries);
                assert!((ms(whole / 2)..=ms(whole)).contains(&delay), "{tries}: {delay:?}");
            }
        }
        assert!((0..100).any(|_| backoff.delay(1) != backoff.delay(1)), "no jitter");
        assert_eq!(Backoff::exponential(Duration::ZERO, ms(1)).delay(9), Duration::ZERO);
        let endless = Backoff::exponential(Duration::MAX, Duration::MAX);
        assert!(endless.delay(3) >= Duration::MAX / 2);
    }

    #[test]
    fn fixed_and_listed_waits_are_as_given() {
        let s = Duration::from_secs;
        assert_eq!(Backoff::fixed(s(2)).delay(9), s(2));
        let listed = Backoff::list([s(1), s(5)]);
        let delays: Vec<_> = (0..=4).map(|tries| listed.delay(tries)).collect();
        assert_eq!(delays, [s(1), s(1), s(5), s(5), s(5)]);
        assert_eq!(Backoff::list([]).delay(1), Duration::ZERO);
    }
}

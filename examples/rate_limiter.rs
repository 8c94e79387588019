//! A rate limiter: so many calls in a window, exactly, however many callers and processes there are.
//!
//! - The window begins with its first call and is not extended by later ones: only the increment
//!   that makes the counter gives it a lifetime.
//! - What happens in an outage is said, not left to chance: fail open or fail closed.
//!
//! ```text
//! cargo run --example rate_limiter -- alice      # against a server; run several at once
//! cargo test --example rate_limiter              # in memory
//! ```

#![expect(clippy::print_stdout, reason = "the output is what it is for")]

use std::time::Duration;

use futures::future;
use nats_connector::{Connector, Result, kv::Kv};

/// What to do when the store cannot be asked.
#[derive(Debug, Clone, Copy)]
enum InOutage {
    /// The service stays up, the limit does not hold.
    Allow,
    /// The limit holds, the service is down.
    Refuse,
}

#[derive(Clone)]
struct RateLimiter {
    kv: Kv,
    limit: i64,
    window: Duration,
    in_outage: InOutage,
}

impl RateLimiter {
    /// Whether `caller` may go on.
    async fn allow(&self, caller: &str) -> bool {
        let hits = self.kv.increment(format!("calls:{caller}"), 1).ttl_on_create(self.window);
        match hits.await {
            Ok(hits) => hits <= self.limit,
            Err(_) => matches!(self.in_outage, InOutage::Allow),
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let caller = std::env::args().nth(1).unwrap_or_else(|| "alice".to_owned());
    let connector = Connector::from_settings().await?;
    let limiter = RateLimiter {
        kv: connector.kv().bucket("rate-limits"),
        limit: 100,
        window: Duration::from_secs(60),
        in_outage: InOutage::Refuse,
    };

    // 64 callers at once, ten calls each.
    let calls = (0..64).map(|_| {
        let (limiter, caller) = (limiter.clone(), caller.clone());
        tokio::spawn(async move {
            let mut allowed = 0;
            for _ in 0..10 {
                allowed += u32::from(limiter.allow(&caller).await);
            }
            allowed
        })
    });
    let allowed: u32 = future::join_all(calls).await.into_iter().filter_map(Result::ok).sum();
    println!("allowed {allowed} of 640 calls");

    let drained = connector.drain().await;
    println!("in an outage, fail closed: {}", limiter.allow(&caller).await);
    let open = RateLimiter { in_outage: InOutage::Allow, ..limiter };
    println!("in an outage, fail open: {}", open.allow(&caller).await);
    std::process::exit(i32::from(!drained.is_clean()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_limit_is_exact_and_its_window_stands_still() -> Result<()> {
        let kv = Kv::memory();
        let window = Duration::from_secs(60);
        let limiter =
            RateLimiter { kv: kv.clone(), limit: 10, window, in_outage: InOutage::Refuse };
        assert!(limiter.allow("ada").await);
        let first = kv.get_with_expiration::<i64>("calls:ada").await?;
        let allowed = future::join_all((0..63).map(|_| limiter.allow("ada"))).await;
        assert_eq!(allowed.into_iter().filter(|allowed| *allowed).count(), 9);
        assert!(limiter.allow("bob").await);

        let last = kv.get_with_expiration::<i64>("calls:ada").await?;
        assert_eq!(last.map(|(hits, _)| hits), Some(64));
        assert!(first.is_some_and(|(_, ends)| ends.is_some() && last == Some((64, ends))));
        Ok(())
    }
}

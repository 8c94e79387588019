//! Leader election: of several processes one leads, and another one takes over when it dies.
//!
//! - The leader holds a lock with a short lease, which a task renews. A leader that dies or hangs
//!   loses it, and a candidate that waits gets it.
//! - What only the leader may do is a guarded write: the server refuses it to one that was deposed
//!   and does not know yet. So each of the steps below is done once, whoever is killed when.
//!
//! ```text
//! cargo run --example leader_election -- ada     # run several at once, and kill the leader
//! ```

#![expect(clippy::print_stdout, reason = "the output is what this example is for")]

use std::time::Duration;

use nats_connector::kv::{Kv, LockGuard};
use nats_connector::{Connector, Result};

/// The work that leaders do, one after the other.
const STEPS: u32 = 40;

#[tokio::main]
async fn main() -> Result<()> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "ada".to_owned());
    let connector = Connector::from_settings().await?;
    let kv = connector.kv().bucket("election");
    println!("{name} is a candidate");
    while steps(&kv).await? < STEPS {
        // Nobody asks again and again: the candidates watch the lock.
        let lock = match kv.lock("leader").lease(Duration::from_secs(2)).await {
            Ok(lock) => lock,
            Err(error) if error.is_conflict() => continue,
            Err(error) => return Err(error),
        };
        println!("{name} leads with fence {}", lock.fence());
        tokio::select! {
            led = lead(&name, &kv, &lock) => match led {
                Err(error) if error.is_conflict() => println!("{name} was deposed: {error}"),
                led => led?,
            },
            () = lock.lost() => println!("{name} lost the lead"),
        }
        lock.release().await?;
    }
    println!("{name}: all {STEPS} steps are done");
    // A drain gives locks back, too.
    let drained = connector.drain().await;
    std::process::exit(i32::from(!drained.is_clean()));
}

/// What the leader does, until all is done or somebody else leads.
async fn lead(name: &str, kv: &Kv, lock: &LockGuard) -> Result<()> {
    loop {
        let step = steps(kv).await? + 1;
        if step > STEPS {
            return Ok(());
        }
        lock.set("steps", &step).await?;
        println!("{name} did step {step}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How many steps are done.
async fn steps(kv: &Kv) -> Result<u32> {
    kv.get_or("steps", 0).consistent().await
}

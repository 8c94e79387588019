//! One-time passwords: a code works once, whoever tries how often at the same time.
//!
//! - The right code is taken away by its revision: of many who have it one wins.
//! - Wrong tries are counted, and the count ends with the code.
//! - An outage is an error. It is never "wrong code", and never leaves a code that works twice.
//!
//! ```text
//! cargo run --example one_time_password      # against a server
//! cargo test --example one_time_password     # in memory
//! ```

#![expect(clippy::print_stdout, reason = "the output is what it is for")]

use std::time::Duration;

use futures::future;
use nats_connector::{Connector, Error, Result, kv::Kv};

const LIFETIME: Duration = Duration::from_secs(300);
const MOST_TRIES: i64 = 5;

#[derive(Clone)]
struct OneTimePasswords(Kv);

#[derive(Debug, PartialEq)]
enum Verdict {
    Accepted,
    /// Not the code, or used, or out of date.
    Rejected,
    TooManyTries,
}

impl OneTimePasswords {
    async fn issue(&self, user: &str, code: &str) -> Result<()> {
        self.0.set(format!("code:{user}"), code).ttl(LIFETIME).await?;
        self.0.delete(format!("tries:{user}")).await
    }

    async fn verify(&self, user: &str, code: &str) -> Result<Verdict> {
        let tries = self.0.increment(format!("tries:{user}"), 1).ttl_on_create(LIFETIME).await?;
        if tries > MOST_TRIES {
            return Ok(Verdict::TooManyTries);
        }
        let key = format!("code:{user}");
        match self.0.entry::<String>(&key).consistent().await? {
            Some(entry) if entry.value == code => {
                match self.0.delete_if_revision(&key, entry.revision).await {
                    Ok(()) => Ok(Verdict::Accepted),
                    // Somebody else was faster with the same code.
                    Err(error) if error.is_conflict() => Ok(Verdict::Rejected),
                    Err(error) => Err(error),
                }
            }
            _ => Ok(Verdict::Rejected),
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let connector = Connector::from_settings().await?;
    let passwords = OneTimePasswords(connector.kv().bucket("one-time-passwords"));
    passwords.issue("ada", "314159").await?;

    let tries = (0..50).map(|_| passwords.verify("ada", "314159"));
    let verdicts: Vec<Verdict> = future::try_join_all(tries).await?;
    let accepted = verdicts.iter().filter(|verdict| **verdict == Verdict::Accepted).count();
    println!("50 at once with the right code: {accepted} accepted");

    passwords.issue("ada", "271828").await?;
    println!("wrong code: {:?}", passwords.verify("ada", "000000").await?);
    println!("right code: {:?}", passwords.verify("ada", "271828").await?);
    println!("again: {:?}", passwords.verify("ada", "271828").await?);

    let drained = connector.drain().await;
    let outage: Result<Verdict, Error> = passwords.verify("ada", "271828").await;
    println!("without a connection: an error, not a verdict: {}", outage.is_err());
    std::process::exit(i32::from(!drained.is_clean() || accepted != 1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_code_works_once_and_guessing_ends() -> Result<()> {
        let passwords = OneTimePasswords(Kv::memory());
        passwords.issue("ada", "1").await?;
        let tries = (0..50).map(|_| passwords.verify("ada", "1"));
        let verdicts = future::try_join_all(tries).await?;
        let accepted = verdicts.iter().filter(|verdict| **verdict == Verdict::Accepted).count();
        assert_eq!(accepted, 1);

        passwords.issue("ada", "2").await?;
        for _ in 0..MOST_TRIES {
            assert_eq!(passwords.verify("ada", "3").await?, Verdict::Rejected);
        }
        assert_eq!(passwords.verify("ada", "2").await?, Verdict::TooManyTries);
        passwords.issue("ada", "4").await?;
        assert_eq!(passwords.verify("ada", "2").await?, Verdict::Rejected);
        assert_eq!(passwords.verify("ada", "4").await?, Verdict::Accepted);
        assert_eq!(passwords.verify("bob", "4").await?, Verdict::Rejected);
        Ok(())
    }
}

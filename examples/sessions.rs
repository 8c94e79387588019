//! A session manager: log in, refresh, change, log out here or everywhere.
//!
//! - A refresh gives a session another lifetime and changes nothing else; it cannot bring back one
//!   that was deleted meanwhile.
//! - A change of a session's data is made on what is there at that moment, and none is lost.
//! - The sessions of a user share a prefix: they are found and removed without a look at others'.
//!
//! ```text
//! cargo run --example sessions      # against a server
//! cargo test --example sessions     # in memory
//! ```

#![expect(clippy::print_stdout, reason = "the output is what it is for")]

use std::time::Duration;

use futures::future;
use nats_connector::{Connector, Result, kv::Kv};
use serde::{Deserialize, Serialize};

const LIFETIME: Duration = Duration::from_secs(30 * 60);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Session {
    device: String,
    cart: Vec<String>,
}

#[derive(Clone)]
struct Sessions(Kv);

impl Sessions {
    /// The sessions of a user, by id. The prefix is a token of its own: user 1 has no part in the
    /// sessions of user 11.
    fn of(&self, user: u64) -> Kv {
        self.0.clone().with_prefix(format!("user:{user}"))
    }

    async fn log_in(&self, user: u64, id: &str, device: &str) -> Result<()> {
        let session = Session { device: device.to_owned(), cart: Vec::new() };
        self.of(user).create(id, &session).ttl(LIFETIME).await.map(drop)
    }

    async fn get(&self, user: u64, id: &str) -> Result<Option<Session>> {
        self.of(user).get(id).await
    }

    /// `false` for a session that is gone.
    async fn refresh(&self, user: u64, id: &str) -> Result<bool> {
        self.of(user).touch(id, LIFETIME).await
    }

    /// `None` for a session that is gone.
    async fn buy(&self, user: u64, id: &str, what: &str) -> Result<Option<Session>> {
        let what = what.to_owned();
        let add = move |session: Option<Session>| {
            session.map(|mut session| {
                session.cart.push(what.clone());
                session
            })
        };
        self.of(user).update(id, add).await
    }

    async fn log_out(&self, user: u64, id: &str) -> Result<()> {
        self.of(user).delete(id).await
    }

    async fn all(&self, user: u64) -> Result<Vec<String>> {
        let mut ids = self.of(user).keys().await?;
        ids.sort_unstable();
        Ok(ids)
    }

    async fn log_out_everywhere(&self, user: u64) -> Result<()> {
        self.of(user).flush().await.map(drop)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let connector = Connector::from_settings().await?;
    let sessions = Sessions(connector.kv().bucket("sessions"));
    for user in [1, 11] {
        sessions.log_out_everywhere(user).await?;
        for device in ["phone", "laptop", "tv"] {
            sessions.log_in(user, &format!("id-{device}"), device).await?;
        }
    }

    // Twenty at once put something into the same cart.
    let items: Vec<String> = (1..=20).map(|n| format!("item {n}")).collect();
    let bought = items.iter().map(|item| sessions.buy(1, "id-phone", item));
    future::try_join_all(bought).await?;
    let phone = sessions.get(1, "id-phone").await?;
    println!("in the cart: {}", phone.map_or(0, |session| session.cart.len()));

    // Whatever the order of a refresh and a log-out, the session is gone afterwards.
    let mut came_back = 0;
    for _ in 0..50 {
        let (_, logged_out) =
            tokio::join!(sessions.refresh(1, "id-tv"), sessions.log_out(1, "id-tv"));
        logged_out?;
        came_back += u32::from(sessions.get(1, "id-tv").await?.is_some());
        sessions.log_in(1, "id-tv", "tv").await?;
    }
    println!("came back after a log-out: {came_back}");

    println!("user 1: {:?}", sessions.all(1).await?);
    sessions.log_out_everywhere(1).await?;
    let (one, eleven) = (sessions.all(1).await?.len(), sessions.all(11).await?.len());
    println!("after logging out everywhere: {one}, another user: {eleven}");
    let drained = connector.drain().await;
    std::process::exit(i32::from(!drained.is_clean() || came_back > 0));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_session_that_is_gone_stays_gone() -> Result<()> {
        let sessions = Sessions(Kv::memory());
        sessions.log_in(1, "a", "phone").await?;
        assert!(sessions.log_in(1, "a", "thief").await.is_err_and(|e| e.is_already_exists()));
        assert!(sessions.refresh(1, "a").await?);
        sessions.buy(1, "a", "book").await?;
        assert_eq!(sessions.get(1, "a").await?.map(|session| session.cart.len()), Some(1));
        sessions.log_out(1, "a").await?;
        assert!(!sessions.refresh(1, "a").await?);
        assert_eq!(sessions.buy(1, "a", "book").await?, None);
        assert_eq!(sessions.get(1, "a").await?, None);
        Ok(())
    }

    #[tokio::test]
    async fn the_sessions_of_one_user_are_removed_and_no_others() -> Result<()> {
        let sessions = Sessions(Kv::memory());
        for (user, id) in [(1, "a"), (1, "b"), (11, "a"), (2, "*")] {
            sessions.log_in(user, id, "phone").await?;
        }
        assert_eq!(sessions.all(1).await?, ["a", "b"]);
        sessions.log_out_everywhere(1).await?;
        assert!(sessions.all(1).await?.is_empty());
        assert_eq!(sessions.all(11).await?, ["a"]);
        assert_eq!(sessions.all(2).await?, ["*"]);
        Ok(())
    }
}

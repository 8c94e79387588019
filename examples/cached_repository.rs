//! A repository with a cache in front of its database.
//!
//! - Cache-aside: what is missing is loaded once, however many ask at the same time.
//! - Invalidation without stale fill: a reader that loaded the old row does not put it back after a
//!   writer changed the row and deleted the cached one.
//! - Write-through: of two writers the newer row stays, in whatever order they reach the cache.
//!
//! ```text
//! cargo run --example cached_repository      # against a server
//! cargo test --example cached_repository     # in memory
//! ```

#![expect(clippy::print_stdout, reason = "the output is what it is for")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future;
use nats_connector::{Connector, Result, kv::Kv};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

const LIFETIME: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
    version: u64,
}

/// Stands for a database that takes its time: it answers when there is a permit.
#[derive(Clone)]
struct Database(Arc<Rows>);

struct Rows {
    users: Mutex<HashMap<u64, User>>,
    loads: AtomicU32,
    permits: Semaphore,
}

impl Database {
    fn new(permits: usize) -> Self {
        let permits = Semaphore::new(permits);
        Database(Arc::new(Rows { users: Mutex::default(), loads: AtomicU32::new(0), permits }))
    }

    async fn load(&self, id: u64) -> std::io::Result<User> {
        let row = lock(&self.0.users).get(&id).cloned();
        self.0.loads.fetch_add(1, Ordering::Relaxed);
        let _permit = self.0.permits.acquire().await.map_err(std::io::Error::other)?;
        row.ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }

    fn save(&self, id: u64, name: &str) -> User {
        let mut rows = lock(&self.0.users);
        let version = rows.get(&id).map_or(1, |row| row.version + 1);
        let row = User { name: name.to_owned(), version };
        rows.insert(id, row.clone());
        row
    }

    fn loads(&self) -> u32 {
        self.0.loads.load(Ordering::Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone)]
struct Users {
    database: Database,
    cache: Kv,
}

impl Users {
    async fn find(&self, id: u64) -> Result<User> {
        let database = self.database.clone();
        let load = move || async move { database.load(id).await };
        self.cache.get_or_load(format!("user:{id}"), load).ttl(LIFETIME).await
    }

    /// Changes the row, then invalidates what is cached of it, in this order.
    async fn rename(&self, id: u64, name: &str) -> Result<()> {
        self.database.save(id, name);
        self.cache.delete(format!("user:{id}")).await
    }

    /// Changes the row, and what is cached of it.
    async fn rename_through(&self, id: u64, name: &str) -> Result<()> {
        let row = self.database.save(id, name);
        self.write_through(id, row).await
    }

    async fn write_through(&self, id: u64, row: User) -> Result<()> {
        let newer = move |cached: Option<User>| {
            cached.map(|cached| if cached.version < row.version { row.clone() } else { cached })
        };
        if self.cache.update(format!("user:{id}"), newer).await?.is_none() {
            // Nothing is cached. A load that is under way must not store the old row.
            self.cache.delete(format!("user:{id}")).await?;
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let connector = Connector::from_settings().await?;
    let users = Users { database: Database::new(64), cache: connector.kv().bucket("user-cache") };
    users.rename(1, "Ada").await?;

    future::try_join_all((0..64).map(|_| users.find(1))).await?;
    println!("64 readers at once: {} load", users.database.loads());

    users.rename_through(1, "Grace").await?;
    println!("written through: {:?}", users.find(1).await?);
    users.rename(1, "Alan").await?;
    println!("invalidated: {:?}", users.find(1).await?);
    println!("loads: {}", users.database.loads());

    std::process::exit(i32::from(!connector.drain().await.is_clean()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(permits: usize) -> Users {
        Users { database: Database::new(permits), cache: Kv::memory() }
    }

    #[tokio::test]
    async fn one_load_for_all_who_ask_at_once() -> Result<()> {
        let users = users(1);
        users.database.save(1, "Ada");
        let found = future::try_join_all((0..64).map(|_| users.find(1))).await?;
        assert!(found.iter().all(|user| user.name == "Ada"));
        assert_eq!(users.database.loads(), 1);
        assert!(users.find(2).await.is_err());
        Ok(())
    }

    #[tokio::test]
    async fn a_slow_reader_does_not_store_the_old_row() -> Result<()> {
        for through in [false, true] {
            let users = users(0);
            users.database.save(1, "old");
            let slow = tokio::spawn({
                let users = users.clone();
                async move { users.find(1).await }
            });
            // It has read the row, and is not back yet.
            while users.database.loads() == 0 {
                tokio::task::yield_now().await;
            }
            if through {
                users.rename_through(1, "new").await?;
            } else {
                users.rename(1, "new").await?;
            }
            users.database.0.permits.add_permits(1);
            assert_eq!(slow.await.expect("the reader ends")?.name, "old");
            assert_eq!(users.find(1).await?.name, "new");
        }
        Ok(())
    }

    #[tokio::test]
    async fn the_newer_row_stays_in_whatever_order_writers_reach_the_cache() -> Result<()> {
        let users = users(1);
        users.database.save(1, "first");
        users.find(1).await?;
        let (second, third) = (users.database.save(1, "second"), users.database.save(1, "third"));
        users.write_through(1, third).await?;
        users.write_through(1, second).await?;
        assert_eq!(users.find(1).await?, User { name: "third".to_owned(), version: 3 });
        Ok(())
    }
}

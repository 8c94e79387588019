//! Several writes that take place together or not at all.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::Serialize;
use tokio::time::Instant;

use crate::call::{Call, Operation};
use crate::error::{Error, ErrorKind, Result};
use crate::kv::claim::{Mark, SharedClaim};
use crate::kv::driver::{Change, Condition, Consistency, Expiry, Found, Value, Write};
use crate::kv::retry::Retry;
use crate::kv::slot::{Target, expiry};
use crate::kv::{Key, Kv};

/// The most writes of one transaction, whatever the store: what nats-server takes in one batch.
const MAX_WRITES: usize = 1000;

/// Writes together: [`Kv::transaction`].
#[derive(Debug)]
pub struct Transaction {
    target: Result<Target>,
    writes: Vec<Part>,
    /// The claim that the transaction marks as done, and for how long the mark is kept.
    marks: Option<(SharedClaim, Duration)>,
}

/// One key's write.
#[derive(Debug)]
struct Part {
    key: String,
    change: Change,
    when: When,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum When {
    Always,
    Absent,
    Revision(u64),
}

impl Transaction {
    /// Adds a write, unless something is wrong already: the first error is told.
    fn add(&mut self, key: String, when: When, change: impl FnOnce(&Target) -> Result<Change>) {
        let Ok(target) = &self.target else { return };
        match change(target) {
            Ok(change) => self.writes.push(Part { key, change, when }),
            Err(error) => self.target = Err(target.explain_key(error, &key)),
        }
    }

    fn add_value<T: Serialize + ?Sized>(&mut self, key: String, when: When, value: &T) {
        self.add(key, when, |target| Ok(Change::Put(target.encode(value)?, Expiry::Never)));
    }

    fn set_expiry(&mut self, new: Expiry) {
        let Ok(target) = &self.target else { return };
        match self.writes.last_mut() {
            Some(Part { change: Change::Put(_, expiry), .. }) => *expiry = new,
            _ => {
                let message = "a ttl follows the value that it is for: .set(..).ttl(..)";
                self.target = Err(target.explain(Error::new(ErrorKind::InvalidInput, message)));
            }
        }
    }
}

impl Call<Transaction> {
    /// Stores `value`.
    pub fn set<T: Serialize + ?Sized>(self, key: impl Into<String>, value: &T) -> Self {
        self.map_operation(|all| all.add_value(key.into(), When::Always, value))
    }

    /// As [`set`](Self::set), with bytes that are stored as they are.
    pub fn set_raw(self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        let value = Value::new(value.into());
        let change = |_: &Target| Ok(Change::Put(value, Expiry::Never));
        self.map_operation(|all| all.add(key.into(), When::Always, change))
    }

    /// Stores `value`, if the key has none; else the whole call is `AlreadyExists`.
    pub fn create<T: Serialize + ?Sized>(self, key: impl Into<String>, value: &T) -> Self {
        self.map_operation(|all| all.add_value(key.into(), When::Absent, value))
    }

    /// Stores `value`, if `revision` is the key's, as
    /// [`if_revision`](Call::<super::Set>::if_revision) of a set; else the whole call is a `Conflict`.
    pub fn set_if_revision<T: Serialize + ?Sized>(
        self,
        key: impl Into<String>,
        value: &T,
        revision: u64,
    ) -> Self {
        self.map_operation(|all| all.add_value(key.into(), When::Revision(revision), value))
    }

    /// Deletes the key; also right when it has no value.
    pub fn delete(self, key: impl Into<String>) -> Self {
        self.map_operation(|all| all.add(key.into(), When::Always, |_| Ok(Change::Delete)))
    }

    /// Deletes the key, if `revision` is its revision; else the whole call is a `Conflict`.
    pub fn delete_if_revision(self, key: impl Into<String>, revision: u64) -> Self {
        let when = When::Revision(revision);
        self.map_operation(|all| all.add(key.into(), when, |_| Ok(Change::Delete)))
    }

    /// Lets the value before this, the last one set or created, expire after `ttl`, as
    /// [`ttl`](Call::<super::Set>::ttl) of a set.
    pub fn ttl(self, ttl: Duration) -> Self {
        self.map_operation(|all| all.set_expiry(expiry(ttl)))
    }
}

impl Operation for Transaction {
    type Output = Result<Vec<u64>>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<Vec<u64>>> {
        Box::pin(async move {
            let Transaction { target, mut writes, marks } = self;
            let target = target?;
            let deadline = target.deadline(timeout);
            let Some((claim, keep)) = marks else {
                return commit(&target, &writes, deadline).await;
            };
            let (target, writes) = (&target, &mut writes);
            let commit = |mark: Mark| async move {
                // The last one: should a store ever take a part, then the effect without the mark.
                let Mark { key, change, revision } = mark;
                writes.push(Part { key, change, when: When::Revision(revision) });
                let mut revisions = commit(target, writes, deadline).await?;
                revisions.pop();
                Ok(revisions)
            };
            let committed = claim.commit(keep, deadline, commit).await;
            committed.map_err(|error| error.operation(target.operation))
        })
    }
}

fn check_count(count: usize) -> Result<()> {
    if count > MAX_WRITES {
        let message =
            format!("a transaction has at most {MAX_WRITES} writes, this one {count}; split it");
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    Ok(())
}

fn check_keys(writes: &[Part]) -> Result<(), (Error, &str)> {
    let mut keys = HashSet::with_capacity(writes.len());
    for Part { key, .. } in writes {
        let refuse = |message| Err((Error::new(ErrorKind::InvalidInput, message), key.as_str()));
        if key.is_empty() {
            return refuse("the key is empty");
        }
        if !keys.insert(key) {
            return refuse("the key is there twice; a transaction writes each once");
        }
    }
    Ok(())
}

/// Writes until it takes place, or until a condition of the caller's does not hold.
async fn commit(target: &Target, parts: &[Part], deadline: Instant) -> Result<Vec<u64>> {
    if parts.is_empty() {
        return Ok(Vec::new());
    }
    check_count(parts.len()).map_err(|error| target.explain(error))?;
    check_keys(parts).map_err(|(error, key)| target.explain_key(error, key))?;
    let mut retry = Retry::until(deadline);
    let mut first = true;
    let mut conditions: Vec<_> = parts.iter().map(|part| part.when.condition(0)).collect();
    loop {
        let writes = parts.iter().zip(&conditions).map(|(part, condition)| Write {
            key: target.key(&part.key),
            change: part.change.clone(),
            condition: *condition,
        });
        let written = target.store.transaction(&target.bucket, writes.collect(), deadline).await;
        let conflict = match written {
            Err(error) if error.is_conflict() => error,
            written => return written.map_err(|error| target.explain(error)),
        };
        let Some(held) = check(target, parts, deadline).await? else {
            return Err(target.explain(conflict));
        };
        // A key to be created may have the trace of an earlier value, which takes no pause; or
        // somebody made it and it is gone again. Conditions of the caller's have one chance.
        let creates = parts.iter().any(|part| part.when == When::Absent);
        let at_once = first && held != conditions;
        if !creates || (!at_once && !retry.pause().await) {
            return Err(target.explain(conflict));
        }
        (first, conditions) = (false, held);
    }
}

/// The conditions as the store is now, for another try; an error that names the key whose condition
/// does not hold. `None` when it cannot be read.
async fn check(
    target: &Target,
    parts: &[Part],
    deadline: Instant,
) -> Result<Option<Vec<Condition<'static>>>> {
    let conditional: Vec<_> = parts.iter().filter(|part| part.when != When::Always).collect();
    let keys: Vec<Key<'_>> = conditional.iter().map(|part| target.key(&part.key)).collect();
    let Target { store, bucket, .. } = target;
    let found = store.read_many(None, bucket, &keys, Consistency::Latest, deadline).await;
    let Ok(found) = found.into_iter().collect::<Result<Vec<_>>>() else { return Ok(None) };
    for (part, found) in conditional.iter().zip(&found) {
        let error = match (part.when, found) {
            (When::Absent, Found::Value(_)) => {
                Error::new(ErrorKind::AlreadyExists, "the key has a value; nothing was written")
            }
            (When::Revision(revision), found) if found.revision() != revision => {
                Error::new(ErrorKind::Conflict, "the key has another revision; nothing was written")
            }
            _ => continue,
        };
        let error = error.with("revision", found.revision().to_string());
        return Err(target.explain_key(error, &part.key));
    }
    let mut found = found.iter().map(Found::revision);
    let now = parts.iter().map(|part| match part.when {
        When::Always => Condition::Always,
        when => when.condition(found.next().unwrap_or_default()),
    });
    Ok(Some(now.collect()))
}

impl When {
    /// The condition for a driver, for a key whose last trace is `trace`.
    fn condition(self, trace: u64) -> Condition<'static> {
        match self {
            When::Always => Condition::Always,
            When::Absent => Condition::Revision(trace),
            When::Revision(revision) => Condition::Revision(revision),
        }
    }
}

impl Kv {
    /// Writes that take place together or not at all; awaiting it commits them and gives their
    /// revisions, in their order. Needs nats-server 2.12.
    ///
    /// ```
    /// # use nats_connector::kv::Kv;
    /// # async fn example() -> nats_connector::Result<()> {
    /// let kv = Kv::memory();
    /// let stock = kv.set("stock:7", &3).await?;
    /// let sale = kv.transaction().set_if_revision("stock:7", &2, stock).create("sale:1", &7);
    /// assert_eq!(sale.await?.len(), 2);
    ///
    /// // The revision is another one now: nothing is written.
    /// let late = kv.transaction().set_if_revision("stock:7", &1, stock).create("sale:2", &7);
    /// assert!(late.await.unwrap_err().is_conflict());
    /// assert!(!kv.exists("sale:2").await?);
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    ///
    /// All keys are of this handle's bucket, and each is there once. Without writes there is nothing
    /// to do, and nothing is sent.
    ///
    /// # Errors
    ///
    /// `Conflict` and `AlreadyExists` when a condition does not hold, with its key where that is
    /// known; `InvalidInput` for a key that is there twice, for a `ttl` that follows no value, and for
    /// more than 1,000 writes; `Unsupported` where the store has no transactions; else as [`set`](Self::set). Nothing was written then, but for `Timeout`, when it
    /// is not known: all of it was, or nothing.
    pub fn transaction(&self) -> Call<Transaction> {
        let target = Target::new("kv transaction", self);
        Call::new(Transaction { target, writes: Vec::new(), marks: None })
    }

    /// A transaction that also marks a claim of this handle's bucket as done, for as long as `keep`.
    pub(crate) fn transaction_of(&self, claim: SharedClaim, keep: Duration) -> Call<Transaction> {
        let marks = Some((claim, keep));
        self.transaction().map_operation(|all| all.marks = marks)
    }
}

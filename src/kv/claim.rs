//! Claims: what a key stands for is done by one at a time, and not again once it was done.
//!
//! A claim is a key with a lease: whoever creates it may do the work, renews it meanwhile, and in
//! the end overwrites it with the mark that it is done. Every step is a compare-and-set on the
//! revision of the step before. When the holder dies, the lease ends and the next one claims.
//! The mark may be one of the writes of a transaction, which then is what was to be done.

mod shared;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

pub(in crate::kv) use self::shared::Mark;
pub(crate) use self::shared::SharedClaim;
use super::Kv;
use super::driver::{Change, Condition, Entry, Found, Value};
use super::lock::{patience, read};
use super::retry::Retry;
use super::slot::{LONGEST, Slot, expiry};
use crate::error::{Error, ErrorKind, Result};

const WORKING: &str = "working ";
const DONE: &str = "done ";
/// How long it is tried at least to store the mark, for which a message is held.
const MARK_LIMIT: Duration = Duration::from_secs(30);
/// How long giving a claim back may take, which need not succeed.
const RELEASE_LIMIT: Duration = Duration::from_secs(2);
/// The shortest wait for somebody else: a server looks once in a second for what has expired.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// What became of the wish to do something.
pub(crate) enum Claimed {
    /// It is this one's to do.
    Mine(Claim),
    /// It was done before.
    Done,
    /// Somebody else is at it; unless the claim is renewed it ends after this long.
    Busy(Duration),
}

/// The right to do what a key stands for. Dropped, it is given back in the background.
pub(crate) struct Claim {
    slot: Slot,
    /// What tells this claim from all others.
    id: String,
    lease: Duration,
    revision: u64,
    /// Counted from before the request, so that the store's lease ends no earlier.
    until: Instant,
    held: bool,
    state: State,
}

/// What is known of the mark.
#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// It is not there.
    Open,
    /// A transaction with it was sent, and not answered.
    InDoubt,
    /// A transaction with it took place.
    Marked,
}

impl Kv {
    /// Whether claims can be kept in this handle's bucket.
    pub(crate) async fn check_claims(&self) -> Result<()> {
        let can = self.capabilities().await?;
        if can.ttl && can.compare_and_set {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            "claims need lifetimes of keys and compare-and-set, which this driver, server or bucket \
             lacks (nats-server 2.11 and BucketConfig::per_key_ttl have them)",
        ))
    }

    /// Claims `key` for `lease`, at least 1 s, unless it is claimed or done.
    pub(crate) async fn claim(&self, key: String, lease: Duration) -> Result<Claimed> {
        let slot = Slot::new("dedupe", self, key)?;
        let lease = lease.min(LONGEST);
        let deadline = slot.target.deadline(None);
        let mut retry = Retry::until(deadline);
        let begun = Instant::now();
        let id = format!("{:032x}", rand::random::<u128>());
        let state = State::Open;
        let mut claim = Claim { slot, id, lease, revision: 0, until: begun, held: false, state };
        // Most often there is no trace of the key, which takes no read.
        let mut revision = 0;
        loop {
            let now = Instant::now();
            claim.until = now + lease;
            let until = deadline.min(now + patience(lease));
            match claim.put_working(revision, until).await {
                Ok(()) => return Ok(Claimed::Mine(claim)),
                Err(error) if error.is_conflict() => {}
                // It may be there all the same.
                Err(error) if error.is_timeout() => {
                    if !retry.pause().await {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
            match read(&claim.slot, deadline).await? {
                Found::Value(entry) if claim.is_working(&entry) => {
                    (claim.revision, claim.until) = (entry.revision, begun + lease);
                    claim.held = true;
                    return Ok(Claimed::Mine(claim));
                }
                Found::Value(entry) if starts_with(&entry, DONE) => return Ok(Claimed::Done),
                Found::Value(entry) if starts_with(&entry, WORKING) => {
                    return Ok(Claimed::Busy(left(&entry, lease)));
                }
                Found::Value(_) => {
                    return Err(claim.slot.explain(Error::new(
                        ErrorKind::Conflict,
                        "the key holds a value that is no claim; give claims a name, or a bucket, of their own",
                    )));
                }
                Found::Nothing { revision: found } => {
                    // Somebody else was faster, and gone again.
                    if revision != 0 && !retry.pause().await {
                        return Ok(Claimed::Busy(SHORTEST_WAIT));
                    }
                    revision = found;
                }
            }
        }
    }
}

impl Claim {
    /// When to renew it.
    pub(crate) fn renewal(&self) -> Instant {
        self.until - self.lease + self.lease / 3
    }

    /// Renews the lease, again until it is over.
    ///
    /// # Errors
    /// The claim is held no more.
    pub(crate) async fn renew(&mut self) -> Result<()> {
        let mut retry = Retry::until(self.until);
        loop {
            let begun = Instant::now();
            let until = self.until.min(begun + patience(self.lease));
            let error = match self.put_working(self.revision, until).await {
                Ok(()) => {
                    self.until = begun + self.lease;
                    return Ok(());
                }
                Err(error) => error,
            };
            if error.is_conflict() {
                match read(&self.slot, until).await {
                    // An earlier try that got no answer.
                    Ok(Found::Value(entry)) if self.is_working(&entry) => {
                        self.revision = entry.revision;
                    }
                    Ok(Found::Value(entry)) if self.is_mark(&entry) => {
                        self.set_marked();
                        return Ok(());
                    }
                    Ok(_) => return Err(self.lost(error)),
                    Err(_) => {}
                }
            } else if !error.is_retryable() {
                return Err(self.lost(error));
            }
            if !retry.pause().await {
                sleep_until(self.until).await;
                return Err(self.lost(error));
            }
        }
    }

    /// Marks it as done, for as long as `keep`, zero for ever. Goes on after the end of the lease:
    /// nobody else claims while the store cannot be reached.
    ///
    /// # Errors
    /// It is not known to be marked. The claim is not given back.
    pub(crate) async fn done(mut self, keep: Duration) -> Result<()> {
        self.held = false;
        let mut retry = Retry::until(self.until.max(Instant::now() + MARK_LIMIT));
        loop {
            let until = Instant::now() + patience(self.lease);
            let change = Change::Put(self.mark(), expiry(keep));
            let condition = Condition::Revision(self.revision);
            let error = match self.slot.write(change, condition, until).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if error.is_conflict() {
                match read(&self.slot, until).await {
                    // An earlier try that got no answer.
                    Ok(Found::Value(entry)) if self.is_mark(&entry) => return Ok(()),
                    Ok(Found::Value(entry)) if self.is_working(&entry) => {
                        self.revision = entry.revision;
                    }
                    // The lease ended and nobody else took it.
                    Ok(Found::Nothing { revision }) => self.revision = revision,
                    Ok(Found::Value(_)) => return Err(self.lost(error)),
                    Err(_) => {}
                }
            }
            if !error.is_retryable() || !retry.pause().await {
                return Err(error);
            }
        }
    }

    /// Gives it back, so that the next one need not wait for the end of the lease.
    pub(crate) async fn release(mut self) {
        self.held = false;
        give_back(&self.slot, self.revision).await;
    }

    fn mark(&self) -> Value {
        Value::new(Bytes::from([DONE, &self.id].concat()))
    }

    fn is_mark(&self, entry: &Entry) -> bool {
        let value = entry.value.bytes.strip_prefix(DONE.as_bytes());
        value == Some(self.id.as_bytes())
    }

    fn set_marked(&mut self) {
        self.state = State::Marked;
        self.held = false;
    }

    async fn put_working(&mut self, revision: u64, deadline: Instant) -> Result<()> {
        let value = Value::new([WORKING, &self.id].concat().into());
        let change = Change::Put(value, expiry(self.lease));
        let condition = Condition::Revision(revision);
        self.revision = self.slot.write(change, condition, deadline).await?;
        self.held = true;
        // A transaction that was under way can take place no more: it had the revision before.
        self.state = State::Open;
        Ok(())
    }

    fn is_working(&self, entry: &Entry) -> bool {
        let value = entry.value.bytes.strip_prefix(WORKING.as_bytes());
        value == Some(self.id.as_bytes())
    }

    fn lost(&mut self, error: Error) -> Error {
        self.held = false;
        let message = "the claim was lost: its lease ended, or somebody deleted it";
        self.slot.explain(Error::new(ErrorKind::Conflict, message)).with_source(error)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.held
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (slot, revision) = (self.slot.clone(), self.revision);
            runtime.spawn(async move { give_back(&slot, revision).await });
        }
    }
}

async fn give_back(slot: &Slot, revision: u64) {
    let deadline = Instant::now() + RELEASE_LIMIT;
    if let Err(error) = slot.write(Change::Purge, Condition::Revision(revision), deadline).await {
        tracing::debug!(%error, "a claim was not given back; it ends with its lease");
    }
}

fn starts_with(entry: &Entry, state: &str) -> bool {
    entry.value.bytes.starts_with(state.as_bytes())
}

/// How long somebody else's claim lasts unless it is renewed.
fn left(entry: &Entry, lease: Duration) -> Duration {
    let left = |ends: SystemTime| ends.duration_since(SystemTime::now()).unwrap_or_default();
    entry.ends.map_or(lease, left).clamp(SHORTEST_WAIT, lease.max(SHORTEST_WAIT))
}

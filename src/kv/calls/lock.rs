//! Taking a lock, and waiting for it.

use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use rand::Rng;
use tokio::time::{Instant, sleep, sleep_until};

use crate::call::{Call, Operation};
use crate::deadline::{self, within};
use crate::error::{Error, ErrorKind, Result};
use crate::kv::driver::{Change, Condition, Entry, Expiry, Filter, Found, Signal, Value, What};
use crate::kv::lock::{Grant, Held, LockGuard, key_of, patience, read, whole_lease};
use crate::kv::retry::Retry;
use crate::kv::slot::{LONGEST, Slot, Target};
use crate::kv::{Glob, Kv};

/// How long a lock lasts without a renewal, unless the call says so.
const DEFAULT_LEASE: Duration = Duration::from_secs(30);
/// Those who wait for a lock try within this time of its end, so that not all of them try.
const JITTER: Duration = Duration::from_millis(5);
/// How long after its end a lock's key may still be there: a server looks once in a second.
const OVERDUE: Duration = Duration::from_secs(1);

/// Takes a lock: [`Kv::lock`].
pub struct Lock {
    kv: Kv,
    name: String,
    slot: Result<Slot>,
    lease: Duration,
    waits: bool,
}

impl Call<Lock> {
    /// How long the lock outlives a holder that dies: whole seconds of at least one, a fraction
    /// rounds up. It is renewed at every third of it, so a short one costs requests and is lost with
    /// a short outage. Longer than a hundred years is cut to that. Default 30 s.
    pub fn lease(self, lease: Duration) -> Self {
        self.map_operation(|lock| lock.lease = lease)
    }

    /// Fails with `Conflict` at once when the lock is held.
    pub fn no_wait(self) -> Self {
        self.map_operation(|lock| lock.waits = false)
    }
}

impl Operation for Lock {
    type Output = Result<LockGuard>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<LockGuard>> {
        Box::pin(async move {
            let Lock { kv, name, slot, lease, waits } = self;
            let slot = slot?;
            let deadline = slot.target.deadline(timeout);
            let explain = |error| slot.explain(error).with("lock", name.as_str());
            let lease = whole_lease(lease).map_err(explain)?;
            let attempt = Attempt { slot: &slot, name: &name, lease, deadline };
            let metrics = slot.target.store.metrics.locks(&slot.target.bucket);
            let taken = attempt.run(waits).await;
            metrics.waited(&taken);
            taken.map(|held| LockGuard::new(kv, held)).map_err(explain)
        })
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("slot", &self.slot)
            .field("lease", &self.lease)
            .field("waits", &self.waits)
            .finish_non_exhaustive()
    }
}

impl Kv {
    /// Takes the lock `name` of this handle's bucket and prefix; waits for it until the time limit.
    /// It is held until the [`LockGuard`] is released or dropped, or the connector drains.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nats_connector::Result<()> {
    /// # let kv = nats_connector::kv::Kv::memory();
    /// let lock = kv.lock("reports").await?;
    /// assert!(kv.lock("reports").no_wait().await.unwrap_err().is_conflict());
    /// // Refused by the server if another one holds the lock by now.
    /// lock.set("reports:last", &1).await?;
    /// lock.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Those who wait watch the lock's key and try when it is free; of one process one watches, and
    /// the others wait in line. Where the driver tells no changes, they try again and again, with
    /// pauses of up to 100 ms.
    ///
    /// The lock is the key `lock:<name>`, whose value names the holder by a random id. It is a key of
    /// the bucket, so it is listed, read and flushed with the others: give locks a bucket or a prefix
    /// of their own.
    ///
    /// # Errors
    ///
    /// `Conflict` when another one held it until the time limit, and when its key holds something that
    /// is no lock; `Unsupported` where the driver, the
    /// server (nats-server 2.11) or the bucket has no lifetimes of keys or no compare-and-set;
    /// `Closed` once the connector drains; else as [`set`](Self::set).
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits, nothing is held; dropped in the moment of a try, the lock may be taken
    /// until its lease ends.
    pub fn lock(&self, name: impl Into<String>) -> Call<Lock> {
        let name = name.into();
        let slot = Slot::new("kv lock", self, key_of(&name)).and_then(|slot| {
            if name.is_empty() {
                let error = Error::new(ErrorKind::InvalidInput, "the lock's name is empty");
                return Err(slot.explain(error));
            }
            Ok(slot)
        });
        Call::new(Lock { kv: self.clone(), name, slot, lease: DEFAULT_LEASE, waits: true })
    }
}

type Signals = BoxStream<'static, Result<Signal>>;

/// One caller's way to a lock.
struct Attempt<'a> {
    slot: &'a Slot,
    name: &'a str,
    lease: Duration,
    deadline: Instant,
}

/// What a try came to.
enum Tried {
    Taken(Taken),
    Held(Other),
}

/// What was granted, and to whom.
struct Taken {
    holder: Bytes,
    grant: Grant,
}

/// Somebody else's lock.
#[derive(Clone, Copy)]
struct Other {
    revision: u64,
    /// When it ends unless it is renewed.
    ends: Option<Instant>,
}

/// Why the waiting for somebody else's lock was over.
enum Freed {
    /// It ended with this revision.
    At(u64),
    /// It may have ended.
    Perhaps,
    /// Nothing more is told.
    Unseen(Option<Error>),
}

impl Attempt<'_> {
    async fn run(&self, waits: bool) -> Result<Arc<Held>> {
        let Target { store, bucket, .. } = &self.slot.target;
        store.locks.check_open()?;
        let can = store.driver.capabilities(bucket, self.deadline).await?;
        if !can.ttl || !can.compare_and_set {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "a lock needs lifetimes of keys and compare-and-set, which this driver, server or \
                 bucket lacks (nats-server 2.11 and BucketConfig::per_key_ttl have them)",
            ));
        }
        if !waits {
            return match self.attempt(0).await? {
                Tried::Taken(taken) => self.keep(taken).await,
                Tried::Held(_) => Err(held_by_another()),
            };
        }
        // Of this process one waits at the store, the others here.
        let turn = store.locks.turn(self.slot.place());
        let turn = within(self.deadline, turn.lock()).await;
        let _turn = turn.map_err(|_| held_by_another())?;
        let taken = self.wait(can.watch).await?;
        self.keep(taken).await
    }

    async fn keep(&self, Taken { holder, grant }: Taken) -> Result<Arc<Held>> {
        let (slot, name) = (self.slot.clone(), self.name.to_owned());
        let locks = slot.target.store.locks.clone();
        let held = Held::keep(slot, name, holder, self.lease, grant);
        if !locks.add(&held) {
            let _ = held.release(self.deadline).await;
            locks.check_open()?;
        }
        Ok(held)
    }

    /// Creates the lock's key; `revision` is the one that it is thought to have without a value.
    ///
    /// Each attempt is a holder of its own: what takes away the rest of one that failed must not take
    /// away the lock of the next.
    async fn attempt(&self, mut revision: u64) -> Result<Tried> {
        let mut retry = Retry::until(self.deadline);
        let holder: Bytes = format!("\"{:032x}\"", rand::random::<u128>()).into();
        let mut orphan = Orphan { slot: self.slot, holder: &holder, may_be: false };
        let first = Instant::now();
        loop {
            let begun = Instant::now();
            let until = self.deadline.min(begun + patience(self.lease));
            let change = Change::Put(Value::new(holder.clone()), Expiry::In(self.lease));
            let doubtful = std::mem::replace(&mut orphan.may_be, true);
            match self.slot.write(change, Condition::Revision(revision), until).await {
                Ok(revision) => {
                    orphan.may_be = false;
                    let grant = Grant { revision, until: begun + self.lease };
                    return Ok(Tried::Taken(Taken { holder: holder.clone(), grant }));
                }
                Err(error) if error.is_conflict() => {}
                Err(error) if error.is_timeout() => {
                    if !retry.pause().await {
                        return Err(error);
                    }
                }
                Err(error) => {
                    orphan.may_be = doubtful;
                    return Err(error);
                }
            }
            let found = read(self.slot, self.deadline).await?;
            orphan.may_be = false;
            match found {
                // By an earlier try that got no answer.
                Found::Value(entry) if entry.value.bytes == holder => {
                    let grant = Grant { revision: entry.revision, until: first + self.lease };
                    return Ok(Tried::Taken(Taken { holder: holder.clone(), grant }));
                }
                Found::Value(entry) if !may_be_lock(&entry) => return Err(self.no_lock()),
                Found::Value(entry) => return Ok(Tried::Held(Other::of(&entry))),
                Found::Nothing { revision: found } => {
                    // Somebody else was faster, and gone again.
                    if revision != 0 && !retry.pause().await {
                        return Err(held_by_another());
                    }
                    revision = found;
                }
            }
        }
    }

    fn no_lock(&self) -> Error {
        let message = format!(
            "the key {} holds a value that is no lock; delete it or choose another name",
            self.slot.key
        );
        Error::new(ErrorKind::Conflict, message)
    }

    /// Tries until the lock is taken, whenever it may be free.
    async fn wait(&self, watches: bool) -> Result<Taken> {
        let mut retry = Retry::until(self.deadline);
        let mut signals = None;
        let mut watches = watches;
        let mut revision = 0;
        let mut overdue = Overdue::default();
        loop {
            let other = match self.attempt(revision).await {
                Ok(Tried::Taken(taken)) => return Ok(taken),
                Ok(Tried::Held(other)) => other,
                // A conflict is for good: what is there is no lock.
                Err(error) if error.is_conflict() => return Err(error),
                Err(error) if error.is_retryable() && retry.pause().await => continue,
                Err(error) => return Err(error),
            };
            revision = 0;
            if watches && signals.is_none() {
                match self.watch().await {
                    Ok(begun) => signals = Some(begun),
                    Err(error) if error.kind() == ErrorKind::Unsupported => watches = false,
                    Err(error) if error.is_retryable() => {}
                    Err(error) => return Err(error),
                }
            }
            let Some(source) = &mut signals else {
                if !retry.pause().await {
                    return Err(held_by_another());
                }
                continue;
            };
            let look_at = overdue.look_at(&other);
            let freed = within(self.deadline, self.freed(source, other, look_at)).await;
            match freed.map_err(|_| held_by_another())? {
                Freed::At(ended) => revision = ended,
                Freed::Perhaps => {}
                Freed::Unseen(None) => signals = None,
                Freed::Unseen(Some(error)) if error.is_retryable() => signals = None,
                Freed::Unseen(Some(error)) => return Err(error),
            }
            if signals.is_none() && !retry.pause().await {
                return Err(held_by_another());
            }
        }
    }

    async fn watch(&self) -> Result<Signals> {
        let Target { store, bucket, .. } = &self.slot.target;
        let glob = Glob::new(literal(&self.slot.key))?;
        let filter = Filter { prefix: self.slot.target.prefix(), glob: Some(&glob) };
        store.driver.watch(bucket, filter, self.deadline).await
    }

    /// Waits until the lock of `other` ends, or until `look_at`, which moves with its renewals.
    async fn freed(&self, signals: &mut Signals, other: Other, look_at: Option<Instant>) -> Freed {
        let (mut seen, mut look_at) = (other.revision, look_at);
        let mut is_there = false;
        // The end that was told, and when to act on it unless another one is faster.
        let mut ended: Option<(u64, Instant)> = None;
        loop {
            let at = ended.map(|(_, at)| at).or(look_at);
            let signal = tokio::select! {
                signal = signals.next() => signal,
                () = async { match at {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                } } => {
                    return ended.map_or(Freed::Perhaps, |(revision, _)| Freed::At(revision));
                }
            };
            match signal {
                Some(Ok(Signal::Update(update))) => {
                    if update.key != self.slot.key || update.revision < seen {
                        continue;
                    }
                    seen = update.revision;
                    if let What::Put(entry) = update.what {
                        (is_there, ended) = (true, None);
                        look_at = Other::of(&entry).ends.map(|ends| ends + OVERDUE);
                    } else {
                        let jitter = rand::rng().random_range(Duration::ZERO..=JITTER);
                        ended = Some((update.revision, Instant::now() + jitter));
                    }
                }
                Some(Ok(Signal::Current)) if !is_there && ended.is_none() => return Freed::Perhaps,
                Some(Ok(Signal::Reset)) => (is_there, seen) = (false, 0),
                Some(Ok(Signal::Current | Signal::Lagging)) => {}
                Some(Err(error)) => return Freed::Unseen(Some(error)),
                None => return Freed::Unseen(None),
            }
        }
    }
}

impl Other {
    fn of(entry: &Entry) -> Self {
        let left = |ends: SystemTime| ends.duration_since(SystemTime::now()).unwrap_or_default();
        // Cut, so that something can be added to it.
        let ends = entry.ends.map(|ends| deadline::after(left(ends).min(LONGEST)));
        Other { revision: entry.revision, ends }
    }
}

/// When to look at a lock whose end may not be told.
#[derive(Default)]
struct Overdue {
    revision: u64,
    pause: Duration,
}

impl Overdue {
    fn look_at(&mut self, other: &Other) -> Option<Instant> {
        if self.revision == other.revision {
            self.pause = (self.pause * 2).clamp(OVERDUE / 4, OVERDUE * 4);
        } else {
            *self = Overdue { revision: other.revision, pause: Duration::ZERO };
        }
        other.ends.map(|ends| (ends + OVERDUE).max(Instant::now() + self.pause))
    }
}

/// A try whose fate is not known: nobody would give its lock back.
struct Orphan<'a> {
    slot: &'a Slot,
    holder: &'a Bytes,
    may_be: bool,
}

impl Drop for Orphan<'_> {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.may_be {
            let (slot, holder) = (self.slot.clone(), self.holder.clone());
            runtime.spawn(async move { clear(&slot, &holder).await });
        }
    }
}

/// Takes away what a given-up try may have left. It looks again, since the try may be stored late;
/// what it misses ends with its lease.
async fn clear(slot: &Slot, holder: &Bytes) {
    for pause in [0, 500, 1500] {
        sleep(Duration::from_millis(pause)).await;
        let deadline = Instant::now() + Duration::from_secs(5);
        if let Ok(Found::Value(entry)) = read(slot, deadline).await {
            if entry.value.bytes == *holder {
                let condition = Condition::Revision(entry.revision);
                let _ = slot.write(Change::Purge, condition, deadline).await;
            }
            return;
        }
    }
}

/// Whether somebody may hold the lock by this value: it is a holder's id, or it ends some time.
fn may_be_lock(entry: &Entry) -> bool {
    let id = entry.value.bytes.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let is_id = id.is_some_and(|id| id.len() == 32 && id.iter().all(u8::is_ascii_hexdigit));
    is_id || entry.ends.is_some()
}

fn held_by_another() -> Error {
    Error::new(ErrorKind::Conflict, "the lock is held by another one; try again later")
}

/// The pattern that matches this name alone.
fn literal(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len());
    for c in name.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

//! Lifetimes of buckets and keys: they end in time, not before, and nothing older comes back.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// How much earlier a value may be gone, since the clocks of two machines are never the same.
const EARLY: Duration = Duration::from_millis(50);

/// How long after the end of a value nothing older may come back: traces of it are gone by then.
const GONE_FOR: Duration = Duration::from_millis(2500);

/// A bucket's values are gone after its lifetime, and not before.
pub async fn bucket_ttl(kv: &Kv) {
    let ttl = SECOND;
    let config = BucketConfig::new(unique("ttl")).ttl(ttl);
    let Some(bucket) = supported("create", kv.create_bucket(config).await) else { return };
    for round in 0..2 {
        let written = Written::by(bucket.set("key", &round)).await;
        written.ends_in(ttl, &bucket, "key").await;
        if capabilities(&bucket).await.compare_and_set {
            same("replace of what has expired", bucket.replace("key", &9).await, &None);
        }
    }
}

/// Values of a lifetime, in buckets with and without history, all at once.
pub async fn ttl(kv: &Kv) {
    let one = kv.bucket(unique("ttl_of_keys"));
    ok("make the bucket", one.set("other", &0).await);
    let capabilities = capabilities(&one).await;
    if !capabilities.ttl {
        return;
    }
    let mut buckets = vec![one];
    if capabilities.history {
        let five = BucketConfig::new(unique("ttl_of_keys_5")).history(5);
        buckets.push(ok("make a bucket with history", kv.create_bucket(five).await));
    }
    let cases = buckets.iter().flat_map(|bucket| {
        [
            set(bucket).boxed(),
            set_anew(bucket).boxed(),
            cleared(bucket).boxed(),
            reported(bucket).boxed(),
            replaced(bucket).boxed(),
            created(bucket).boxed(),
            touched(bucket).boxed(),
            persisted(bucket).boxed(),
            expired_at(bucket).boxed(),
            updated(bucket).boxed(),
            deleted(bucket).boxed(),
            found_and_written(bucket).boxed(),
            endless(bucket).boxed(),
        ]
    });
    future::join_all(cases).await;
}

/// What claims no lifetimes refuses them, and stores nothing.
pub async fn ttl_refused(kv: &Kv) {
    let bucket = kv.bucket(unique("no_ttl"));
    ok("set", bucket.set("key", &1).await);
    let capabilities = capabilities(&bucket).await;
    if capabilities.ttl {
        return;
    }
    let refused = |step, result| refused(step, ErrorKind::Unsupported, result);
    refused("set with a lifetime", bucket.set("key", &2).ttl(SECOND).await.map(drop));
    refused("set another with one", bucket.set("new", &2).ttl(SECOND).await.map(drop));
    refused("create with one", bucket.create("new", &2).ttl(SECOND).await.map(drop));
    if capabilities.compare_and_set {
        refused("replace with one", bucket.replace("key", &2).ttl(SECOND).await.map(drop));
        refused("touch", bucket.touch("key", SECOND).await.map(drop));
        let later = SystemTime::now() + SECOND;
        refused("expire", bucket.expire("key", later).await.map(drop));
        same("persist of what has none", bucket.persist("key").await, &true);
    }
    same("the value stays", bucket.get("key").await, &Some(1));
    same("nothing was stored", bucket.exists("new").await, &false);
    ok("zero is no lifetime", bucket.set("key", &3).ttl(Duration::ZERO).await);
    same("get it", bucket.get("key").await, &Some(3));
}

async fn set(bucket: &Kv) {
    ok("set an old value", bucket.set("set", "old").await);
    ok("set an older one", bucket.set("set", "older").await);
    let written = Written::by(bucket.set("set", "new").ttl(SECOND)).await;
    written.has(bucket, "set", "new", SECOND).await;
    written.ends_in(SECOND, bucket, "set").await;
    stays_gone(bucket, "set").await;
    ok("set again", bucket.set("set", "again").await);
    same("get it", bucket.get("set").await, &Some("again".to_owned()));
}

async fn set_anew(bucket: &Kv) {
    ok("set for a second", bucket.set("anew", "old").ttl(SECOND).await);
    let written = Written::by(bucket.set("anew", "new").ttl(SECOND * 3)).await;
    written.is_there_after(SECOND * 2, bucket, "anew", "new").await;
    written.ends_in(SECOND * 3, bucket, "anew").await;
    let written = Written::by(bucket.set("sooner", "old").ttl(SECOND * 9)).await;
    written.has(bucket, "sooner", "old", SECOND * 9).await;
    let written = Written::by(bucket.set("sooner", "new").ttl(SECOND)).await;
    written.ends_in(SECOND, bucket, "sooner").await;
}

async fn cleared(bucket: &Kv) {
    ok("set for a second", bucket.set("cleared", "old").ttl(SECOND).await);
    ok("the same of another", bucket.set("zero", "old").ttl(SECOND).await);
    ok("set without", bucket.set("zero", "new").ttl(Duration::ZERO).await);
    let written = Written::by(bucket.set("cleared", "new")).await;
    written.is_there_after(SECOND * 3, bucket, "cleared", "new").await;
    same("one set to zero too", bucket.get("zero").await, &Some("new".to_owned()));
    let expiration = bucket.get_with_expiration("cleared").await;
    same("no end is told", expiration, &Some(("new".to_owned(), None)));
}

async fn reported(bucket: &Kv) {
    // A fraction rounds up.
    let before = SystemTime::now();
    ok("set", bucket.set("told", "value").ttl(Duration::from_millis(58_400)).await);
    let ttl = Duration::from_secs(59);
    let (earliest, latest) = (before + ttl - SECOND, SystemTime::now() + ttl + SECOND);
    let right = |at: Option<SystemTime>| at.is_some_and(|at| at >= earliest && at <= latest);
    let found = ok("get with expiration", bucket.get_with_expiration::<String>("told").await);
    assert!(found.is_some_and(|(_, at)| right(at)), "the end is told");
    let found = ok("raw", bucket.get_raw_with_expiration("told").await);
    assert!(found.is_some_and(|(_, at)| right(at)), "the end is told with bytes");
    let entry = ok("entry", bucket.entry::<String>("told").await);
    assert!(entry.is_some_and(|entry| right(entry.expires)), "the end is told in the entry");
}

async fn replaced(bucket: &Kv) {
    for key in ["replaced", "replaced without"] {
        ok("set", bucket.set(key, "old").ttl(SECOND * 3).await);
    }
    let without = Written::by(bucket.replace("replaced without", "new")).await;
    let written = Written::by(bucket.replace("replaced", "new").ttl(SECOND)).await;
    written.ends_in(SECOND, bucket, "replaced").await;
    without.is_there_after(SECOND * 4, bucket, "replaced without", "new").await;
    same("a replace of what has expired", bucket.replace("replaced", "x").await, &None);
}

async fn created(bucket: &Kv) {
    for state in ["a new key", "what has expired", "what was deleted"] {
        let written = Written::by(bucket.create("created", state).ttl(SECOND)).await;
        written.has(bucket, "created", state, SECOND).await;
        let again = bucket.create("created", "other").await;
        if again.is_ok() && written.begun.elapsed() + EARLY >= SECOND {
            // It had ended by then, and the other value does not end.
            ok("delete the other", bucket.delete("created").await);
            continue;
        }
        refused("create what is there", ErrorKind::AlreadyExists, again);
        if state == "what has expired" {
            ok("delete", bucket.delete("created").await);
        } else {
            written.ends_in(SECOND, bucket, "created").await;
        }
    }
    stays_gone(bucket, "created").await;
}

/// What is further away than a hundred years is cut to that.
async fn endless(bucket: &Kv) {
    const FAR: Duration = Duration::from_secs(36_525 * 24 * 3600);
    let cas = capabilities(bucket).await.compare_and_set;
    ok("set", bucket.set("endless", &1).ttl(Duration::MAX).await);
    if cas {
        same("touch", bucket.touch("endless", Duration::MAX).await, &true);
        let at = SystemTime::now() + FAR * 20;
        ok("set another", bucket.set("endless at", &1).await);
        same("expire", bucket.expire("endless at", at).await, &true);
        let sum = bucket.increment("endless sum", 1).ttl_on_create(Duration::MAX).await;
        same("increment", sum, &1);
    }
    let keys: &[&str] = if cas { &["endless", "endless at", "endless sum"] } else { &["endless"] };
    for key in keys {
        let entry = ok("entry", bucket.entry::<u32>(*key).await);
        let expires = entry.and_then(|entry| entry.expires);
        let right = expires.is_some_and(|at| {
            let now = SystemTime::now();
            at > now + FAR - SECOND * 60 && at < now + FAR + SECOND * 60
        });
        assert!(right, "{key} ends in a hundred years: {expires:?}");
    }
}

async fn touched(bucket: &Kv) {
    ok("set for two seconds", bucket.set("longer", "value").ttl(SECOND * 2).await);
    ok("set without", bucket.set("shorter", "value").await);
    let longer = Written::by(bucket.touch("longer", SECOND * 4)).await;
    let shorter = Written::by(bucket.touch("shorter", SECOND)).await;
    shorter.ends_in(SECOND, bucket, "shorter").await;
    same("touch of what has expired", bucket.touch("shorter", SECOND).await, &false);
    longer.is_there_after(SECOND * 3, bucket, "longer", "value").await;
    longer.ends_in(SECOND * 4, bucket, "longer").await;
}

async fn persisted(bucket: &Kv) {
    ok("set for two seconds", bucket.set("persisted", "value").ttl(SECOND * 2).await);
    let written = Written::by(bucket.persist("persisted")).await;
    same("touch with zero of nothing", bucket.touch("never", Duration::ZERO).await, &false);
    same("persist of nothing", bucket.persist("never").await, &false);
    let expiration = bucket.get_with_expiration("persisted").await;
    same("no end is told", expiration, &Some(("value".to_owned(), None)));
    written.is_there_after(SECOND * 3, bucket, "persisted", "value").await;
}

async fn expired_at(bucket: &Kv) {
    for key in ["at", "past"] {
        ok("set", bucket.set(key, "old").await);
        ok("set anew", bucket.set(key, "value").await);
    }
    let past = SystemTime::now() - SECOND;
    same("expire in the past", bucket.expire("past", past).await, &true);
    same("it is gone at once", bucket.exists("past").await, &false);
    same("expire of nothing", bucket.expire("past", SystemTime::now() + SECOND).await, &false);
    let ttl = Duration::from_millis(1500);
    let written = Written::by(bucket.expire("at", SystemTime::now() + ttl)).await;
    written.ends_in(ttl, bucket, "at").await;
    stays_gone(bucket, "at").await;
    same("it stays gone as well", bucket.exists("past").await, &false);
}

async fn updated(bucket: &Kv) {
    let written = Written::by(bucket.set("updated", &1).ttl(SECOND * 3)).await;
    let updated = bucket.update("updated", |n: Option<u32>| n.map(|n| n + 1));
    same("update", updated.await, &Some(2));
    written.has_number(bucket, "updated", 2, SECOND * 3).await;
    written.ends_in(SECOND * 3, bucket, "updated").await;

    let written = Written::by(bucket.increment("counted", 1).ttl_on_create(SECOND * 2)).await;
    let again = bucket.increment("counted", 1).ttl_on_create(SECOND * 9);
    same("increment", again.await, &2);
    written.ends_in(SECOND * 2, bucket, "counted").await;
}

async fn deleted(bucket: &Kv) {
    ok("set an old value", bucket.set("deleted", "old").await);
    ok("set", bucket.set("deleted", "value").ttl(SECOND).await);
    ok("delete", bucket.delete("deleted").await);
    stays_gone(bucket, "deleted").await;
    ok("set an old value", bucket.set("purged", "old").await);
    ok("set", bucket.set("purged", "value").ttl(SECOND).await);
    ok("purge", bucket.purge("purged").await);
    stays_gone(bucket, "purged").await;
}

/// A new value follows what has expired, and ends its revision.
async fn found_and_written(bucket: &Kv) {
    let written = Written::by(bucket.set("found", "value").ttl(SECOND)).await;
    written.ends_in(SECOND, bucket, "found").await;
    let created = ok("create", bucket.create("found", "new").await);
    assert!(created > written.revision, "{created} follows {}", written.revision);
    let old = bucket.set("found", "x").if_revision(written.revision).await;
    refused("the revision of what has expired", ErrorKind::Conflict, old);
    same("get it", bucket.get("found").await, &Some("new".to_owned()));
}

async fn stays_gone(bucket: &Kv, key: &str) {
    let end = Instant::now() + GONE_FOR;
    while Instant::now() < end {
        same(&format!("{key}: nothing comes back"), bucket.exists(key).await, &false);
        sleep(Duration::from_millis(100)).await;
    }
}

/// When a value was written: somewhere between the two.
struct Written {
    begun: Instant,
    done: Instant,
    revision: u64,
}

impl Written {
    async fn by<T: Wrote>(call: impl Future<Output = Result<T>>) -> Self {
        let begun = Instant::now();
        let revision = ok("write", call.await).revision();
        Written { begun, done: Instant::now(), revision }
    }

    /// The value is there, if it is early enough to tell.
    async fn has(&self, bucket: &Kv, key: &str, value: &str, ttl: Duration) {
        let found: Option<String> = ok("get at once", bucket.get(key).await);
        let in_time = self.begun.elapsed() + EARLY < ttl;
        let right = found.as_deref() == Some(value);
        assert!(right || !in_time, "{key}: found {found:?} before the lifetime's end");
    }

    async fn has_number(&self, bucket: &Kv, key: &str, value: u32, ttl: Duration) {
        let found: Option<u32> = ok("get at once", bucket.get(key).await);
        let in_time = self.begun.elapsed() + EARLY < ttl;
        assert!(found == Some(value) || !in_time, "{key}: found {found:?} before its end");
    }

    async fn is_there_after(&self, wait: Duration, bucket: &Kv, key: &str, value: &str) {
        sleep_until(self.done + wait).await;
        let found: Option<String> = ok("get", bucket.get(key).await);
        let late = self.done.elapsed() > wait + SECOND - EARLY;
        assert!(found.as_deref() == Some(value) || late, "{key}: found {found:?} after {wait:?}");
    }

    /// The value is gone after `ttl`, within a second.
    async fn ends_in(&self, ttl: Duration, bucket: &Kv, key: &str) {
        loop {
            let asked = Instant::now();
            if !ok("exists", bucket.exists(key).await) {
                let early = (self.begun + ttl).saturating_duration_since(Instant::now());
                assert!(early <= EARLY, "{key}: the value was gone {early:?} before its time");
                return;
            }
            let late = asked.saturating_duration_since(self.done + ttl);
            assert!(late <= SECOND, "{key}: the value was there {late:?} after its time");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The revision that a write gave.
trait Wrote {
    fn revision(&self) -> u64;
}

impl Wrote for u64 {
    fn revision(&self) -> u64 {
        *self
    }
}

impl Wrote for Option<u64> {
    #[track_caller]
    fn revision(&self) -> u64 {
        assert!(self.is_some(), "what was to be replaced is not there");
        self.unwrap_or_default()
    }
}

/// A call that says whether there was something to change, or gives a sum.
impl Wrote for bool {
    #[track_caller]
    fn revision(&self) -> u64 {
        assert!(self, "what was to be changed is not there");
        0
    }
}

impl Wrote for i64 {
    fn revision(&self) -> u64 {
        0
    }
}

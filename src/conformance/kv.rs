//! What every key-value driver does, as [`Kv`] shows it.
//!
//! ```
//! use nats_connector::{conformance, kv::Kv};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(
//! conformance::kv::run(|| Kv::memory())
//! # );
//! ```
//!
//! For the author of a driver: `run` takes a function that gives handles on one store, with a key
//! codec that takes any key, no prefix and JSON. Buckets have names of their own, so the store may
//! be in use and the suite may run again; `conditions` also asks the driver itself. What [`Capabilities`] claim is tried; what they do not
//! claim must be refused as `Unsupported`. Outages, permissions and lost replies are the driver's
//! own to test.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::future;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::Serializer;
use crate::error::{ErrorKind, Result};
use crate::kv::driver::{Change, Condition, Expiry, Value, Write};
use crate::kv::{BucketConfig, Capabilities, Key, Kv, MAX_KEY_LEN, Storage};

/// A size above which the largest value is not tried.
const LARGEST_TRIED: usize = 16 * 1024 * 1024;

/// Runs every suite of this module, one after the other.
///
/// # Panics
///
/// When the driver does not do what it must; the message names the step.
pub async fn run(make: impl Fn() -> Kv) {
    values(&make()).await;
    keys(&make()).await;
    missing(&make()).await;
    revisions(&make()).await;
    delete(&make()).await;
    replace(&make()).await;
    conditions(&make()).await;
    concurrent_replaces(&make()).await;
    buckets(&make()).await;
    prefixes(&make()).await;
    serializers(&make()).await;
    bucket_options(&make()).await;
    bucket_ttl(&make()).await;
    limits(&make()).await;
    refusals(&make()).await;
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
    age: u32,
    tags: BTreeMap<String, Option<bool>>,
}

fn user(name: &str) -> User {
    let tags = BTreeMap::from([("admin".to_owned(), Some(true)), ("none".to_owned(), None)]);
    User { name: name.to_owned(), age: 36, tags }
}

/// A name that no run before had.
fn unique(what: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("conformance_{what}_{}_{now}", std::process::id())
}

#[track_caller]
fn ok<T>(step: &str, result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{step}: {error}"),
    }
}

#[track_caller]
fn same<T: PartialEq + Debug>(step: &str, found: Result<T>, expected: &T) {
    let found = ok(step, found);
    assert!(found == *expected, "{step}: found {found:?}, expected {expected:?}");
}

#[track_caller]
fn refused<T: Debug>(step: &str, kind: ErrorKind, result: Result<T>) {
    match result {
        Err(error) if error.kind() == kind => {}
        other => panic!("{step}: found {other:?}, expected an error of kind {kind:?}"),
    }
}

async fn capabilities(kv: &Kv) -> Capabilities {
    ok("capabilities", kv.capabilities().await)
}

/// Typed and raw values come back as they were, empty ones and JSON `null` too.
pub async fn values(kv: &Kv) {
    let kv = kv.bucket(unique("values"));
    ok("set a struct", kv.set("user", &user("Ada")).await);
    same("get a struct", kv.get("user").await, &Some(user("Ada")));
    let stored = ok("get a struct's bytes", kv.get_raw("user").await);
    let decoded = stored.and_then(|bytes| serde_json::from_slice::<User>(&bytes).ok());
    assert_eq!(decoded, Some(user("Ada")), "a struct is stored as JSON");

    ok("set a str", kv.set("text", "plain").await);
    same("get a String", kv.get("text").await, &Some("plain".to_owned()));

    ok("set null", kv.set("null", &None::<u8>).await);
    same("get null", kv.get::<Option<u8>>("null").await, &Some(None));
    same("null exists", kv.exists("null").await, &true);

    ok("set no bytes", kv.set_raw("empty", "").await);
    same("get no bytes", kv.get_raw("empty").await, &Some(Bytes::new()));
    same("no bytes exist", kv.exists("empty").await, &true);

    let bytes: Bytes = (0..=255).collect::<Vec<u8>>().into();
    ok("set bytes", kv.set_raw("bytes", bytes.clone()).await);
    same("get bytes", kv.get_raw("bytes").await, &Some(bytes));
    refused("get what is no JSON", ErrorKind::Decode, kv.get::<User>("bytes").await);
    same("bytes stay after that", kv.exists("bytes").await, &true);
}

/// Any text is a key, and no two keys are one.
pub async fn keys(kv: &Kv) {
    let kv = kv.bucket(unique("keys"));
    let longest = "k".repeat(MAX_KEY_LEN);
    let keys = [
        "user:1",
        "user=3A1",
        "user=3D3A1",
        "user.1",
        "user/1",
        "session:abc",
        "a=b",
        "a=3D",
        "=",
        "=41",
        "A",
        "a b",
        " ",
        "a\tb",
        "a\nb",
        "a\0b",
        "a..b",
        "a.b",
        ".a",
        "a.",
        ".",
        "..",
        "*",
        ">",
        "a.*",
        "a.>",
        "$KV",
        "é",
        "e\u{301}",
        "😀",
        "%20",
        "\\",
        "\"",
        "_",
        "-",
        "KEY",
        "key",
        &longest,
    ];
    for key in keys {
        ok(&format!("set {key:?}"), kv.set(key, key).await);
    }
    for key in keys {
        same(&format!("get {key:?}"), kv.get(key).await, &Some(key.to_owned()));
    }
    for key in keys {
        ok(&format!("delete {key:?}"), kv.delete(key).await);
        same(&format!("{key:?} after its delete"), kv.exists(key).await, &false);
    }
}

/// Missing keys and missing buckets are misses, and reading creates nothing.
pub async fn missing(kv: &Kv) {
    let kv = kv.bucket(unique("missing"));
    for state in ["no bucket", "an empty key space"] {
        same(&format!("get: {state}"), kv.get::<User>("nothing").await, &None);
        same(&format!("get_raw: {state}"), kv.get_raw("nothing").await, &None);
        same(&format!("exists: {state}"), kv.exists("nothing").await, &false);
        same(&format!("replace: {state}"), kv.replace("nothing", &1).await, &None);
        ok(&format!("delete: {state}"), kv.delete("nothing").await);
        ok("set another key", kv.set("other", &1).await);
    }
    same("replace stored nothing", kv.exists("nothing").await, &false);
}

/// Revisions grow with every write to a bucket.
pub async fn revisions(kv: &Kv) {
    let kv = kv.bucket(unique("revisions"));
    let mut last = 0;
    for round in 0..3 {
        for key in ["a", "b"] {
            let revision = ok("set", kv.set(key, &round).await);
            assert!(revision > last, "revision {revision} follows {last}");
            last = revision;
        }
    }
    if capabilities(&kv).await.compare_and_set {
        let replaced = ok("replace", kv.replace("a", &9).await);
        assert!(replaced.is_some_and(|new| new > last), "revision {replaced:?} follows {last}");
    }
    let raw = ok("set_raw", kv.set_raw("a", "10").await);
    assert!(raw > last, "revision {raw} follows {last}");
}

/// A deleted key is gone, deleting it again is right, and it can be set again.
pub async fn delete(kv: &Kv) {
    let kv = kv.bucket(unique("delete"));
    for round in 0..3 {
        ok("set", kv.set("key", &round).await);
        same("get", kv.get("key").await, &Some(round));
        for again in 0..2 {
            ok(&format!("delete {again}"), kv.delete("key").await);
            same("get a deleted key", kv.get::<u32>("key").await, &None);
            same("get_raw a deleted key", kv.get_raw("key").await, &None);
            same("exists of a deleted key", kv.exists("key").await, &false);
            same("replace a deleted key", kv.replace("key", &7).await, &None);
        }
    }
}

/// Replace changes what is there and nothing else.
pub async fn replace(kv: &Kv) {
    let kv = kv.bucket(unique("replace"));
    ok("set", kv.set("key", &1).await);
    if !capabilities(&kv).await.compare_and_set {
        refused("replace", ErrorKind::Unsupported, kv.replace("key", &2).await);
        return;
    }
    assert!(ok("replace", kv.replace("key", &2).await).is_some(), "replace of a key that is there");
    same("get the new value", kv.get("key").await, &Some(2));
    ok("set a key of two spellings", kv.set("user:1", &1).await);
    assert!(
        ok("replace it", kv.replace("user:1", &2).await).is_some(),
        "replace of an escaped key"
    );
    same("get it", kv.get("user:1").await, &Some(2));
}

/// A write under a condition takes place only while the condition holds.
pub async fn conditions(kv: &Kv) {
    let driver = ok("driver", kv.driver());
    let bucket = unique("conditions");
    let kv = kv.bucket(&bucket);
    let write = async |key: &str, revision: u64| {
        let deadline = Instant::now() + Duration::from_secs(10);
        let value = Value::new(Bytes::from("new"));
        let condition = Condition::Revision(revision);
        let change = Change::Put(value, Expiry::Never);
        let write = Write { key: Key::new("", key), change, condition };
        driver.write(&bucket, write, deadline).await
    };
    if !capabilities(&kv).await.compare_and_set {
        refused("a conditional write", ErrorKind::Unsupported, write("key", 1).await);
        return;
    }
    refused("a condition on a missing bucket", ErrorKind::Conflict, write("key", 7).await);
    let first = ok("set", kv.set_raw("key", "old").await);
    refused("a condition on a missing key", ErrorKind::Conflict, write("other", first).await);
    same("nothing was stored under it", kv.exists("other").await, &false);
    refused("a revision that is not yet", ErrorKind::Conflict, write("key", first + 1).await);
    same("the value stays", kv.get_raw("key").await, &Some(Bytes::from("old")));
    let second = ok("the key's revision", write("key", first).await);
    assert!(second > first, "revision {second} follows {first}");
    same("the value changes", kv.get_raw("key").await, &Some(Bytes::from("new")));
    refused("a revision that was", ErrorKind::Conflict, write("key", first).await);
    ok("delete", kv.delete("key").await);
    refused("the revision of a deleted key", ErrorKind::Conflict, write("key", second).await);
    same("it stays deleted", kv.exists("key").await, &false);
}

/// Twenty replaces of one key at once all succeed, each with a revision of its own.
pub async fn concurrent_replaces(kv: &Kv) {
    let kv = kv.bucket(unique("replaces"));
    if !capabilities(&kv).await.compare_and_set {
        return;
    }
    ok("set", kv.set("key", &0).await);
    let replaces = (1..=20).map(|n| kv.replace("key", &n));
    let mut written: Vec<(u64, u32)> = future::join_all(replaces)
        .await
        .into_iter()
        .zip(1..)
        .map(|(revision, n)| match ok("replace", revision) {
            Some(revision) => (revision, n),
            None => panic!("replace {n} found no key"),
        })
        .collect();
    written.sort_unstable();
    written.dedup_by_key(|(revision, _)| *revision);
    assert_eq!(written.len(), 20, "each replace has a revision of its own");
    let last = written.last().map(|(_, n)| *n);
    same("the last one's value stays", kv.get("key").await, &last);
}

/// Buckets are apart from each other, and made at the first write.
pub async fn buckets(kv: &Kv) {
    let (one, two) = (kv.bucket(unique("one")), kv.bucket(unique("two")));
    ok("set in one", one.set("key", &1).await);
    same("get from the other", two.get::<u32>("key").await, &None);
    ok("set in the other", two.set("key", &2).await);
    ok("delete in one", one.delete("key").await);
    same("get from the other", two.get("key").await, &Some(2));

    let name = unique("prefixed");
    let tenant = kv.clone().with_bucket_prefix("conformance_t_").bucket(&name);
    ok("set under a bucket prefix", tenant.set("key", &3).await);
    same("the bare name is another bucket", kv.bucket(&name).get::<u32>("key").await, &None);
    let full = kv.bucket(format!("conformance_t_{name}"));
    same("the full name is the same", full.get("key").await, &Some(3));
    let config = BucketConfig::new(unique("made")).history(2);
    let made = ok("create_bucket under a bucket prefix", tenant.create_bucket(config).await);
    ok("set in it", made.set("key", &4).await);
    same("get from it", made.get("key").await, &Some(4));
}

/// Prefixes are namespaces of one bucket.
pub async fn prefixes(kv: &Kv) {
    let kv = kv.bucket(unique("prefixes"));
    let names = ["", "app", "app:two", "a b", "app=3Atwo"];
    for (n, name) in names.into_iter().enumerate() {
        ok("set under a prefix", kv.clone().with_prefix(name).set("user:1", &n).await);
    }
    for (n, name) in names.into_iter().enumerate() {
        let step = format!("get under the prefix {name:?}");
        same(&step, kv.clone().with_prefix(name).get("user:1").await, &Some(n));
    }
    let app = kv.clone().with_prefix("app");
    ok("delete under a prefix", app.delete("user:1").await);
    same("gone there", app.exists("user:1").await, &false);
    same("not elsewhere", kv.exists("user:1").await, &true);
    same("a prefix is replaced", app.with_prefix("").exists("user:1").await, &true);
}

/// Values are read with the serializer that wrote them.
pub async fn serializers(kv: &Kv) {
    let json = kv.bucket(unique("serializers"));
    let packed = json.clone().with_serializer(Serializer::message_pack());
    let text = json.clone().with_serializer(Serializer::text());
    ok("set packed", packed.set("packed", &user("Ada")).await);
    ok("set text", text.set("text", "plain").await);
    same("text is stored raw", json.get_raw("text").await, &Some(Bytes::from("plain")));
    for (name, reader) in [("json", &json), ("packed", &packed), ("text", &text)] {
        let step = format!("{name} reads what was packed");
        same(&step, reader.get("packed").await, &Some(user("Ada")));
        let step = format!("{name} reads text");
        same(&step, reader.get("text").await, &Some("plain".to_owned()));
    }
    if capabilities(&json).await.compare_and_set {
        ok("replace packed by JSON", json.replace("packed", &user("Grace")).await);
        same("the JSON handle reads it", json.get("packed").await, &Some(user("Grace")));
    }
    ok("set_raw", text.set_raw("raw", "\"quoted\"").await);
    same("raw bytes: own serializer", json.get("raw").await, &Some("quoted".to_owned()));
    same("raw bytes: own serializer", text.get("raw").await, &Some("\"quoted\"".to_owned()));
}

/// create_bucket makes and changes buckets; values stay, and what is not set stays as it is.
pub async fn bucket_options(kv: &Kv) {
    let name = unique("options");
    let config = BucketConfig::new(&name)
        .history(3)
        .storage(Storage::Memory)
        .replicas(1)
        .max_value_size(64)
        .max_bytes(1 << 20)
        .description("for a test");
    let bucket = ok("create", kv.create_bucket(config.clone()).await);
    ok("set", bucket.set("key", &1).await);
    ok("the same again", kv.create_bucket(config.clone()).await);
    same("values stay", bucket.get("key").await, &Some(1));
    refused("above the size", ErrorKind::TooLarge, bucket.set_raw("big", vec![0; 65]).await);

    let change = BucketConfig::new(&name).max_value_size(128).description("changed");
    ok("change two options", kv.create_bucket(change).await);
    same("values stay after a change", bucket.get("key").await, &Some(1));
    ok("the new size holds", bucket.set_raw("big", vec![0; 128]).await);
    refused("above the new size", ErrorKind::TooLarge, bucket.set_raw("big", vec![0; 129]).await);
    let moved = BucketConfig::new(&name).storage(Storage::File);
    refused("change the storage", ErrorKind::InvalidInput, kv.create_bucket(moved).await);

    let compressed = kv.create_bucket(BucketConfig::new(unique("compressed")).compression(true));
    if capabilities(kv).await.compression {
        let bucket = ok("create a compressed bucket", compressed.await);
        ok("set in it", bucket.set("key", &"x".repeat(1000)).await);
        same("get from it", bucket.get("key").await, &Some("x".repeat(1000)));
    } else {
        refused("create a compressed bucket", ErrorKind::Unsupported, compressed.await);
    }

    let full = BucketConfig::new(unique("full")).max_bytes(1024);
    let full = ok("create a small bucket", kv.create_bucket(full).await);
    ok("set in it", full.set_raw("a", vec![0; 512]).await);
    refused("more than it holds", ErrorKind::TooLarge, full.set_raw("b", vec![0; 600]).await);
    same("what was there stays", full.exists("a").await, &true);
}

/// A bucket's values are gone after its lifetime, and not before.
pub async fn bucket_ttl(kv: &Kv) {
    let ttl = Duration::from_secs(1);
    let config = BucketConfig::new(unique("ttl")).ttl(ttl);
    let bucket = ok("create", kv.create_bucket(config).await);
    for round in 0..2 {
        let begun = Instant::now();
        ok("set", bucket.set("key", &round).await);
        let found = ok("get at once", bucket.get::<u32>("key").await);
        // On a machine so slow that the value may be gone already, that shows nothing.
        let in_time = begun.elapsed() < ttl;
        assert!(found == Some(round) || !in_time, "a value was gone before its bucket's ttl");
        let deadline = Instant::now() + ttl * 10;
        while ok("exists", bucket.exists("key").await) {
            assert!(Instant::now() < deadline, "a value outlived its bucket's ttl by 9 s");
            tokio::time::sleep(ttl / 10).await;
        }
        same("replace of what has expired", bucket.replace("key", &9).await, &None);
    }
}

/// What is too large is refused, and the largest that fits is taken.
pub async fn limits(kv: &Kv) {
    let kv = kv.bucket(unique("limits"));
    ok("set", kv.set("key", &1).await);
    for length in [MAX_KEY_LEN + 1, 10_000] {
        let key = "k".repeat(length);
        refused("set under a long key", ErrorKind::TooLarge, kv.set(&key, &1).await);
        refused("get of a long key", ErrorKind::TooLarge, kv.get::<u32>(&key).await);
        refused("delete of a long key", ErrorKind::TooLarge, kv.delete(&key).await);
    }
    let prefixed = kv.clone().with_prefix("p".repeat(MAX_KEY_LEN));
    refused("a key too long by its prefix", ErrorKind::TooLarge, prefixed.set("k", &1).await);

    let largest = capabilities(&kv).await.max_value_size;
    if largest <= LARGEST_TRIED {
        ok("set the largest value", kv.set_raw("big", vec![7; largest]).await);
        let read = ok("get the largest value", kv.get_raw("big").await);
        assert_eq!(read.map(|bytes| bytes.len()), Some(largest), "the largest value comes back");
        let larger = kv.set_raw("big", vec![8; largest + 1]).await;
        refused("set one byte more", ErrorKind::TooLarge, larger);
        let read = ok("get what was there before", kv.get_raw("big").await);
        assert!(read.is_some_and(|bytes| bytes[..] == vec![7; largest]), "it stays as it was");
    }
}

/// What can never work is refused as such.
pub async fn refusals(kv: &Kv) {
    let bucket = kv.bucket(unique("refusals"));
    refused("set an empty key", ErrorKind::InvalidInput, bucket.set("", &1).await);
    refused("get an empty key", ErrorKind::InvalidInput, bucket.get::<u32>("").await);
    refused("delete an empty key", ErrorKind::InvalidInput, bucket.delete("").await);
    let prefixed = bucket.clone().with_prefix("app");
    refused("an empty key under a prefix", ErrorKind::InvalidInput, prefixed.set("", &1).await);
    for name in ["", "a.b", "a b", "a*", "é", &"n".repeat(300)] {
        let step = format!("a bucket called {name:?}");
        refused(&step, ErrorKind::InvalidInput, kv.bucket(name).set("key", &1).await);
        refused(&step, ErrorKind::InvalidInput, kv.bucket(name).get_raw("key").await);
        let created = kv.create_bucket(BucketConfig::new(name)).await;
        refused(&step, ErrorKind::InvalidInput, created.map(|_| ()));
    }
    let history = BucketConfig::new(unique("history")).history(65);
    refused("history of 65", ErrorKind::InvalidInput, kv.create_bucket(history).await);
    let unnamed = BTreeMap::from([((1, 2), 3)]);
    refused("a value that JSON cannot hold", ErrorKind::Encode, bucket.set("key", &unnamed).await);
    same("nothing was stored", bucket.exists("key").await, &false);
}

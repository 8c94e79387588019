//! Data that other programs read and write beside us.

use std::time::{Duration, SystemTime};

use nats_connector::kv::BucketConfig;
use nats_connector::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use testkit::{eventually, require_redis};

use super::{LIMIT, ask, other_program, start};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
    age: u32,
}

/// lokstra writes JSON under `prefix:key`, strings quoted and bytes as base64 in a string.
#[tokio::test]
async fn what_lokstra_wrote() {
    if !require_redis() {
        return;
    }
    let (server, kv) = start().await;
    let mut con = other_program(&server).await;
    let _: () = ask(&mut con, &["SET", "kv:user:123", r#"{"name":"Ada","age":36}"#]).await;
    let _: () = ask(&mut con, &["SET", "kv:token", r#""abc""#, "EX", "3600"]).await;
    let _: () = ask(&mut con, &["SET", "kv:bytes", r#""AAEC/w==""#]).await;
    let _: () = ask(&mut con, &["SET", "other:user:123", "1"]).await;

    let kv = kv.with_prefix("kv");
    let ada = User { name: "Ada".to_owned(), age: 36 };
    assert_eq!(kv.get("user:123").await.unwrap().as_ref(), Some(&ada));
    let (token, expires) =
        kv.get_with_expiration::<String>("token").await.unwrap().expect("a token");
    assert_eq!(token, "abc");
    let left = expires.expect("its lifetime").duration_since(SystemTime::now()).unwrap();
    assert!(left > Duration::from_secs(3500) && left <= Duration::from_secs(3600), "{left:?}");
    assert_eq!(kv.get("bytes").await.unwrap(), Some("AAEC/w==".to_owned()));
    let mut keys = kv.keys().await.unwrap();
    keys.sort_unstable();
    assert_eq!(keys, ["bytes", "token", "user:123"]);
    assert_eq!(kv.keys_matching("user:*").await.unwrap(), ["user:123"]);

    // And the other way.
    kv.set("user:124", &ada).await.unwrap();
    let stored: String = ask(&mut con, &["GET", "kv:user:124"]).await;
    assert_eq!(stored, r#"{"name":"Ada","age":36}"#);
    kv.set("short", "x").ttl(Duration::from_secs(100)).await.unwrap();
    let left: i64 = ask(&mut con, &["TTL", "kv:short"]).await;
    assert!((90..=100).contains(&left), "{left}");
    kv.delete("user:123").await.unwrap();
    let left: i64 = ask(&mut con, &["EXISTS", "kv:user:123"]).await;
    assert_eq!(left, 0);
    assert_eq!(kv.delete_matching("*").await.unwrap(), 4);
    let left: i64 = ask(&mut con, &["EXISTS", "other:user:123"]).await;
    assert_eq!(left, 1, "another prefix is not touched");
}

/// evo writes JSON under `prefix` + `bucket.` + key, with no mark between prefix and bucket.
#[tokio::test]
async fn what_evo_wrote() {
    if !require_redis() {
        return;
    }
    let (server, kv) = start().await;
    let mut con = other_program(&server).await;
    let _: () = ask(&mut con, &["SET", "app_users.ada", r#"{"name":"Ada","age":36}"#]).await;
    let _: () = ask(&mut con, &["INCRBY", "app_hits", "41"]).await;
    let ada = User { name: "Ada".to_owned(), age: 36 };
    assert_eq!(kv.get("app_users.ada").await.unwrap(), Some(ada));
    assert_eq!(kv.increment("app_hits", 1).await.unwrap(), 42);
    let hits: i64 = ask(&mut con, &["INCRBY", "app_hits", "1"]).await;
    assert_eq!(hits, 43);
    assert_eq!(kv.increment("app_hits", 1).await.unwrap(), 44);
    assert_eq!(kv.keys_matching("app_users.*").await.unwrap(), ["app_users.ada"]);
}

/// A value that another program wrote in between fails a compare-and-set, whatever it is.
#[tokio::test]
async fn a_plain_write_is_noticed() {
    if !require_redis() {
        return;
    }
    let (server, kv) = start().await;
    let mut con = other_program(&server).await;
    let revision = kv.set("key", &1).await.unwrap();
    let _: () = ask(&mut con, &["SET", "key", "2"]).await;
    let error = kv.set("key", &3).if_revision(revision).await.unwrap_err();
    assert!(error.is_conflict(), "{error}");
    let entry = kv.entry::<u32>("key").await.unwrap().unwrap();
    assert!(entry.revision > revision && entry.value == 2 && entry.created.is_none());
    let again = kv.entry::<u32>("key").await.unwrap().unwrap();
    assert_eq!(again.revision, entry.revision, "one write has one revision");
    let next = kv.set("key", &3).if_revision(entry.revision).await.unwrap();

    // A delete, and a value put back after it.
    let _: () = ask(&mut con, &["DEL", "key"]).await;
    assert!(kv.set("key", &4).if_revision(next).await.unwrap_err().is_conflict());
    assert!(!kv.exists("key").await.unwrap());
    let created = kv.create("key", &5).await.unwrap();
    assert!(created > next);
    // A write to a key that never was.
    let _: () = ask(&mut con, &["SET", "foreign", "1"]).await;
    assert!(kv.set("foreign", &2).if_revision(0).await.unwrap_err().is_conflict());
    assert_eq!(kv.create("foreign", &2).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    // Other ways to change a value.
    let revision = kv.set("text", "a").await.unwrap();
    let _: i64 = ask(&mut con, &["APPEND", "text", "b"]).await;
    assert!(kv.delete_if_revision("text", revision).await.unwrap_err().is_conflict());
    // Revisions go on when the whole database was emptied.
    let _: () = ask(&mut con, &["FLUSHALL"]).await;
    assert!(kv.set("text", "c").if_revision(revision).await.unwrap_err().is_conflict());
    assert!(kv.set("text", "c").await.unwrap() > created);
}

#[tokio::test]
async fn lifetimes_of_others_are_honoured() {
    if !require_redis() {
        return;
    }
    let (server, kv) = start().await;
    let mut con = other_program(&server).await;
    // A changed lifetime is read as it is.
    kv.set("key", &1).ttl(Duration::from_secs(1000)).await.unwrap();
    let _: i64 = ask(&mut con, &["EXPIRE", "key", "100"]).await;
    let expires = kv.entry::<u32>("key").await.unwrap().unwrap().expires.unwrap();
    assert!(expires <= SystemTime::now() + Duration::from_secs(100));
    let _: i64 = ask(&mut con, &["PERSIST", "key"]).await;
    assert_eq!(kv.entry::<u32>("key").await.unwrap().unwrap().expires, None);
    // Ours is exact, and stays so when a value is changed again and again.
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(4_102_444_800_123);
    assert!(kv.expire("key", at).await.unwrap());
    for n in 0..50 {
        assert_eq!(kv.entry::<u32>("key").await.unwrap().unwrap().expires, Some(at));
        kv.increment("key", 1).await.unwrap_or_else(|error| panic!("increment {n}: {error}"));
    }
    let left: i64 = ask(&mut con, &["PTTL", "key"]).await;
    assert!(left > 0);
    // A lifetime of the bucket is not the key's own.
    let config = BucketConfig::new("hourly").ttl(Duration::from_secs(3600));
    let hourly = kv.create_bucket(config).await.unwrap();
    hourly.set("key", &1).await.unwrap();
    let left: i64 = ask(&mut con, &["TTL", "@hourly:key"]).await;
    assert!((3500..=3600).contains(&left), "{left}");
    assert!(hourly.persist("key").await.unwrap());
    let left: i64 = ask(&mut con, &["TTL", "@hourly:key"]).await;
    assert!((3500..=3600).contains(&left), "persist keeps the bucket's: {left}");
    // Nothing of a value outlives it, trace included.
    kv.set("short", &1).ttl(Duration::from_secs(1)).await.unwrap();
    let _: () = ask(&mut con, &["SET", "foreign", "1", "PX", "900"]).await;
    assert!(kv.exists("foreign").await.unwrap());
    let traces = ["EXISTS", "short", "@:r:default:short", "foreign", "@:r:default:foreign"];
    eventually(LIMIT, || {
        let mut con = con.clone();
        async move { ask::<i64>(&mut con, &traces).await == 0 }
    })
    .await;
}

#[tokio::test]
async fn other_types_are_refused_and_left() {
    if !require_redis() {
        return;
    }
    let (server, kv) = start().await;
    let mut con = other_program(&server).await;
    let _: i64 = ask(&mut con, &["RPUSH", "list", "a", "b"]).await;
    let _: i64 = ask(&mut con, &["HSET", "hash", "field", "1"]).await;
    kv.set("string", &1).await.unwrap();
    assert_eq!(kv.keys().await.unwrap(), ["string"]);
    assert_eq!(kv.item_count().await.unwrap(), 1);
    let error = kv.get::<u32>("list").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(error.to_string().contains("key=list"), "{error}");
    assert_eq!(kv.create("list", &1).await.unwrap_err().kind(), ErrorKind::Decode);
    let many = kv.get_many::<u32>(["string", "list", "none"]).await.unwrap();
    let kinds: Vec<_> =
        many.iter().map(|(_, found)| found.as_ref().copied().map_err(Error::kind)).collect();
    assert_eq!(kinds, [Ok(Some(1)), Err(ErrorKind::Decode), Ok(None)]);
    assert_eq!(kv.delete_matching("*").await.unwrap(), 1);
    let left: i64 = ask(&mut con, &["EXISTS", "list", "hash"]).await;
    assert_eq!(left, 2);
}

/// The text of a prefix is never a pattern, and the keys of one bucket are never another's.
#[tokio::test]
async fn prefixes_with_pattern_characters() {
    if !require_redis() {
        return;
    }
    let (server, kv) = start().await;
    let mut con = other_program(&server).await;
    let prefixes = ["a*", "a?", "a[b]", "a\\", "ab", "a^", "a-c", "*", "@b", "@:r:default"];
    for prefix in prefixes {
        kv.clone().with_prefix(prefix).set("key", prefix).await.unwrap();
        kv.bucket("b").with_prefix(prefix).set("key", prefix).await.unwrap();
    }
    for prefix in prefixes {
        let under = kv.clone().with_prefix(prefix);
        assert_eq!(under.keys().await.unwrap(), ["key"], "{prefix}");
        assert_eq!(under.get("key").await.unwrap(), Some(prefix.to_owned()));
        assert_eq!(under.keys_matching("k*").await.unwrap(), ["key"], "{prefix}");
        assert_eq!(kv.bucket("b").with_prefix(prefix).keys().await.unwrap(), ["key"], "{prefix}");
    }
    assert_eq!(kv.keys().await.unwrap().len(), prefixes.len());
    assert_eq!(kv.clone().with_prefix("a*").flush().await.unwrap(), 1);
    assert_eq!(kv.keys().await.unwrap().len(), prefixes.len() - 1);
    assert_eq!(kv.bucket("b").keys().await.unwrap().len(), prefixes.len());

    // A deleted bucket takes nothing of another along.
    assert!(kv.delete_bucket("b").await.unwrap());
    let left: Vec<String> = ask(&mut con, &["KEYS", "@b:*"]).await;
    assert!(left.is_empty(), "{left:?}");
    let left: Vec<String> = ask(&mut con, &["KEYS", "@:?:b*"]).await;
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(kv.keys().await.unwrap().len(), prefixes.len() - 1);
    // All plain keys of a database are more than anybody means.
    let error = kv.delete_bucket("default").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(kv.flush().await.unwrap() > 0);
    assert_eq!(kv.item_count().await.unwrap(), 0);
}

/// Deletes leave no heap: a trace of each for a minute, on one key one.
#[tokio::test]
async fn deletes_leave_no_heap() {
    if !require_redis() {
        return;
    }
    let (server, kv) = start().await;
    for n in 0..testkit::size(100, 1000) {
        kv.set("key", &n).await.unwrap();
        kv.delete("key").await.unwrap();
    }
    kv.delete("never").await.unwrap();
    let mut con = other_program(&server).await;
    let mut left: Vec<String> = ask(&mut con, &["KEYS", "*"]).await;
    left.sort_unstable();
    assert_eq!(left, ["@:b:default", "@:buckets", "@:r:default:key"]);
    let seconds: i64 = ask(&mut con, &["TTL", "@:r:default:key"]).await;
    assert!((1..=60).contains(&seconds), "{seconds}");
}

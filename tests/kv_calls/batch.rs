//! Calls for several keys.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use nats_connector::kv::{BucketConfig, Event, Kv};
use nats_connector::{ErrorKind, Serializer};
use testkit::{Proxy, Server, Version, size};

use super::{Stores, connect};

#[tokio::test(flavor = "multi_thread")]
async fn each_key_has_its_own_result() {
    for (store, kv) in Stores::start().await.all() {
        let kv = kv.bucket("b");
        kv.set("a", &1).await.unwrap();
        kv.set_raw("empty", "").await.unwrap();
        kv.set_raw("word", "\"x\"").await.unwrap();
        kv.set("gone", &1).await.unwrap();
        kv.delete("gone").await.unwrap();

        let keys = ["word", "a", "none", "", "gone", "a"];
        let many = kv.get_many::<u32>(keys).await.unwrap();
        assert_eq!((many.len(), many.is_empty()), (6, false), "{store}");
        assert!(many.iter().map(|(key, _)| key).eq(keys), "{store}");
        let failed: Vec<_> =
            many.failures().map(|(key, error)| (key.to_owned(), error.kind())).collect();
        let expected = [("word", ErrorKind::Decode), ("", ErrorKind::InvalidInput)];
        assert_eq!(failed, expected.map(|(key, kind)| (key.to_owned(), kind)), "{store}");
        let values: Vec<_> = many.into_iter().filter_map(|(_, value)| value.ok()).collect();
        assert_eq!(values, [Some(1), None, None, Some(1)], "{store}");

        let error = kv.get_many::<u32>(keys).await.unwrap().all().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode, "{store}: {error}");
        let context = ["bucket", "key", "failed"].map(|name| error.context(name));
        assert_eq!(context, [Some("b"), Some("word"), Some("2 of 6")], "{store}");

        let raw = kv.get_many_raw(["empty", "word", "none"]).consistent().await.unwrap();
        let raw = raw.found().unwrap();
        assert_eq!(raw.len(), 2, "{store}");
        assert_eq!((&raw["empty"][..], &raw["word"][..]), (&b""[..], &b"\"x\""[..]), "{store}");

        // A bucket that does not exist has no values, and is not made by asking.
        let many = kv.bucket("none").get_many::<u32>(["a", "b"]).await.unwrap();
        assert_eq!(many.all().unwrap(), [None, None], "{store}");
        assert_eq!(kv.bucket("none").bucket_status().await.unwrap(), None, "{store}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_for_no_keys() {
    let server = Server::builder().jetstream().start().await;
    let proxy = Proxy::start(server.address());
    let kv = connect(&proxy.url()).await.kv();
    proxy.black_hole();
    assert!(kv.get_many::<u32>([""; 0]).await.unwrap().is_empty());
    assert!(kv.set_many([("", &0); 0]).await.unwrap().is_empty());
    assert!(kv.delete_many([""; 0]).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_and_deletes_of_many_keys() {
    let n = size(3_000, 20_000);
    for (store, kv) in Stores::start().await.all() {
        let kv = kv.bucket("b").with_prefix("app");
        let values: HashMap<String, usize> = (0..n).map(|n| (format!("key:{n}"), n)).collect();
        let revisions = kv.set_many(&values).await.unwrap().all().unwrap();
        assert_eq!(revisions.len(), n, "{store}");
        let keys: Vec<String> = (0..n + 10).map(|n| format!("key:{n}")).collect();
        let read = kv.get_many::<usize>(&keys).await.unwrap().all().unwrap();
        assert!(read[..n].iter().enumerate().all(|(n, value)| *value == Some(n)), "{store}");
        assert!(read[n..].iter().all(Option::is_none), "{store}");
        assert_eq!(kv.get_many::<usize>(&keys).await.unwrap().found().unwrap(), values, "{store}");

        let deleted = kv.delete_many(&keys[10..]).await.unwrap().all().unwrap();
        assert_eq!(deleted.len(), n, "{store}");
        let left = kv.get_many::<usize>(&keys).await.unwrap().found().unwrap();
        assert_eq!(left.len(), 10, "{store}");

        // The last one of a key is what is stored; what cannot be stored harms no other.
        let large = "x".repeat(2 * 1024 * 1024);
        let values = [("a", "1"), ("b", "2"), ("", "3"), ("a", "4"), ("large", &large)];
        let many = kv.set_many(values).await.unwrap();
        let kinds = many.iter().map(|(key, result)| (key, result.as_ref().err().map(|e| e.kind())));
        let expected = [
            ("b", None),
            ("", Some(ErrorKind::InvalidInput)),
            ("a", None),
            ("large", Some(ErrorKind::TooLarge)),
        ];
        assert!(kinds.eq(expected), "{store}: {many:?}");
        assert_eq!(kv.get::<String>("a").await.unwrap().as_deref(), Some("4"), "{store}");
    }
}

#[tokio::test]
async fn a_value_that_cannot_be_encoded_is_told_with_its_key() {
    let kv = Kv::memory().with_serializer(Serializer::text());
    let pairs = [("a", &[1][..]), ("b", &[2][..])];
    let error = kv.set_many(pairs).await.unwrap().all().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Encode, "{error}");
    assert_eq!(error.context("key"), Some("a"));
    let error = kv.bucket("not a name").set_many([("a", &1)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_a_batch_expire() {
    for (store, kv) in Stores::start().await.all() {
        let set = kv.set_many([("a", &1), ("b", &2)]).ttl(Duration::from_secs(3600));
        let _ = set.await.unwrap().all().unwrap();
        for key in ["a", "b"] {
            let (_, end) = kv.get_with_expiration::<u32>(key).await.unwrap().unwrap();
            assert!(end.is_some(), "{store}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_values_of_a_handle() {
    let n = size(2_500, 10_000);
    for (store, kv) in Stores::start().await.all() {
        let kv = kv.bucket("b");
        let app = kv.clone().with_prefix("app");
        assert!(app.get_all::<u32>().await.unwrap().is_empty(), "{store}");

        kv.set("outside", &1).await.unwrap();
        let values: HashMap<String, Option<usize>> =
            (0..n).map(|n| (format!("user:{n}"), (n % 3 > 0).then_some(n))).collect();
        let _ = app.set_many(&values).await.unwrap().all().unwrap();
        app.delete("user:1").await.unwrap();
        let mut values = values;
        values.remove("user:1");
        assert_eq!(app.get_all().await.unwrap(), values, "{store}");
        assert_eq!(app.get_all().consistent().await.unwrap(), values, "{store}");
        let streamed = app.get_all().stream();
        let streamed: HashMap<String, Option<usize>> = streamed.try_collect().await.unwrap();
        assert_eq!(streamed, values, "{store}");

        let few = app.get_all_matching::<Option<usize>>("user:12?").await.unwrap();
        assert_eq!(few.len(), 10, "{store}");
        assert_eq!(few["user:125"], Some(125), "{store}");
        assert_eq!(kv.get_all::<Option<usize>>().await.unwrap().len(), n, "{store}");
        let error = app.get_all_matching::<u32>("[").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{store}: {error}");

        // What is no T is told in its place.
        app.set("user:2", "a word").await.unwrap();
        let error = app.get_all::<Option<usize>>().await.unwrap_err();
        assert_eq!((error.kind(), error.context("key")), (ErrorKind::Decode, Some("user:2")));
        let pairs: Vec<_> = app.get_all::<Option<usize>>().stream().collect().await;
        assert_eq!(pairs.iter().filter(|pair| pair.is_ok()).count(), n - 2, "{store}");
        assert_eq!(pairs.iter().filter(|pair| pair.is_err()).count(), 1, "{store}");

        // Empty values are values.
        let text = kv.clone().with_prefix("text").with_serializer(Serializer::text());
        text.set("empty", "").await.unwrap();
        assert_eq!(text.get_all::<String>().await.unwrap()["empty"], "", "{store}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_by_pattern_and_flushing_stay_in_their_scope() {
    for (store, kv) in Stores::start().await.all() {
        let kv = kv.bucket("b");
        assert_eq!(kv.flush().await.unwrap(), 0, "{store}: no bucket");
        assert_eq!(kv.bucket_status().await.unwrap(), None, "{store}: made by a flush");
        let app = kv.clone().with_prefix("app*");
        for kv in [&kv, &app] {
            let keys: Vec<String> = (0..600).map(|n| format!("user:{n}")).collect();
            let pairs = keys.iter().map(|key| (key, &1));
            let _ = kv.set_many(pairs).await.unwrap().all().unwrap();
            kv.set("other", &1).await.unwrap();
        }
        assert_eq!(app.delete_matching("user:1*").await.unwrap(), 111, "{store}");
        assert_eq!(app.delete_matching("user:1*").await.unwrap(), 0, "{store}");
        assert_eq!(app.get_all::<u32>().await.unwrap().len(), 490, "{store}");
        assert_eq!(app.flush().await.unwrap(), 490, "{store}");
        assert_eq!(app.get_all::<u32>().await.unwrap().len(), 0, "{store}");
        assert_eq!(kv.get_all::<u32>().await.unwrap().len(), 601, "{store}");
        assert_eq!(kv.flush().await.unwrap(), 601, "{store}");
        assert_eq!(kv.flush().await.unwrap(), 0, "{store}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_see_what_a_flush_and_a_pattern_take() {
    for (store, kv) in Stores::start().await.all() {
        let kv = kv.bucket("b").with_prefix("app");
        let keys = ["a:1", "a:2", "b:1"];
        let _ = kv.set_many(keys.map(|key| (key, &1))).await.unwrap().all().unwrap();
        let mut watcher = kv.watch_all().updates_only().await.unwrap();
        assert_eq!(kv.delete_matching("a:*").await.unwrap(), 2, "{store}");
        assert_eq!(kv.flush().await.unwrap(), 1, "{store}");
        let mut gone = Vec::new();
        while gone.len() < 3 {
            let next = tokio::time::timeout(Duration::from_secs(10), watcher.next()).await;
            match next.unwrap().unwrap().unwrap() {
                Event::Deleted { key, .. } | Event::Purged { key, .. } => gone.push(key),
                Event::Current => {}
                other => panic!("{store}: {other:?}"),
            }
        }
        gone.sort_unstable();
        assert_eq!(gone, keys, "{store}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_leaves_no_history() {
    for (store, kv) in Stores::start().await.all() {
        let config = BucketConfig::new("b").history(5);
        let kv = kv.create_bucket(config).await.unwrap();
        for n in 0..3 {
            kv.set("key", &n).await.unwrap();
        }
        assert_eq!(kv.flush().await.unwrap(), 1, "{store}");
        let left = kv.history("key").await.unwrap();
        assert!(left.len() <= 1, "{store}: the marker alone, not {left:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_an_error_of_every_key() {
    let server = Server::builder().jetstream().start().await;
    let proxy = Proxy::start(server.address());
    let kv = connect(&proxy.url()).await.kv().with_timeout(Duration::from_millis(600));
    kv.set("a", &1).timeout(Duration::from_secs(10)).await.unwrap();
    proxy.black_hole();
    let begun = Instant::now();
    let outage = [ErrorKind::Timeout, ErrorKind::Unavailable];
    let keys: Vec<String> = (0..2_000).map(|n| format!("key{n}")).collect();
    let many = kv.get_many::<u32>(&keys).await.unwrap();
    assert_eq!(many.failures().filter(|(_, e)| outage.contains(&e.kind())).count(), keys.len());
    let many = kv.set_many(keys.iter().map(|key| (key, &1))).await.unwrap();
    assert_eq!(many.failures().filter(|(_, e)| outage.contains(&e.kind())).count(), keys.len());
    assert!(outage.contains(&kv.get_all::<u32>().await.unwrap_err().kind()));
    assert!(outage.contains(&kv.flush().await.unwrap_err().kind()));
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_server_does_the_same_one_by_one() {
    if !testkit::require(Version::V2_10) {
        return;
    }
    let server = Server::builder().version(Version::V2_10).jetstream().start().await;
    let kv = connect(&server.url()).await.kv();
    let values: HashMap<String, usize> = (0..700).map(|n| (format!("key:{n}"), n)).collect();
    let _ = kv.set_many(&values).await.unwrap().all().unwrap();
    let many = kv.get_many(values.keys().chain([&"none".to_owned()])).await.unwrap();
    assert_eq!(many.found().unwrap(), values);
    assert_eq!(kv.get_all().await.unwrap(), values);
    assert_eq!(kv.flush().await.unwrap(), 700);
    assert!(kv.get_all::<usize>().await.unwrap().is_empty());
    let error = kv.set_many([("a", &1)]).ttl(Duration::from_secs(9)).await.unwrap().all();
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Unsupported);
}

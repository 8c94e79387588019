//! Earlier values.

use super::*;

/// A bucket keeps as many values of a key as it is made for, and tells them oldest first.
pub async fn history(kv: &Kv) {
    let config = BucketConfig::new(unique("history")).history(3);
    let raw = Raw::of(kv, config.name().to_owned());
    let history = async |step: &str| {
        let told = raw.driver.history(&raw.bucket, Key::new("", "a:1"), soon()).await;
        let told = ok(step, told);
        assert!(
            told.is_sorted_by(|a, b| a.revision < b.revision),
            "{step}: oldest first: {told:?}"
        );
        assert!(told.iter().all(|update| update.key == "a:1"), "{step}: of that key: {told:?}");
        let what = told.into_iter().map(|update| match update.what {
            What::Put(entry) => {
                assert_eq!(entry.revision, update.revision, "{step}: one revision");
                String::from_utf8_lossy(&entry.value.bytes).into_owned()
            }
            what => format!("{what:?}"),
        });
        what.collect::<Vec<String>>()
    };
    if !capabilities(kv).await.history {
        refused("a bucket with history", ErrorKind::Unsupported, kv.create_bucket(config).await);
        let told = raw.driver.history(&raw.bucket, Key::new("", "key"), soon()).await;
        refused("history", ErrorKind::Unsupported, told);
        return;
    }
    assert_eq!(history("in no bucket").await, [""; 0], "there is none");
    let bucket = ok("create", kv.create_bucket(config).await);
    assert_eq!(history("of no key").await, [""; 0], "there is none");
    for n in 1..=4 {
        ok("set", bucket.set_raw("a:1", n.to_string()).await);
        ok("set another", bucket.set_raw("other", "x").await);
    }
    assert_eq!(history("of four values").await, ["2", "3", "4"], "the last three");
    ok("delete", bucket.delete("a:1").await);
    assert_eq!(history("after a delete").await, ["3", "4", "Deleted"], "it is part of it");
    same("it is gone", bucket.exists("a:1").await, &false);
    ok("delete again", bucket.delete("a:1").await);
    ok("set again", bucket.set_raw("a:1", "5").await);
    let told = history("after another value").await;
    assert_eq!(told.last().map(String::as_str), Some("5"), "the last is last");
    ok("purge", bucket.purge("a:1").await);
    let told = history("after a purge").await;
    assert!(told.iter().all(|what| what == "Purged"), "nothing before it: {told:?}");
    ok("set again", bucket.set_raw("a:1", "6").await);
    let told = history("after that").await;
    let values = told.iter().filter(|what| *what != "Purged");
    assert_eq!(Vec::from_iter(values), ["6"], "one value");
}

/// The same by handles.
pub async fn past_events(kv: &Kv) {
    let kv = kv.clone().with_prefix("app");
    if !capabilities(&kv).await.history {
        refused("history", ErrorKind::Unsupported, kv.history("key").await);
        return;
    }
    let config = BucketConfig::new(unique("past")).history(2);
    let bucket = ok("create", kv.create_bucket(config).await);
    ok("set", bucket.set("key", &1).await);
    ok("set", bucket.set("key", &2).await);
    ok("delete", bucket.delete("key").await);
    let events = ok("history", bucket.history("key").await);
    let [Event::Put(record), Event::Deleted { key, revision }] = &*events else {
        panic!("history: found {events:?}")
    };
    same("decode", record.decode(), &2);
    assert_eq!((&*record.key, &**key), ("key", "key"), "without the prefix");
    assert!(*revision > record.revision, "oldest first");
}

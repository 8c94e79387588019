//! Changes of what is there.

use super::*;

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

/// Purge takes a value away with its history, and is right when there is none.
pub async fn purge(kv: &Kv) {
    let kv = kv.bucket(unique("purge"));
    ok("purge in no bucket", kv.purge("key").await);
    for round in 0..2 {
        ok("set", kv.set("key", &round).await);
        ok("set another", kv.set("other", &round).await);
        for again in 0..2 {
            ok(&format!("purge {again}"), kv.purge("key").await);
            same("get a purged key", kv.get::<u32>("key").await, &None);
        }
        same("another key stays", kv.get("other").await, &Some(round));
    }
}

/// Take gives a value and takes it away.
pub async fn take(kv: &Kv) {
    let kv = kv.bucket(unique("take"));
    same("take from no bucket", kv.take::<u32>("key").await, &None);
    ok("set", kv.set("key", &1).await);
    if !capabilities(&kv).await.compare_and_set {
        refused("take", ErrorKind::Unsupported, kv.take::<u32>("key").await);
        same("the value stays", kv.get("key").await, &Some(1));
        return;
    }
    same("take", kv.take("key").await, &Some(1));
    same("it is gone", kv.exists("key").await, &false);
    same("take it again", kv.take::<u32>("key").await, &None);
    ok("set another type", kv.set("key", "text").await);
    refused("take as a number", ErrorKind::Decode, kv.take::<u32>("key").await);
    same("it stays", kv.get("key").await, &Some("text".to_owned()));
}

/// Of twenty takes at once one gets the value.
pub async fn concurrent_takes(kv: &Kv) {
    let kv = kv.bucket(unique("takes"));
    if !capabilities(&kv).await.compare_and_set {
        return;
    }
    ok("set", kv.set("key", &7).await);
    let taken = future::join_all((0..20).map(|_| kv.take::<u32>("key"))).await;
    let mut taken: Vec<u32> = taken.into_iter().filter_map(|it| ok("take", it)).collect();
    assert_eq!(taken.pop(), Some(7), "somebody gets the value");
    assert!(taken.is_empty(), "{} more got it", taken.len());
    same("it is gone", kv.exists("key").await, &false);
}

/// Update makes a new value of the old one, also where there was none, and can take it away.
pub async fn update(kv: &Kv) {
    let kv = kv.bucket(unique("update"));
    let add = |n: Option<u32>| Some(n.unwrap_or(10) + 1);
    if !capabilities(&kv).await.compare_and_set {
        refused("update", ErrorKind::Unsupported, kv.update("key", add).await);
        same("nothing was stored", kv.exists("key").await, &false);
        return;
    }
    same("update nothing to nothing", kv.update("key", |n: Option<u32>| n).await, &None);
    same("update nothing", kv.update("key", add).await, &Some(11));
    same("update", kv.update("key", add).await, &Some(12));
    same("get it", kv.get("key").await, &Some(12));
    same("update to nothing", kv.update("key", |_: Option<u32>| None).await, &None);
    same("it is gone", kv.exists("key").await, &false);
    same("update what was deleted", kv.update("key", add).await, &Some(11));
    ok("set another type", kv.set("key", "text").await);
    refused("update as a number", ErrorKind::Decode, kv.update("key", add).await);
    same("it stays", kv.get("key").await, &Some("text".to_owned()));
}

/// Twenty updates of one key at once are all counted.
pub async fn concurrent_updates(kv: &Kv) {
    let kv = kv.bucket(unique("updates"));
    if !capabilities(&kv).await.compare_and_set {
        return;
    }
    let updates = (0..20).map(|_| kv.update("key", |n: Option<u32>| Some(n.unwrap_or(0) + 1)));
    let updated = future::join_all(updates).await.into_iter();
    let mut updated: Vec<u32> = updated.filter_map(|it| ok("update", it)).collect();
    updated.sort_unstable();
    assert_eq!(updated, Vec::from_iter(1..=20), "each update adds to another");
    same("the sum stays", kv.get("key").await, &Some(20));
}

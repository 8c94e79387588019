//! Writes that take place only while something holds.

use super::*;

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

/// The end of a value has a revision too, and a condition with it meets who was in between.
pub async fn traces(kv: &Kv) {
    let raw = Raw::new(kv, "traces");
    if !capabilities(&raw.kv).await.compare_and_set {
        return;
    }
    let nothing = ok("get from no bucket", raw.get("key").await);
    assert_eq!(nothing, Found::NEVER, "a key that never was, in no bucket");
    ok("set another", raw.write("other", put("x"), Condition::Always).await);
    assert_eq!(ok("get", raw.get("key").await), Found::NEVER, "a key that never was");
    let first = raw.write("key", put("a"), Condition::Revision(0)).await;
    let first = ok("write what never was", first);
    let again = raw.write("key", put("b"), Condition::Revision(0)).await;
    refused("a key that is there is no new one", ErrorKind::Conflict, again);

    for end in [Change::Delete, Change::Purge] {
        let revision = ok("get", raw.get("key").await).revision();
        refused(
            "take away under another revision",
            ErrorKind::Conflict,
            raw.write("key", end.clone(), Condition::Revision(revision + 1)).await,
        );
        ok("take away", raw.write("key", end, Condition::Revision(revision)).await);
        let trace = ok("get", raw.get("key").await);
        assert_eq!(trace.clone().entry(), None, "it is gone");
        refused(
            "the revision of the value",
            ErrorKind::Conflict,
            raw.write("key", put("c"), Condition::Revision(revision)).await,
        );
        let trace = Condition::Revision(trace.revision());
        let second = ok("the revision of its end", raw.write("key", put("d"), trace).await);
        assert!(second > first, "revision {second} follows {first}");
        // Set and deleted in between: it looks as before, but is not.
        ok("delete", raw.write("key", Change::Delete, Condition::Always).await);
        let stale = raw.write("key", put("e"), trace).await;
        refused("an end of long ago", ErrorKind::Conflict, stale);
        let last = Condition::Revision(ok("get", raw.get("key").await).revision());
        ok("the last end", raw.write("key", put("f"), last).await);
    }
}

/// A fenced write takes place only while its lock is held under the same revision.
pub async fn fences(kv: &Kv) {
    let raw = Raw::new(kv, "fences");
    let held = |lock, revision| Condition::Held { lock: Key::new("", lock), revision };
    if !capabilities(&raw.kv).await.fencing {
        let written = raw.write("key", put("x"), held("lock", 1)).await;
        refused("a fenced write", ErrorKind::Unsupported, written);
        return;
    }
    let conflict = |step, result| refused(step, ErrorKind::Conflict, result);
    conflict("a lock in no bucket", raw.write("key", put("x"), held("lock", 1)).await);
    let first = ok("lock", raw.write("lock", put("me"), Condition::Always).await);
    conflict("a lock that is not", raw.write("key", put("x"), held("no lock", first)).await);
    conflict("another's revision", raw.write("key", put("x"), held("lock", first + 1)).await);
    same("nothing was stored", raw.kv.exists("key").await, &false);
    ok("a fenced write", raw.write("key", put("1"), held("lock", first)).await);
    ok("another", raw.write("key", put("2"), held("lock", first)).await);
    same("it is stored", raw.kv.get_raw("key").await, &Some(Bytes::from("2")));

    let renewed = raw.write("lock", put("me"), Condition::Revision(first)).await;
    let renewed = ok("renew the lock", renewed);
    conflict("the revision before", raw.write("key", put("3"), held("lock", first)).await);
    conflict("a delete under it", raw.write("key", Change::Delete, held("lock", first)).await);
    conflict("a purge under it", raw.write("key", Change::Purge, held("lock", first)).await);
    ok("the new one", raw.write("key", put("4"), held("lock", renewed)).await);
    ok("a fenced delete", raw.write("key", Change::Delete, held("lock", renewed)).await);
    same("it is deleted", raw.kv.exists("key").await, &false);
    ok("set it again", raw.write("key", put("5"), held("lock", renewed)).await);

    ok("unlock", raw.write("lock", Change::Delete, Condition::Revision(renewed)).await);
    conflict("a lock that was", raw.write("key", put("6"), held("lock", renewed)).await);
    let trace = ok("get the lock", raw.get("lock").await).revision();
    conflict("the end of a lock", raw.write("key", put("7"), held("lock", trace)).await);
    same("the value stays", raw.kv.get_raw("key").await, &Some(Bytes::from("5")));
}

/// Create stores where there is nothing, and says what is there where there is something.
pub async fn create(kv: &Kv) {
    let kv = kv.bucket(unique("create"));
    if !capabilities(&kv).await.compare_and_set {
        refused("create", ErrorKind::Unsupported, kv.create("key", &1).await);
        refused("set if absent", ErrorKind::Unsupported, kv.set("key", &1).if_absent().await);
        return;
    }
    let there = |step, result| refused(step, ErrorKind::AlreadyExists, result);
    let mut last = ok("create in no bucket", kv.create("key", &0).await);
    for round in 1..3 {
        there("create again", kv.create("key", &9).await);
        there("set if absent", kv.set("key", &9).if_absent().await);
        there("set bytes if absent", kv.set_raw("key", "9").if_absent().await);
        same("the value stays", kv.get("key").await, &Some(round - 1));
        if round == 1 {
            ok("delete", kv.delete("key").await);
        } else {
            ok("purge", kv.purge("key").await);
        }
        let created = ok("create what was there", kv.set("key", &round).if_absent().await);
        assert!(created > last, "revision {created} follows {last}");
        last = created;
        same("get it", kv.get("key").await, &Some(round));
    }
    let creates = (0..20).map(|n| kv.create("one", &n));
    let created = future::join_all(creates).await;
    let winners = created.iter().filter(|created| created.is_ok()).count();
    assert_eq!(winners, 1, "of twenty creates at once one stores");
    for lost in created.into_iter().filter(Result::is_err) {
        there("create at once", lost);
    }
}

/// A write under a revision, by handles.
pub async fn if_revision(kv: &Kv) {
    let kv = kv.bucket(unique("if_revision"));
    if !capabilities(&kv).await.compare_and_set {
        let set = kv.set("key", &1).if_revision(1).await;
        refused("set if revision", ErrorKind::Unsupported, set);
        let delete = kv.delete_if_revision("key", 1).await;
        refused("delete if revision", ErrorKind::Unsupported, delete);
        return;
    }
    let conflict = |step, result| refused(step, ErrorKind::Conflict, result);
    conflict("a revision in no bucket", kv.set("key", &1).if_revision(7).await);
    let first = ok("set", kv.set("key", &1).await);
    conflict("one that is not", kv.set("key", &2).if_revision(first + 1).await);
    let second = ok("the right one", kv.set("key", &2).if_revision(first).await);
    conflict("one that was", kv.set_raw("key", "3").if_revision(first).await);
    same("the value is the second", kv.get("key").await, &Some(2));
    let entry = ok("entry", kv.entry::<u32>("key").await).map(|entry| entry.revision);
    assert_eq!(entry, Some(second), "the entry has the revision that the write gave");

    conflict("delete one that was", kv.delete_if_revision("key", first).await.map(|()| 0));
    same("it stays", kv.exists("key").await, &true);
    ok("delete the right one", kv.delete_if_revision("key", second).await);
    same("it is gone", kv.exists("key").await, &false);
    conflict("a deleted one", kv.set("key", &3).if_revision(second).await);
    conflict("a deleted one's delete", kv.delete_if_revision("key", second).await.map(|()| 0));
}

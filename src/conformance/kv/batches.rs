//! Several keys in one call.

use super::*;

/// Each key of a batch has its own result, in its order.
pub async fn batches(kv: &Kv) {
    let raw = Raw::new(kv, "batches");
    let get = async |keys: &[Key<'_>]| -> Vec<Result<Option<Bytes>>> {
        let found = raw.driver.get_many(&raw.bucket, keys, Consistency::Latest, soon()).await;
        let value = |found: Found| found.entry().map(|entry| entry.value.bytes);
        found.into_iter().map(|found| found.map(value)).collect()
    };
    for found in get(&[Key::new("", "a"), Key::new("app", "b")]).await {
        same("many from no bucket", found, &None);
    }
    let names: Vec<String> = (0..300).map(|n| format!("key:{n}")).collect();
    let writes = names.iter().map(|name| raw.kv.set_raw(name, name.clone()));
    all_done("set", writes.collect()).await;
    ok("set under a prefix", raw.kv.clone().with_prefix("app").set_raw("key:0", "app").await);
    ok("delete", raw.kv.delete("key:7").await);
    ok("set no bytes", raw.kv.set_raw("key:8", "").await);

    let mut keys: Vec<Key<'_>> = names.iter().map(|name| Key::new("", name)).collect();
    let long = "k".repeat(MAX_KEY_LEN + 1);
    let others = [Key::new("app", "key:0"), Key::new("", "never"), Key::new("", "key:0")];
    keys.extend(others);
    keys.push(Key::new("", &long));
    let mut found = get(&keys).await.into_iter();
    assert_eq!(found.len(), keys.len(), "each key has a result");
    for (n, name) in names.iter().enumerate() {
        let expected = match n {
            7 => None,
            8 => Some(Bytes::new()),
            _ => Some(Bytes::from(name.clone())),
        };
        same(name, found.next().unwrap_or(Ok(None)), &expected);
    }
    let mut next = || found.next().unwrap_or(Ok(None));
    same("one of a prefix", next(), &Some(Bytes::from("app")));
    same("one that never was", next(), &None);
    same("one asked for twice", next(), &Some(Bytes::from("key:0")));
    refused("one that cannot be", ErrorKind::TooLarge, next());
    assert!(get(&[]).await.is_empty(), "no keys have no results");
}

/// Several keys read, stored and deleted by handles.
pub async fn many(kv: &Kv) {
    let kv = kv.bucket(unique("many")).with_prefix("app");
    let found = ok("get many from no bucket", kv.get_many::<u32>(["a", "b"]).await);
    same("from no bucket", found.all(), &vec![None, None]);
    let long = "k".repeat(MAX_KEY_LEN + 1);
    let values = [("a:1", &1), ("b", &2), (&*long, &3), ("a:1", &4), ("", &5)];
    let set = ok("set many", kv.set_many(values).await);
    let failed: Vec<_> = set.failures().map(|(key, error)| (key, error.kind())).collect();
    let expected = [(&*long, ErrorKind::TooLarge), ("", ErrorKind::InvalidInput)];
    assert_eq!(failed, expected, "those that cannot be fail, and no others");
    let found = ok("get many", kv.get_many(["b", "never", "a:1", "b"]).await);
    same("in their order", found.all(), &vec![Some(2), None, Some(4), Some(2)]);
    let entry = ok("entry", kv.entry::<u32>("b").await).map(|entry| entry.revision);
    let revision = set.into_iter().find(|(key, _)| key == "b").and_then(|(_, set)| set.ok());
    assert_eq!(entry, revision, "each has its revision");

    ok("set a text", kv.set("text", "x").await);
    let found = ok("get many of two types", kv.get_many::<u32>(["a:1", "text"]).await);
    let results: Vec<_> = found.into_iter().map(|(_, found)| found).collect();
    let [Ok(Some(4)), Err(error)] = &*results else { panic!("get many: found {results:?}") };
    assert_eq!(error.kind(), ErrorKind::Decode, "a text is no number");
    let raw = ok("get many bytes", kv.get_many_raw(["text", "never"]).await).all();
    same("bytes", raw, &vec![Some(Bytes::from("\"x\"")), None]);

    if capabilities(&kv).await.ttl {
        let second = Duration::from_secs(1);
        let set = kv.set_many([("short", &1), ("b", &3)]).ttl(second);
        ok("set many for a second", ok("set many", set.await).all());
        let deadline = Instant::now() + second * 2;
        while ok("exists", kv.exists("short").await) || ok("exists", kv.exists("b").await) {
            assert!(Instant::now() < deadline, "values of a batch outlived their lifetime");
            sleep(second / 20).await;
        }
        ok("set again", kv.set("b", &2).await);
    }
    let deleted = ok("delete many", kv.delete_many(["a:1", "never", "a:1"]).await);
    ok("each of them", deleted.all());
    let found = ok("get many", kv.get_many::<u32>(["a:1", "b"]).await);
    same("what stays", found.all(), &vec![None, Some(2)]);

    let names: Vec<String> = (0..600).map(|n| format!("key:{n}")).collect();
    let set = kv.set_many(names.iter().map(|name| (name, name))).await;
    let revisions = ok("each of 600", ok("set 600", set).all());
    assert_eq!(BTreeSet::from_iter(revisions).len(), 600, "each has a revision of its own");
    let found = ok("get 600", kv.get_many::<String>(&names).await).all();
    let found = ok("each of 600", found).into_iter().flatten();
    assert!(found.eq(names.iter().cloned()), "each comes back in its place");
}

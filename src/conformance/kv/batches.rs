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

//! What is there, and what is not.

use super::*;

/// What is not there is a miss, and asking for it makes nothing.
pub async fn missing(objects: &Objects) {
    let raw = Raw::new(objects, "missing");
    for step in ["without a bucket", "in a bucket"] {
        same(step, raw.objects.get_bytes("none").await, &None);
        same(step, raw.objects.get::<u32>("none").await, &None);
        same(step, raw.objects.info("none").await, &None);
        same(step, raw.objects.exists("none").await, &false);
        same(step, raw.objects.delete("none").await, &false);
        same(step, raw.names().await, &Vec::new());
        assert!(ok(step, raw.objects.reader("none").await).is_none(), "{step}: there is a reader");
        let writer = tokio::io::sink();
        same(step, raw.objects.get_to("none", writer).await, &None);
        if capabilities(&raw.objects).await.metadata {
            same(step, raw.objects.rename("none", "other").await, &None);
        }
        same(step, raw.objects.purge_orphans(Duration::ZERO).await, &0);
        if step == "without a bucket" {
            same("nothing was made", raw.objects.bucket_status().await, &None);
            ok("make it", raw.objects.create_bucket(raw.bucket.as_str()).await);
        }
    }
}

/// A listing tells each object once, and only what is there.
pub async fn listing(objects: &Objects) {
    let raw = Raw::new(objects, "listing");
    let name = |n: u32| format!("dir/{n:04}");
    let mut expected: Vec<String> = (0..300).map(name).collect();
    let mut puts = stream::iter(0..300).map(|n| {
        let raw = raw.clone();
        async move { raw.put(&name(n), &pattern(n as usize % 3, n)).await }
    });
    let mut puts = puts.by_ref().buffer_unordered(32);
    while let Some(put) = puts.next().await {
        ok("put", put);
    }
    drop(puts);
    same("list all", raw.names().await, &expected);
    for n in [0, 7, 299] {
        same("delete", raw.delete(&name(n)).await, &true);
        expected.retain(|other| *other != name(n));
    }
    same("list the rest", raw.names().await, &expected);
    for info in ok("list", raw.list().await) {
        let found = raw.info(&info.name).await;
        same("what is listed is what info tells", found, &Some(info));
    }
    let listed = ok("list by a handle", raw.objects.list().await);
    let listed: Vec<ObjectInfo> = ok("list by a handle", listed.try_collect().await);
    assert_eq!(listed.len(), expected.len(), "a handle lists the same");
}

/// A delete takes the object out with its bytes; it may be put again.
pub async fn delete(objects: &Objects) {
    let raw = Raw::new(objects, "delete");
    ok("put another", raw.put("other", &pattern(10, 0)).await);
    let before = raw.size().await;
    let bytes = pattern(50 * CHUNK, 1);
    for round in 0..3 {
        ok("put", raw.put("one", &bytes).await);
        same_bytes("get", raw.get("one").await, &bytes);
        same("delete", raw.objects.delete("one").await, &true);
        same("get what was deleted", raw.get("one").await, &None);
        same("info of what was deleted", raw.objects.info("one").await, &None);
        same("list without it", raw.names().await, &vec!["other".to_owned()]);
        same(&format!("delete again, round {round}"), raw.objects.delete("one").await, &false);
    }
    // The trace of a delete may stay.
    raw.shrinks_to("its bytes are taken out", before + 4 * CHUNK as u64).await;
    same_bytes("the other stays", raw.get("other").await, &pattern(10, 0));
}

//! What is too much, and what cannot be.

use super::*;
use crate::objects::MAX_NAME_LEN;

/// A full bucket refuses an object without a trace of it, and can be emptied.
pub async fn full(objects: &Objects) {
    let most = 100 * CHUNK as u64;
    let config = BucketConfig::new(unique("full")).max_bytes(most);
    let raw = Raw::of(objects, config.name().to_owned());
    if supported("a bucket with a limit", objects.create_bucket(config).await).is_none() {
        return;
    }
    let bytes = pattern(60 * CHUNK, 1);
    ok("put what fits", raw.put("one", &bytes).await);
    let before = raw.size().await;
    for name in ["one", "two"] {
        let small = raw.objects.clone().with_max_chunk_size(CHUNK);
        let put = small.put_bytes(name, pattern(60 * CHUNK, 2)).await;
        refused("more than there is room for", ErrorKind::TooLarge, put);
        same("only what is complete is listed", raw.names().await, &vec!["one".to_owned()]);
        same_bytes("what was there stays", raw.get("one").await, &bytes);
    }
    raw.shrinks_to("the bytes of what did not fit are taken out", before).await;
    ok("put what still fits", raw.put("two", &pattern(10 * CHUNK, 3)).await);
    let fill = async {
        for size in [8 * CHUNK, 4] {
            for n in 0.. {
                let name = format!("{size} bytes, {n}");
                if raw.put(&name, &pattern(size, n)).await.is_err() {
                    break;
                }
            }
        }
    };
    assert!(timeout_at(soon(), fill).await.is_ok(), "the bucket does not become full");
    for name in ok("list", raw.names().await) {
        same("delete from a full bucket", raw.delete(&name).await, &true);
        same("it is gone", raw.info(&name).await, &None);
    }
    raw.shrinks_to("there is room again", most / 4).await;
    ok("put again", raw.put("one", &bytes).await);
    same_bytes("get it", raw.get("one").await, &bytes);
}

/// What no store takes is refused before anything is made.
pub async fn refusals(objects: &Objects) {
    let raw = Raw::new(objects, "refusals");
    let long = "x".repeat(MAX_NAME_LEN + 1);
    for name in ["", &*long] {
        let invalid = ErrorKind::InvalidInput;
        refused("put", invalid, raw.objects.put_bytes(name, "x").await);
        refused("get", invalid, raw.objects.get_bytes(name).await);
        refused("info", invalid, raw.objects.info(name).await);
        refused("exists", invalid, raw.objects.exists(name).await);
        refused("delete", invalid, raw.objects.delete(name).await);
        refused("rename", invalid, raw.objects.rename(name, "x").await);
    }
    for bucket in ["", "a.b", "a b", "ü", "*"] {
        let wrong = objects.bucket(bucket);
        refused("put", ErrorKind::InvalidInput, wrong.put_bytes("x", "x").await);
        refused("info", ErrorKind::InvalidInput, wrong.info("x").await);
        refused("list", ErrorKind::InvalidInput, wrong.list().await);
        refused("watch", ErrorKind::InvalidInput, wrong.watch().await);
        refused("make", ErrorKind::InvalidInput, wrong.create_bucket(bucket).await);
    }
    let none = raw.objects.put_bytes("x", "x").max_chunk_size(0).await;
    refused("no bytes in a chunk", ErrorKind::InvalidInput, none);
    let (from, to) = (9, 3);
    let backwards = raw.objects.get_bytes("x").range(from..to).await;
    refused("a range that ends before it begins", ErrorKind::InvalidInput, backwards);
    same("nothing was made", raw.objects.bucket_status().await, &None);
}

/// No chunk is larger than the store takes, whatever was asked for.
pub async fn limits(objects: &Objects) {
    let raw = Raw::new(objects, "limits");
    let bytes = pattern(5 * 1024 * 1024, 1);
    let put = raw.objects.put_bytes("large", bytes.clone()).max_chunk_size(64 * 1024 * 1024);
    let put = ok("put with chunks as large as may be", put.await);
    assert_eq!(put.size, bytes.len() as u64, "all of it is there");
    same_bytes("get it", raw.objects.get_bytes("large").await, &bytes);
    let mut draft = Draft::new("piece");
    draft.max_chunk_size = Some(CHUNK);
    let upload = ok("begin", raw.begin(draft).await);
    let most = upload.chunk_size();
    assert!((1..=CHUNK).contains(&most), "chunks are as small as asked: {most}");
    drop(upload);
    same("nothing is there", raw.info("piece").await, &None);
}

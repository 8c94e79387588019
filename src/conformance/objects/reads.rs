//! Downloads under way while their object changes.

use super::*;

/// More than a driver should read ahead for a reader that takes nothing.
const LARGE: usize = 8 * 1024 * 1024;

/// The rest of what one began to read: all of it as it was, or an error that says why not.
async fn rest(step: &str, mut bytes: BoxStream<'static, Result<Bytes>>, read: usize, all: &Bytes) {
    let mut read = read;
    loop {
        match timeout_at(soon(), bytes.next()).await {
            Err(_) => panic!("{step}: the download stands still"),
            Ok(None) => {
                assert_eq!(read, all.len(), "{step}: it ended without an error");
                return;
            }
            Ok(Some(Err(error))) => {
                assert!(error.is_conflict(), "{step}: expected a conflict: {error:?}");
                assert!(bytes.next().await.is_none(), "{step}: an error ends it");
                return;
            }
            Ok(Some(Ok(chunk))) => {
                let part = all.get(read..read + chunk.len());
                assert!(part == Some(&chunk[..]), "{step}: other bytes follow those at {read}");
                read += chunk.len();
            }
        }
    }
}

async fn begin(raw: &Raw, name: &str) -> (BoxStream<'static, Result<Bytes>>, usize) {
    let found = ok("open", raw.open(name, 0..u64::MAX).await);
    let Some((_, mut bytes)) = found else { panic!("there is no object {name}") };
    match timeout_at(soon(), bytes.next()).await {
        Ok(Some(first)) => {
            let read = ok("read the first chunk", first).len();
            (bytes, read)
        }
        _ => panic!("there is no first chunk"),
    }
}

async fn put(raw: &Raw, name: &str, bytes: &Bytes) {
    ok("put", raw.put_as(Draft::new(name), bytes).await);
}

/// Whoever reads an object that is replaced gets all of the old bytes or an error, never a mixture.
pub async fn replaced_while_read(objects: &Objects) {
    let raw = Raw::new(objects, "replaced");
    let (old, new) = (pattern(LARGE, 1), pattern(LARGE / 8, 2));
    put(&raw, "one", &old).await;
    let (bytes, read) = begin(&raw, "one").await;
    put(&raw, "one", &new).await;
    rest("read what was replaced", bytes, read, &old).await;
    same_bytes("read again", raw.get("one").await, &new);
}

/// The same for one that is deleted, or whose bucket is.
pub async fn deleted_while_read(objects: &Objects) {
    let raw = Raw::new(objects, "deleted_read");
    let old = pattern(LARGE, 3);
    put(&raw, "one", &old).await;
    let (bytes, read) = begin(&raw, "one").await;
    same("delete it", raw.delete("one").await, &true);
    rest("read what was deleted", bytes, read, &old).await;
    same("it is gone", raw.get("one").await, &None);

    put(&raw, "one", &old).await;
    let (bytes, read) = begin(&raw, "one").await;
    same("delete its bucket", objects.delete_bucket(&raw.bucket).await, &true);
    rest("read in a bucket that was deleted", bytes, read, &old).await;
}

/// Many readers at a time, slow ones among them, and some that give up.
pub async fn many_reads(objects: &Objects) {
    let raw = Raw::new(objects, "many_reads");
    let bytes = pattern(1024 * 1024, 4);
    put(&raw, "one", &bytes).await;
    let given_up = begin(&raw, "one").await;
    let (slow, read) = begin(&raw, "one").await;
    let reads = (0..10).map(|_| raw.get("one"));
    for found in future::join_all(reads).await {
        same_bytes("read beside others", found, &bytes);
    }
    drop(given_up);
    rest("read slowly", slow, read, &bytes).await;
    // Renamed or described anew, it keeps its bytes.
    let (open, read) = begin(&raw, "one").await;
    if capabilities(&raw.objects).await.metadata {
        let change = Change { description: Some("told anew".to_owned()), ..Change::default() };
        ok("change what is told", raw.change("one", change).await);
    }
    rest("read on", open, read, &bytes).await;
}

//! Uploads: all of an object is there, or nothing of it.

use super::bytes::{Dripping, Then};
use super::*;

/// A put takes the place of what was there, and leaves nothing of it behind.
pub async fn replace(objects: &Objects) {
    let raw = Raw::new(objects, "replace");
    let size = 10 * CHUNK;
    let mut last = ok("put", raw.put("one", &pattern(size, 0)).await);
    for seed in 1..20 {
        let (bytes, earlier) = (pattern(size, seed), last);
        last = ok("put again", raw.put("one", &bytes).await);
        assert!(last.revision > earlier.revision, "revisions grow");
        assert_ne!(last.id, earlier.id, "other bytes have another id");
        same_bytes("get what replaced", raw.get("one").await, &bytes);
        let info = ok("info", raw.info("one").await);
        assert_eq!(info.as_ref(), Some(&last), "info tells of what replaced");
    }
    same("list it once", raw.names().await, &vec!["one".to_owned()]);
    raw.shrinks_to("the bytes of what was replaced are taken out", 4 * size as u64).await;
    // Less in place of more, and nothing at all.
    for bytes in [pattern(3, 1), Bytes::new(), pattern(2 * CHUNK, 2)] {
        ok("put less", raw.put("one", &bytes).await);
        same_bytes("get less", raw.get("one").await, &bytes);
    }
}

/// Of puts of one name at the same time one stays, as a whole, and nothing of the others.
pub async fn concurrent_puts(objects: &Objects) {
    let raw = Raw::new(objects, "concurrent");
    let size = 40 * CHUNK;
    let all: Vec<Bytes> = (0..8).map(|seed| pattern(size + seed as usize, seed)).collect();
    let whole = |found: &Bytes| all.iter().any(|bytes| bytes == found);
    for round in 0..3 {
        let puts = all.iter().map(|bytes| raw.put("one", bytes));
        let puts = future::join_all(puts);
        let reads = async {
            for _ in 0..20 {
                match raw.get("one").await {
                    Ok(None) => assert_eq!(round, 0, "an object is there from the first put on"),
                    Ok(Some(found)) => assert!(whole(&found), "a read sees one whole object"),
                    Err(error) => assert!(error.is_conflict(), "a read meanwhile: {error}"),
                }
            }
        };
        let (puts, ()) = future::join(puts, reads).await;
        let revisions = puts.into_iter().map(|put| ok("put beside others", put).revision);
        let last = revisions.max();
        let info = ok("info", raw.info("one").await);
        assert_eq!(info.map(|info| info.revision), last, "the last one stays");
        let found = ok("get", raw.get("one").await);
        assert!(found.is_some_and(|found| whole(&found)), "it is one of them, as a whole");
        same("list it once", raw.names().await, &vec!["one".to_owned()]);
    }
    raw.shrinks_to("the bytes of the others are taken out", 2 * size as u64).await;
}

/// A put whose reader fails is an error, shows nothing and leaves what was there.
pub async fn failed_put(objects: &Objects) {
    let raw = Raw::new(objects, "failed");
    let small = raw.objects.clone().with_max_chunk_size(CHUNK);
    let kept = pattern(2 * CHUNK, 1);
    let earlier = ok("put", small.put_bytes("kept", kept.clone()).await);
    let before = raw.size().await;
    for name in ["kept", "new"] {
        let reader = Dripping { bytes: pattern(30 * CHUNK + 5, 2), then: Then::Fail };
        let put = small.put_reader(name, reader).await;
        let Err(error) = put else { panic!("put {name}: a reader that fails went unnoticed") };
        let told = format!("{error:?}");
        assert!(told.contains("the disk is broken"), "put {name}: the cause is told: {told}");
    }
    same("what was there is told as it was", raw.info("kept").await, &Some(timeless(earlier)));
    same_bytes("what was there stays", small.get_bytes("kept").await, &kept);
    same("nothing else is there", raw.names().await, &vec!["kept".to_owned()]);
    same("nothing of what failed", small.get_bytes("new").await, &None);
    raw.shrinks_to("the bytes of what failed are taken out", before).await;
}

/// A put that is dropped shows nothing and leaves what was there.
pub async fn dropped_put(objects: &Objects) {
    let raw = Raw::new(objects, "dropped");
    let small = raw.objects.clone().with_max_chunk_size(CHUNK);
    let kept = pattern(2 * CHUNK, 1);
    ok("put", small.put_bytes("kept", kept.clone()).await);
    let before = raw.size().await;
    for name in ["kept", "new"] {
        let upload = ok("give all", raw.give(name, &pattern(30 * CHUNK, 2)).await);
        same("only what is complete is listed", raw.names().await, &vec!["kept".to_owned()]);
        let expected = (name == "kept").then(|| kept.clone());
        same("what is not complete is not seen", raw.get(name).await, &expected);
        drop(upload);
        drop(ok("begin", raw.begin(Draft::new(name)).await));

        let bytes = pattern(30 * CHUNK, 3);
        let given = bytes.len() as u64;
        let (all_given, told) = tokio::sync::oneshot::channel();
        let mut all_given = Some(all_given);
        let put = small.put_reader(name, Dripping { bytes, then: Then::Wait });
        let put = put.progress(move |so_far, _| {
            if so_far == given
                && let Some(all_given) = all_given.take()
            {
                let _ = all_given.send(());
            }
        });
        tokio::select! {
            _ = put => panic!("put {name}: it ended before its reader"),
            told = timeout_at(soon(), told) => {
                assert!(matches!(told, Ok(Ok(()))), "put {name}: its chunks are taken");
            }
        }
        same("what was dropped is not seen", raw.get(name).await, &expected);
    }
    same("nothing else is there", raw.names().await, &vec!["kept".to_owned()]);
    raw.shrinks_to("the bytes of what was dropped are taken out", before).await;
}

/// A put that takes long ends above one of the same name that began later.
pub async fn late_put(objects: &Objects) {
    let raw = Raw::new(objects, "late");
    let (slow, fast) = (pattern(5 * CHUNK, 1), pattern(7 * CHUNK, 2));
    let mut late = ok("begin the slow one", raw.give("one", &slow).await);
    ok("put a fast one meanwhile", raw.put("one", &fast).await);
    same_bytes("get the fast one", raw.get("one").await, &fast);
    ok("end the slow one", end(&mut *late, &slow).await);
    drop(late);
    same_bytes("get the slow one", raw.get("one").await, &slow);

    let mut late = ok("begin another", raw.give("one", &fast).await);
    same("delete it meanwhile", raw.delete("one").await, &true);
    same("it is gone", raw.info("one").await, &None);
    ok("end the other", end(&mut *late, &fast).await);
    same_bytes("get the other", raw.get("one").await, &fast);
    drop(late);
    let left = fast.len() as u64 * 2;
    raw.shrinks_to("the bytes of the rest are taken out", left).await;
    same_bytes("an upload that is dropped at its end stays", raw.get("one").await, &fast);
}

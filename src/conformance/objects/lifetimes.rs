//! What ends by itself.

use super::*;

/// The lifetime of these buckets.
const TTL: Duration = Duration::from_secs(2);

/// An object ends with its bucket's lifetime, and not before.
pub async fn ttl(objects: &Objects) {
    let config = BucketConfig::new(unique("ttl")).ttl(TTL);
    let raw = Raw::of(objects, config.name().to_owned());
    ok("make the bucket", objects.create_bucket(config).await);
    let bytes = pattern(20 * CHUNK, 1);
    lives(&raw, &bytes).await;
    let begun = Instant::now();
    ok("put", raw.put("one", &bytes).await);
    in_time("it ends", || async {
        match raw.get("one").await {
            // Some of its bytes were gone, and not all: that is told.
            Err(error) if error.is_conflict() => false,
            found => ok("get what ends", found).is_none(),
        }
    })
    .await;
    assert!(begun.elapsed() >= TTL, "it ended too early");
    in_time("all ends", || async { ok("list", raw.names().await).is_empty() }).await;
    same("it is not there", raw.objects.exists("one").await, &false);
    raw.shrinks_to("its bytes are taken out", CHUNK as u64).await;
    ok("put again", raw.put("one", &bytes).await);

    let lasting = BucketConfig::new(&raw.bucket).ttl(Duration::ZERO);
    if supported("make it last", objects.create_bucket(lasting).await).is_some() {
        ok("put what lasts", raw.put("one", &bytes).await);
        sleep(TTL + Duration::from_millis(500)).await;
        same_bytes("get what lasts", raw.get("one").await, &bytes);
    }
}

/// An object is there through the first half of its lifetime.
async fn lives(raw: &Raw, bytes: &Bytes) {
    for _ in 0..20 {
        let begun = Instant::now();
        ok("put", raw.put("one", bytes).await);
        sleep(TTL / 2).await;
        let info = ok("info", raw.info("one").await);
        let found = raw.get("one").await;
        // A machine that took longer than that has nothing to tell.
        if begun.elapsed() < TTL {
            assert!(info.is_some(), "it ended too early");
            same_bytes("get in the first half", found, bytes);
            return;
        }
    }
}

/// A watch tells the end of a lifetime.
pub async fn ttl_in_watch(objects: &Objects) {
    if !capabilities(objects).await.watch {
        return;
    }
    let config = BucketConfig::new(unique("ttl_watch")).ttl(TTL);
    let raw = Raw::of(objects, config.name().to_owned());
    ok("make the bucket", objects.create_bucket(config).await);
    let mut feed = ok("watch", raw.watch().await);
    assert_eq!(feed.next("an empty bucket").await, Event::Current, "nothing is there");
    let put = ok("put", raw.put("one", &pattern(5, 1)).await);
    assert_eq!(feed.next("a put").await, Event::Put(put), "a put is told");
    let event = feed.next("the end of a lifetime").await;
    let is_end = matches!(&event, Event::Deleted { name, .. } if name == "one");
    assert!(is_end, "the end of a lifetime is told as {event:?}");
}

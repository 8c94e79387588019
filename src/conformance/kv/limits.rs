//! What cannot be is refused.

use super::*;

/// A size above which the largest value is not tried.
const LARGEST_TRIED: usize = 16 * 1024 * 1024;

/// What is too large is refused, and the largest that fits is taken.
pub async fn limits(kv: &Kv) {
    let kv = kv.bucket(unique("limits"));
    ok("set", kv.set("key", &1).await);
    for length in [MAX_KEY_LEN + 1, 10_000] {
        let key = "k".repeat(length);
        refused("set under a long key", ErrorKind::TooLarge, kv.set(&key, &1).await);
        refused("get of a long key", ErrorKind::TooLarge, kv.get::<u32>(&key).await);
        refused("delete of a long key", ErrorKind::TooLarge, kv.delete(&key).await);
    }
    let prefixed = kv.clone().with_prefix("p".repeat(MAX_KEY_LEN));
    refused("a key too long by its prefix", ErrorKind::TooLarge, prefixed.set("k", &1).await);

    let largest = capabilities(&kv).await.max_value_size;
    if largest <= LARGEST_TRIED {
        ok("set the largest value", kv.set_raw("big", vec![7; largest]).await);
        let read = ok("get the largest value", kv.get_raw("big").await);
        assert_eq!(read.map(|bytes| bytes.len()), Some(largest), "the largest value comes back");
        let larger = kv.set_raw("big", vec![8; largest + 1]).await;
        refused("set one byte more", ErrorKind::TooLarge, larger);
        let read = ok("get what was there before", kv.get_raw("big").await);
        assert!(read.is_some_and(|bytes| bytes[..] == vec![7; largest]), "it stays as it was");
    }
}

/// What can never work is refused as such.
pub async fn refusals(kv: &Kv) {
    let bucket = kv.bucket(unique("refusals"));
    refused("set an empty key", ErrorKind::InvalidInput, bucket.set("", &1).await);
    refused("get an empty key", ErrorKind::InvalidInput, bucket.get::<u32>("").await);
    refused("delete an empty key", ErrorKind::InvalidInput, bucket.delete("").await);
    let prefixed = bucket.clone().with_prefix("app");
    refused("an empty key under a prefix", ErrorKind::InvalidInput, prefixed.set("", &1).await);
    for name in ["", "a.b", "a b", "a*", "é", &"n".repeat(300)] {
        let step = format!("a bucket called {name:?}");
        refused(&step, ErrorKind::InvalidInput, kv.bucket(name).set("key", &1).await);
        refused(&step, ErrorKind::InvalidInput, kv.bucket(name).get_raw("key").await);
        let created = kv.create_bucket(BucketConfig::new(name)).await;
        refused(&step, ErrorKind::InvalidInput, created.map(|_| ()));
    }
    let history = BucketConfig::new(unique("history")).history(65);
    refused("history of 65", ErrorKind::InvalidInput, kv.create_bucket(history).await);
    let unnamed = BTreeMap::from([((1, 2), 3)]);
    refused("a value that JSON cannot hold", ErrorKind::Encode, bucket.set("key", &unnamed).await);
    same("nothing was stored", bucket.exists("key").await, &false);
}

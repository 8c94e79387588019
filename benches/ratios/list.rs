//! Listing beside the raw client's, of the same bucket.

use futures::{StreamExt, TryStreamExt, stream};

use super::{Sides, compare, wanted};

/// All keys of a bucket of 100,000: `keys()` of both sides, collected.
pub(super) async fn keys(sides: &Sides) {
    const N: usize = 100_000;
    const NAME: &str = "kv keys of 100,000";
    if !wanted(NAME) {
        return;
    }
    let bucket = sides.connector.kv().bucket("bench_keys");
    let sets = stream::iter(0..N).map(|n| bucket.set_raw(format!("key.{n}"), "value"));
    sets.buffer_unordered(256).try_for_each(|_| async { Ok(()) }).await.unwrap();
    let raw = sides.raw_js.get_key_value("bench_keys").await.unwrap();
    compare(
        NAME.to_owned(),
        || {
            let raw = raw.clone();
            async move {
                let keys: Vec<String> = raw.keys().await.unwrap().try_collect().await.unwrap();
                assert_eq!(keys.len(), N);
            }
        },
        || {
            let bucket = bucket.clone();
            async move {
                assert_eq!(bucket.keys().await.unwrap().len(), N);
            }
        },
    )
    .await;
}

//! Values that are loaded where there are none.

use super::*;

/// A value that is there is given; one that is not is loaded once and stored.
pub async fn loads(kv: &Kv) {
    let kv = kv.bucket(unique("loads"));
    let count = Arc::new(AtomicU64::new(0));
    let load = |value: u32| {
        let count = count.clone();
        move || async move {
            count.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(value)
        }
    };
    ok("set", kv.set("there", &1).await);
    same("what is there", kv.get_or_load("there", load(2)).await, &1);
    assert_eq!(count.load(Ordering::Relaxed), 0, "what is there is not loaded");
    if !capabilities(&kv).await.compare_and_set {
        return;
    }
    let loaded = future::join_all((0..20).map(|_| kv.get_or_load("key", load(7)))).await;
    for value in loaded {
        same("twenty at once", value, &7);
    }
    assert_eq!(count.load(Ordering::Relaxed), 1, "of twenty at once one loads");
    same("it is stored", kv.get("key").await, &Some(7));

    let broken = || async { Err::<u32, _>(std::io::Error::other("no source")) };
    refused("a loader that fails", ErrorKind::Other, kv.get_or_load("none", broken).await);
    same("nothing is stored", kv.exists("none").await, &false);
    let writer = kv.clone();
    let overtaken = move || async move {
        writer.set("late", &"new").await?;
        writer.delete("late").await?;
        Ok::<_, crate::Error>("old".to_owned())
    };
    let given = kv.get_or_load("late", overtaken).await;
    same("what was loaded before a delete", given, &"old".to_owned());
    if capabilities(&kv).await.ttl {
        // Elsewhere a delete may leave no trace that tells it.
        same("is not stored after it", kv.exists("late").await, &false);
    }
}

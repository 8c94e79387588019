//! Locks.

use super::*;

/// One holder at a time; who waits gets it next, and a guarded write needs the lock.
pub async fn locks(kv: &Kv) {
    let kv = kv.bucket(unique("locks"));
    let claims = capabilities(&kv).await;
    if !claims.ttl || !claims.compare_and_set {
        refused("lock", ErrorKind::Unsupported, kv.lock("it").await);
        return;
    }
    let first = ok("lock", kv.lock("it").await);
    assert!(first.is_held(), "it is held");
    refused("lock what is held", ErrorKind::Conflict, kv.lock("it").no_wait().await);
    let other = ok("lock another", kv.lock("other").no_wait().await);
    if claims.fencing {
        ok("a guarded write", first.set("key", &1).await);
        same("it is stored", kv.get("key").await, &Some(1));
        ok("a guarded delete", first.delete("key").await);
        same("it is deleted", kv.exists("key").await, &false);
    } else {
        refused("a guarded write", ErrorKind::Unsupported, first.set("key", &1).await);
    }
    let fence = first.fence();
    let (waited, released) = future::join(kv.lock("it").timeout(LIMIT), async {
        sleep(Duration::from_millis(50)).await;
        first.release().await
    })
    .await;
    ok("release", released);
    let second = ok("wait for it", waited);
    assert!(second.fence() > fence, "fence {} follows {fence}", second.fence());
    assert!(!first.is_held(), "the first holder has it no more");
    refused("a write of the first", ErrorKind::Conflict, first.set("key", &2).await);
    same("it is not stored", kv.exists("key").await, &false);
    ok("release the other", other.release().await);

    // Ten that add one each to what they read, under the lock.
    ok("release it", second.release().await);
    ok("set", kv.set("sum", &0).await);
    let adds = (0..10).map(|_| async {
        let guard = ok("lock", kv.lock("it").timeout(LIMIT).await);
        let sum: Option<u32> = ok("get", kv.get("sum").await);
        ok("set", kv.set("sum", &(sum.unwrap_or_default() + 1)).await);
        ok("release", guard.release().await);
    });
    future::join_all(adds).await;
    same("none is lost", kv.get("sum").await, &Some(10));
}

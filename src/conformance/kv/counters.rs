//! Counters.

use super::*;

/// Increments add up, each has its own sum, and what is no integer stays as it is.
pub async fn counters(kv: &Kv) {
    let kv = kv.bucket(unique("counters"));
    if !capabilities(&kv).await.compare_and_set {
        refused("increment", ErrorKind::Unsupported, kv.increment("n", 1).await);
        refused("decrement", ErrorKind::Unsupported, kv.decrement("n", 1).await);
        return;
    }
    same("increment nothing", kv.increment("n", 5).await, &5);
    same("decrement", kv.decrement("n", 7).await, &-2);
    same("add nothing", kv.increment("n", 0).await, &-2);
    same("get it", kv.get("n").await, &Some(-2));
    ok("set", kv.set("n", &40).await);
    same("increment what was set", kv.increment("n", 2).await, &42);
    ok("delete", kv.delete("n").await);
    same("increment what was deleted", kv.increment("n", 1).await, &1);

    ok("set a text", kv.set("text", "many").await);
    refused("increment a text", ErrorKind::Decode, kv.increment("text", 1).await);
    same("it stays", kv.get("text").await, &Some("many".to_owned()));
    ok("set the largest", kv.set("large", &i64::MAX).await);
    refused("increment the largest", ErrorKind::InvalidInput, kv.increment("large", 1).await);
    same("it stays", kv.get("large").await, &Some(i64::MAX));

    let sums = future::join_all((0..50).map(|_| kv.increment("sum", 2))).await;
    let mut sums: Vec<i64> = sums.into_iter().map(|sum| ok("increment", sum)).collect();
    sums.sort_unstable();
    assert_eq!(sums, Vec::from_iter((2..=100).step_by(2)), "each increment has its own sum");
    same("get the sum", kv.get("sum").await, &Some(100));
}

//! Buckets: made, changed, asked, deleted.

use super::*;

/// Buckets are apart from each other, and made at the first write.
pub async fn apart(kv: &Kv) {
    let (one, two) = (kv.bucket(unique("one")), kv.bucket(unique("two")));
    ok("set in one", one.set("key", &1).await);
    same("get from the other", two.get::<u32>("key").await, &None);
    ok("set in the other", two.set("key", &2).await);
    ok("delete in one", one.delete("key").await);
    same("get from the other", two.get("key").await, &Some(2));

    let name = unique("prefixed");
    let tenant = kv.clone().with_bucket_prefix("conformance_t_").bucket(&name);
    ok("set under a bucket prefix", tenant.set("key", &3).await);
    same("the bare name is another bucket", kv.bucket(&name).get::<u32>("key").await, &None);
    let full = kv.bucket(format!("conformance_t_{name}"));
    same("the full name is the same", full.get("key").await, &Some(3));
    let config = BucketConfig::new(unique("made")).description("made");
    let made = ok("create_bucket under a bucket prefix", tenant.create_bucket(config).await);
    ok("set in it", made.set("key", &4).await);
    same("get from it", made.get("key").await, &Some(4));
}

/// Buckets are bound, found or made, told of, listed and deleted.
pub async fn bucket_life(kv: &Kv) {
    let (name, prefix) = (unique("life"), unique("of"));
    let kv = kv.clone().with_bucket_prefix(&prefix);
    let bucket = kv.bucket(&name);
    refused("bind what is not", ErrorKind::NotFound, kv.bind_bucket(&name).await);
    same("the status of what is not", bucket.bucket_status().await, &None);
    same("delete what is not", kv.delete_bucket(&name).await, &false);
    same("list none", kv.buckets().await, &Vec::new());

    let config = BucketConfig::new(&name);
    let first = ok("get or create", kv.get_or_create_bucket(config.clone()).await);
    assert!(first.made && first.differences.is_empty(), "it is made as asked: {first:?}");
    let again = ok("get or create again", kv.get_or_create_bucket(config).await);
    assert!(!again.made && again.differences.is_empty(), "it is found as asked: {again:?}");
    ok("set in it", first.bucket.set("key", &1).await);
    let bound = ok("bind", kv.bind_bucket(&name).await);
    same("get from it", bound.get("key").await, &Some(1));
    ok("make another", kv.get_or_create_bucket(BucketConfig::new("another")).await);
    same("list both", kv.buckets().await, &vec!["another".to_owned(), name.clone()]);

    let status = ok("status", bucket.bucket_status().await);
    let Some(status) = status else { panic!("the bucket has no status") };
    assert_eq!(status.config.name(), format!("{prefix}{name}"), "it has its full name");
    assert!(status.messages >= 1 && status.bytes >= 1, "it holds something: {status:?}");
    let revision = ok("set another", bound.set("other", &1).await);
    let later = ok("status", bucket.bucket_status().await);
    let told = later.as_ref().map(|later| (later.revision, later.messages));
    assert_eq!(told, Some((revision, status.messages + 1)), "the figures are fresh");

    let unlike = BucketConfig::new(&name).ttl(Duration::from_secs(3600));
    let found = ok("ask for another lifetime", kv.get_or_create_bucket(unlike).await);
    let told: Vec<_> = found.differences.iter().map(|difference| difference.option).collect();
    assert_eq!((found.made, &*told), (false, &["ttl"][..]), "the difference is told");
    let found = ok("status", bucket.bucket_status().await).map(|status| status.config);
    assert_eq!(found, Some(status.config), "nothing was changed");

    same("delete", kv.delete_bucket(&name).await, &true);
    same("delete again", kv.delete_bucket(&name).await, &false);
    same("list the other", kv.buckets().await, &vec!["another".to_owned()]);
    same("what was in it is gone", bound.get::<u32>("key").await, &None);
    ok("set in it again", bound.set("key", &2).await);
    same("it is made anew", bound.get("key").await, &Some(2));
    same("with nothing else", bound.exists("other").await, &false);
    for round in 0..10 {
        ok("set what is to go", bound.set("old", &round).await);
        same("delete", kv.delete_bucket(&name).await, &true);
        ok("set in a new one at once", bound.set("new", &round).await);
        same("nothing old comes back", bound.keys().await, &vec!["new".to_owned()]);
    }
    for name in ["another", &name] {
        same("delete them all", kv.delete_bucket(name).await, &true);
    }
}

/// One bucket that twenty callers make at once.
pub async fn buckets(kv: &Kv) {
    let name = unique("at_once");
    let asked = (0..20).map(|_| kv.get_or_create_bucket(BucketConfig::new(&name)));
    let found = future::join_all(asked).await;
    let made = found.into_iter().filter(|it| it.as_ref().is_ok_and(|it| it.made)).count();
    assert_eq!(made, 1, "of twenty callers one makes it");
    let name = unique("by_writes");
    let bucket = kv.bucket(&name);
    let writes = (0..20).map(|n| bucket.set(format!("key:{n}"), &n));
    for write in future::join_all(writes).await {
        ok("set in a bucket that others make", write);
    }
    for n in 0..20 {
        same("get what was set", bucket.get(format!("key:{n}")).await, &Some(n));
    }
    same("delete it", kv.delete_bucket(&name).await, &true);
}

/// An option is as asked for, in a new bucket or in one that is there, or it is refused.
pub async fn bucket_options(kv: &Kv) {
    let capabilities = capabilities(kv).await;
    let made = async |what: &str, option: fn(BucketConfig) -> BucketConfig| {
        let config = option(BucketConfig::new(unique(what)));
        let made = supported(what, kv.create_bucket(config.clone()).await)?;
        ok("set in it", made.set("key", &"value").await);
        ok("the same again", kv.create_bucket(config.clone()).await);
        same("values stay", made.get("key").await, &Some("value".to_owned()));
        let found = ok("find it", kv.get_or_create_bucket(config.clone()).await);
        assert!(found.differences.is_empty(), "{what} is not as asked: {found:?}");
        Some((made, BucketConfig::new(config.name())))
    };
    assert!(made("plain", |config| config).await.is_some(), "a bucket without options is made");

    if let Some((_, config)) = made("storage", |config| config.storage(Storage::Memory)).await {
        let moved = kv.create_bucket(config.storage(Storage::File)).await;
        refused("change the storage", ErrorKind::InvalidInput, moved);
    }
    if let Some((bucket, config)) = made("size", |config| config.max_value_size(64)).await {
        let set = async |size| bucket.set_raw("big", vec![0; size]).await;
        refused("above the size", ErrorKind::TooLarge, set(65).await);
        let told = ok("capabilities", bucket.capabilities().await).max_value_size;
        assert!(told <= 64, "the largest value is told as {told}");
        let change = config.max_value_size(128).description("changed");
        if supported("change two options", kv.create_bucket(change).await).is_some() {
            same("values stay", bucket.get("key").await, &Some("value".to_owned()));
            ok("the new size holds", set(128).await);
            refused("above the new size", ErrorKind::TooLarge, set(129).await);
        }
    }
    if let Some((bucket, _)) = made("full", |config| config.max_bytes(1024)).await {
        ok("set in it", bucket.set_raw("a", vec![0; 512]).await);
        refused("more than it holds", ErrorKind::TooLarge, bucket.set_raw("b", vec![0; 600]).await);
        same("what was there stays", bucket.exists("a").await, &true);
    }
    let compressed = made("compressed", |config| config.compression(true)).await;
    assert_eq!(compressed.is_some(), capabilities.compression, "compression is as claimed");
    if let Some((bucket, _)) = compressed {
        ok("set in it", bucket.set("key", &"x".repeat(1000)).await);
        same("get from it", bucket.get("key").await, &Some("x".repeat(1000)));
    }
    let history = made("history", |config| config.history(2)).await;
    assert_eq!(history.is_some(), capabilities.history, "history is as claimed");
    let ttl = made("keys_ttl", |config| config.per_key_ttl(true)).await;
    assert_eq!(ttl.is_some(), capabilities.ttl, "lifetimes of keys are as claimed");
    let together = made("together", |config| config.transactions(true)).await;
    assert_eq!(together.is_some(), capabilities.transactions, "transactions are as claimed");

    if capabilities.ttl {
        let config = BucketConfig::new(unique("no_keys_ttl")).per_key_ttl(false);
        if let Some(bucket) = supported("without lifetimes", kv.create_bucket(config).await) {
            let claimed = ok("capabilities", bucket.capabilities().await).ttl;
            assert!(!claimed, "a bucket without lifetimes claims none");
            let set = bucket.set("key", &1).ttl(Duration::from_secs(9)).await;
            refused("set with a lifetime there", ErrorKind::Unsupported, set);
        }
    }
    if capabilities.transactions {
        let config = BucketConfig::new(unique("not_together")).transactions(false);
        if let Some(bucket) = supported("without transactions", kv.create_bucket(config).await) {
            let claimed = ok("capabilities", bucket.capabilities().await).transactions;
            assert!(!claimed, "a bucket without transactions claims none");
        }
    }
}

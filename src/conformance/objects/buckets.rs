//! Buckets: made, changed, asked, sealed, deleted.

use super::*;

/// Buckets are apart from each other, and made at the first put.
pub async fn apart(objects: &Objects) {
    let (one, two) = (objects.bucket(unique("one")), objects.bucket(unique("two")));
    ok("put in one", one.put("name", &1).await);
    same("get from the other", two.get::<u32>("name").await, &None);
    ok("put in the other", two.put("name", &2).await);
    same("delete in one", one.delete("name").await, &true);
    same("get from the other", two.get("name").await, &Some(2));

    let name = unique("prefixed");
    let tenant = objects.clone().with_bucket_prefix("conformance_t_").bucket(&name);
    let put = ok("put under a bucket prefix", tenant.put("name", &3).await);
    assert_eq!(put.bucket, format!("conformance_t_{name}"), "the full name is told");
    same("the bare name is another", objects.bucket(&name).get::<u32>("name").await, &None);
    let full = objects.bucket(format!("conformance_t_{name}"));
    same("the full name is the same", full.get("name").await, &Some(3));
    let config = BucketConfig::new(unique("made")).description("made");
    let made = ok("create_bucket under a bucket prefix", tenant.create_bucket(config).await);
    ok("put in it", made.put("name", &4).await);
    same("get from it", made.get("name").await, &Some(4));
}

/// Buckets are bound, found or made, told of, listed and deleted.
pub async fn bucket_life(objects: &Objects) {
    let (name, prefix) = (unique("life"), unique("of"));
    let objects = objects.clone().with_bucket_prefix(&prefix);
    let bucket = objects.bucket(&name);
    refused("bind what is not", ErrorKind::NotFound, objects.bind_bucket(&name).await);
    same("the status of what is not", bucket.bucket_status().await, &None);
    same("delete what is not", objects.delete_bucket(&name).await, &false);
    same("list none", objects.buckets().await, &Vec::new());

    let first = ok("get or create", objects.get_or_create_bucket(&*name).await);
    assert!(first.made && first.differences.is_empty(), "it is made as asked: {first:?}");
    let again = ok("get or create again", objects.get_or_create_bucket(&*name).await);
    assert!(!again.made && again.differences.is_empty(), "it is found as asked: {again:?}");
    ok("put in it", first.bucket.put("name", &1).await);
    let bound = ok("bind", objects.bind_bucket(&name).await);
    same("get from it", bound.get("name").await, &Some(1));
    ok("make another", objects.get_or_create_bucket("another").await);
    same("list both", objects.buckets().await, &vec!["another".to_owned(), name.clone()]);

    let status = ok("status", bucket.bucket_status().await);
    let Some(status) = status else { panic!("the bucket has no status") };
    assert_eq!(status.config.name(), format!("{prefix}{name}"), "it has its full name");
    assert!(status.bytes >= 1 && !status.sealed, "it holds something: {status:?}");
    let put = ok("put another", bound.put_bytes("other", pattern(9 * CHUNK, 1)).await);
    let later = ok("status", bucket.bucket_status().await);
    let told = later.map(|later| (later.revision, later.bytes > status.bytes + 9 * CHUNK as u64));
    assert_eq!(told, Some((put.revision, true)), "the figures are fresh");

    let unlike = BucketConfig::new(&name).ttl(Duration::from_secs(3600)).description("other");
    let found = ok("ask for another lifetime", objects.get_or_create_bucket(unlike).await);
    let told: Vec<_> = found.differences.iter().map(|difference| difference.option).collect();
    assert_eq!((found.made, &*told), (false, &["ttl", "description"][..]), "differences are told");
    let found = ok("status", bucket.bucket_status().await).map(|status| status.config);
    assert_eq!(found, Some(status.config), "nothing was changed");

    same("delete", objects.delete_bucket(&name).await, &true);
    same("delete again", objects.delete_bucket(&name).await, &false);
    same("list the other", objects.buckets().await, &vec!["another".to_owned()]);
    same("what was in it is gone", bound.get::<u32>("name").await, &None);
    ok("put in it again", bound.put("name", &2).await);
    same("it is made anew", bound.get("name").await, &Some(2));
    same("with nothing else", bound.exists("other").await, &false);
    for round in 0..10 {
        ok("put what is to go", bound.put("old", &round).await);
        same("delete", objects.delete_bucket(&name).await, &true);
        ok("put in a new one at once", bound.put("new", &round).await);
        let listed = Raw::of(&objects, format!("{prefix}{name}")).names().await;
        same("nothing old comes back", listed, &vec!["new".to_owned()]);
        same("it holds what was put", bound.get("new").await, &Some(round));
    }
    for name in ["another", &name] {
        same("delete them all", objects.delete_bucket(name).await, &true);
    }
}

/// One bucket that twenty callers make at once.
pub async fn buckets(objects: &Objects) {
    let name = unique("at_once");
    let asked = (0..20).map(|_| objects.get_or_create_bucket(&*name));
    let found = future::join_all(asked).await;
    let made = found.into_iter().map(|it| ok("get or create beside others", it).made);
    assert_eq!(made.filter(|made| *made).count(), 1, "of twenty callers one makes it");
    let name = unique("by_puts");
    let bucket = objects.bucket(&name);
    let puts = (0..20).map(|n| bucket.put(format!("{n}"), &n));
    for put in future::join_all(puts).await {
        ok("put in a bucket that others make", put);
    }
    for n in 0..20 {
        same("get what was put", bucket.get(format!("{n}")).await, &Some(n));
    }
    same("delete it", objects.delete_bucket(&name).await, &true);
}

/// An option is as asked for, in a new bucket or in one that is there, or it is refused.
pub async fn bucket_options(objects: &Objects) {
    let capabilities = capabilities(objects).await;
    let made = async |what: &str, option: fn(BucketConfig) -> BucketConfig| {
        let config = option(BucketConfig::new(unique(what)));
        let made = supported(what, objects.create_bucket(config.clone()).await)?;
        ok("put in it", made.put("name", &"value").await);
        ok("the same again", objects.create_bucket(config.clone()).await);
        same("objects stay", made.get("name").await, &Some("value".to_owned()));
        let found = ok("find it", objects.get_or_create_bucket(config.clone()).await);
        assert!(found.differences.is_empty(), "{what} is not as asked: {found:?}");
        Some((made, BucketConfig::new(config.name())))
    };
    assert!(made("plain", |config| config).await.is_some(), "a bucket without options is made");

    if let Some((_, config)) = made("storage", |config| config.storage(Storage::Memory)).await {
        let moved = objects.create_bucket(config.storage(Storage::File)).await;
        refused("change the storage", ErrorKind::InvalidInput, moved);
    }
    if let Some((bucket, config)) = made("described", |config| config.description("one")).await {
        let change = config.clone().description("two").ttl(Duration::from_secs(600));
        if supported("change two options", objects.create_bucket(change).await).is_some() {
            let unlike = config.description("one").ttl(Duration::from_secs(600));
            let found = ok("find it", objects.get_or_create_bucket(unlike).await);
            let told: Vec<_> = found.differences.iter().map(|it| it.option).collect();
            assert_eq!(told, ["description"], "what was changed, and only that, differs");
            same("objects stay", bucket.get("name").await, &Some("value".to_owned()));
        }
    }
    if let Some((bucket, _)) = made("chunks", |config| config.max_chunk_size(CHUNK)).await {
        let put = ok("put", bucket.put_bytes("three", pattern(3 * CHUNK, 1)).await);
        let chunks = put.max_chunk_size.map(|size| (size, put.chunks));
        assert!(chunks.is_none_or(|it| it == (CHUNK, 3)), "chunks are as asked: {chunks:?}");
    }
    let compressed = made("compressed", |config| config.compression(true)).await;
    assert_eq!(compressed.is_some(), capabilities.compression, "compression is as claimed");
    if let Some((bucket, _)) = compressed {
        let bytes = Bytes::from("x".repeat(300 * 1024));
        ok("put in it", bucket.put_bytes("much", bytes.clone()).await);
        same_bytes("get from it", bucket.get_bytes("much").await, &bytes);
    }
    let wrong = [
        BucketConfig::new(unique("wrong")).ttl(Duration::from_millis(1)),
        BucketConfig::new(unique("wrong")).replicas(0),
        BucketConfig::new(unique("wrong")).max_chunk_size(0),
        BucketConfig::new("not.a.bucket"),
    ];
    for config in wrong {
        let step = format!("make {config:?}");
        refused(&step, ErrorKind::InvalidInput, objects.create_bucket(config).await);
    }
}

/// A sealed bucket is read, and takes no changes.
pub async fn seal(objects: &Objects) {
    let raw = Raw::new(objects, "sealed");
    let capabilities = capabilities(&raw.objects).await;
    let bytes = pattern(3 * CHUNK, 1);
    ok("put", raw.put("one", &bytes).await);
    let sealed = raw.objects.seal_bucket(&raw.bucket).await;
    if !capabilities.seal {
        refused("seal", ErrorKind::Unsupported, sealed);
        ok("put again", raw.put("one", &bytes).await);
        return;
    }
    ok("seal", sealed);
    let status = ok("status", raw.objects.bucket_status().await);
    assert!(status.is_some_and(|status| status.sealed), "that it is sealed is told");
    let refuse = ErrorKind::Unsupported;
    refused("put", refuse, raw.objects.put_bytes("two", "x").await);
    refused("replace", refuse, raw.objects.put_bytes("one", "x").await);
    refused("delete", refuse, raw.objects.delete("one").await);
    if capabilities.metadata {
        refused("rename", refuse, raw.objects.rename("one", "two").await);
    }
    if capabilities.links {
        refused("link", refuse, raw.objects.link("two", "one").await);
    }
    same_bytes("get", raw.get("one").await, &bytes);
    same("list", raw.names().await, &vec!["one".to_owned()]);
    if capabilities.watch {
        let mut feed = ok("watch", raw.watch().await);
        let known = feed.first("what is there").await;
        assert_eq!(known.into_keys().collect::<BTreeSet<_>>(), BTreeSet::from(["one".to_owned()]));
    }
    ok("seal again", raw.objects.seal_bucket(&raw.bucket).await);
    let none = unique("none");
    refused("seal what is not", ErrorKind::NotFound, objects.seal_bucket(&none).await);
    same("delete it", objects.delete_bucket(&raw.bucket).await, &true);
    ok("put in a new one", raw.put("one", &bytes).await);
}

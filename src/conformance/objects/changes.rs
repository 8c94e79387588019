//! What is told of an object, changed; its bytes stay.

use super::*;

/// What is set is changed, the rest stays.
pub async fn change(objects: &Objects) {
    let raw = Raw::new(objects, "change");
    if !capabilities(&raw.objects).await.metadata {
        ok("put", raw.put("one", &pattern(5, 1)).await);
        let described = raw.objects.update("one").description("told").await;
        refused("change", ErrorKind::Unsupported, described);
        refused("rename", ErrorKind::Unsupported, raw.objects.rename("one", "two").await);
        return;
    }
    let bytes = pattern(5 * CHUNK, 1);
    let mut draft = Draft::new("one");
    draft.description = Some("first".to_owned());
    draft.headers.insert("X-One".to_owned(), vec!["1".to_owned()]);
    draft.metadata.insert("owner".to_owned(), "Ann".to_owned());
    draft.max_chunk_size = Some(CHUNK);
    let put = ok("put", raw.put_as(draft, &bytes).await);
    let changed = async |step: &str, change: Change| {
        let told = ok(step, raw.change("one", change).await);
        let Some(told) = told else { panic!("{step}: there is no object") };
        same(step, raw.info("one").await, &Some(told.clone()));
        same_bytes(step, raw.get("one").await, &bytes);
        told
    };
    let described = Change { description: Some("second".to_owned()), ..Change::default() };
    let told = changed("describe anew", described).await;
    assert!(told.revision > put.revision, "revisions grow");
    let mut expected = ObjectInfo { description: Some("second".to_owned()), ..put };
    expected.revision = told.revision;
    assert_eq!(told, expected, "the rest stays");

    let metadata = BTreeMap::from([("place".to_owned(), "Ulm".to_owned())]);
    let told =
        changed("other metadata", Change { metadata: Some(metadata.clone()), ..Change::default() })
            .await;
    assert_eq!(told.metadata, metadata, "metadata takes the place of what was there");
    assert_eq!(told.headers, expected.headers, "headers stay");
    let change = Change {
        description: Some(String::new()),
        headers: Some(BTreeMap::new()),
        metadata: Some(BTreeMap::new()),
        ..Change::default()
    };
    let told = changed("take all off", change).await;
    let none = told.description.is_none() && told.headers.is_empty() && told.metadata.is_empty();
    assert!(none, "all is taken off: {told:?}");
    let told = ok("change nothing", raw.change("one", Change::default()).await);
    assert!(told.is_some(), "a change of nothing tells what is there");
    let updated = raw.objects.update("one").description("by a handle").metadata("a", "b").await;
    let updated = ok("change by a handle", updated);
    let description = updated.and_then(|info| info.description);
    assert_eq!(description.as_deref(), Some("by a handle"), "a handle changes it");
}

/// What cannot be changed is refused, and nothing changes.
pub async fn change_refused(objects: &Objects) {
    let raw = Raw::new(objects, "change_refused");
    if !capabilities(&raw.objects).await.metadata {
        return;
    }
    let one = ok("put one", raw.put("one", &pattern(3, 1)).await);
    let two = ok("put two", raw.put("two", &pattern(3, 2)).await);
    let renamed = raw.objects.rename("one", "two").await;
    refused("a name that is taken", ErrorKind::AlreadyExists, renamed);
    same("the one stays", raw.info("one").await, &Some(one));
    same("the other stays", raw.info("two").await, &Some(two));
    refused("no name", ErrorKind::InvalidInput, raw.objects.rename("one", "").await);
    let wrong = raw.objects.update("one").header("Bad Name", "x").await;
    refused("a header that cannot be", ErrorKind::InvalidInput, wrong);
    same("change what is not", raw.objects.rename("none", "two").await, &None);
    same("delete one", raw.delete("one").await, &true);
    same("change what was deleted", raw.objects.rename("one", "three").await, &None);
    same("nothing else is there", raw.names().await, &vec!["two".to_owned()]);
}

/// A renamed object keeps its bytes; its old name is free.
pub async fn rename(objects: &Objects) {
    let raw = Raw::new(objects, "rename");
    if !capabilities(&raw.objects).await.metadata {
        return;
    }
    let bytes = pattern(3 * CHUNK, 1);
    let put = ok("put", raw.put("old", &bytes).await);
    ok("put what is deleted", raw.put("free", &pattern(3, 2)).await);
    same("delete it", raw.delete("free").await, &true);
    for (from, to) in [("old", "new"), ("new", "free"), ("free", "free"), ("free", "old")] {
        let told = ok("rename", raw.objects.rename(from, to).await);
        let told = told.map(|info| (info.name, info.id, info.size));
        let expected = (to.to_owned(), put.id.clone(), put.size);
        assert_eq!(told, Some(expected), "{from} to {to}");
        same("list one", raw.names().await, &vec![to.to_owned()]);
        same_bytes("it keeps its bytes", raw.get(to).await, &bytes);
        if from != to {
            same("the old name is gone", raw.get(from).await, &None);
        }
    }
    ok("put under a name that was left", raw.put("new", &pattern(9, 3)).await);
    same_bytes("the other keeps its bytes", raw.get("old").await, &bytes);
    same("delete what was renamed", raw.delete("old").await, &true);
    same_bytes("what is new stays", raw.get("new").await, &pattern(9, 3));
    raw.shrinks_to("nothing else is left", 4 * CHUNK as u64).await;
}

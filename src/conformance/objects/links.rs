//! Links: names that stand for what is elsewhere.

use super::*;

/// A link is read as what it leads to, in its own bucket and in others.
pub async fn links(objects: &Objects) {
    let raw = Raw::new(objects, "links");
    if !capabilities(&raw.objects).await.links {
        ok("put", raw.put("one", &pattern(3, 1)).await);
        let link = raw.link("link", Link::to_object(&raw.bucket, "one")).await;
        refused("link", ErrorKind::Unsupported, link);
        same("nothing is there", raw.info("link").await, &None);
        return;
    }
    let other = Raw::new(objects, "links_other");
    let (near, far) = (pattern(2 * CHUNK, 1), pattern(3 * CHUNK, 2));
    ok("put near", raw.put("near", &near).await);
    ok("put far", other.put("far", &far).await);

    let link = ok("link", raw.objects.link("to near", "near").await);
    assert_eq!(link.link, Some(Link::to_object(&raw.bucket, "near")), "what it leads to");
    assert_eq!((link.size, link.digest.as_deref()), (0, None), "it has no bytes of its own");
    same("info tells the link", raw.info("to near").await, &Some(timeless(link)));
    let link = raw.objects.link("to far", "far").in_bucket(&other.bucket).await;
    let link = ok("link to another bucket", link);
    assert_eq!(link.link, Some(Link::to_object(&other.bucket, "far")), "what it leads to");
    ok("link to a link", raw.objects.link("to far away", "to far").await);
    same_bytes("read near", raw.objects.get_bytes("to near").await, &near);
    for name in ["to far", "to far away"] {
        same_bytes(name, raw.objects.get_bytes(name).await, &far);
        same_bytes(name, raw.objects.get_bytes(name).range(5..9).await, &far[5..9]);
        let reader = ok(name, raw.objects.reader(name).await);
        let found = reader.map(|it| it.info().name.clone());
        assert_eq!(found.as_deref(), Some("far"), "a reader tells what the link leads to");
    }
    let all = ["near", "to far", "to far away", "to near"].map(str::to_owned).to_vec();
    same("links are listed", raw.names().await, &all);

    // What a link leads to may change, and come later.
    ok("replace far", other.put("far", &near).await);
    same_bytes("read what replaced", raw.objects.get_bytes("to far away").await, &near);
    same("delete near", raw.delete("near").await, &true);
    same("a link to nothing", raw.objects.get_bytes("to near").await, &None);
    same("is still a link", raw.objects.exists("to near").await, &true);
    ok("put near again", raw.put("near", &far).await);
    same_bytes("it leads to that", raw.objects.get_bytes("to near").await, &far);
    // A link is replaced by a link and by an object, and deleted without what it leads to.
    ok("lead elsewhere", raw.objects.link("to near", "to far").await);
    same_bytes("read elsewhere", raw.objects.get_bytes("to near").await, &near);
    ok("put over a link", raw.put("to near", &pattern(7, 3)).await);
    same_bytes("it is an object now", raw.objects.get_bytes("to near").await, &pattern(7, 3));
    same("delete a link", raw.objects.delete("to far away").await, &true);
    same("it is gone", raw.objects.info("to far away").await, &None);
    same_bytes("what it led to stays", raw.objects.get_bytes("to far").await, &near);

    let link = ok("link to a bucket", raw.objects.link_bucket("bucket", &other.bucket).await);
    assert_eq!(link.link, Some(Link::to_bucket(&other.bucket)), "what it leads to");
    let linked = ok("the bucket", raw.objects.linked_bucket("bucket").await);
    let Some(linked) = linked else { panic!("there is no linked bucket") };
    same_bytes("read from it", linked.get_bytes("far").await, &near);
    refused("its bytes", ErrorKind::InvalidInput, raw.objects.get_bytes("bucket").await);
    assert!(ok("no link", raw.objects.linked_bucket("none").await).is_none(), "there is none");
    if capabilities(&raw.objects).await.metadata {
        let renamed = ok("rename a link", raw.objects.rename("to far", "renamed").await);
        let leads = renamed.and_then(|info| info.link);
        assert_eq!(leads, Some(Link::to_object(&other.bucket, "far")), "it leads there still");
        same_bytes("read it", raw.objects.get_bytes("renamed").await, &near);
    }
}

/// Links in a circle are told, and end.
pub async fn link_loops(objects: &Objects) {
    let raw = Raw::new(objects, "loops");
    if !capabilities(&raw.objects).await.links {
        return;
    }
    let to = |name: &str| Link::to_object(&raw.bucket, name);
    let circle = ErrorKind::InvalidInput;
    refused("a link to itself", circle, raw.objects.link("self", "self").await);
    for (from, name) in [("self", "self"), ("one", "two"), ("two", "three"), ("three", "one")] {
        ok("link as others may", raw.link(from, to(name)).await);
    }
    for name in ["self", "one", "two", "three"] {
        refused(name, circle, raw.objects.get_bytes(name).await);
        same(name, raw.objects.exists(name).await, &true);
    }
    refused("a link into a circle", circle, raw.objects.link("in", "one").await);
    for n in 0..40 {
        ok("link far", raw.link(&n.to_string(), to(&(n + 1).to_string())).await);
    }
    ok("put at its end", raw.put("40", &pattern(3, 1)).await);
    refused("too long a way", circle, raw.objects.get_bytes("0").await);
    same_bytes("a way that is not too long", raw.objects.get_bytes("30").await, &pattern(3, 1));
}

/// A link does not take an object's place, and leads only where it can.
pub async fn links_refused(objects: &Objects) {
    let raw = Raw::new(objects, "links_refused");
    if !capabilities(&raw.objects).await.links {
        return;
    }
    let bytes = pattern(2 * CHUNK, 1);
    ok("put", raw.put("one", &bytes).await);
    let taken = raw.link("one", Link::to_object(&raw.bucket, "two")).await;
    refused("link over an object", ErrorKind::AlreadyExists, taken);
    same_bytes("the object stays", raw.get("one").await, &bytes);
    same("delete it", raw.delete("one").await, &true);
    ok("its name is free", raw.link("one", Link::to_object(&raw.bucket, "two")).await);
    refused("to no name", ErrorKind::InvalidInput, raw.objects.link("two", "").await);
    refused("of no name", ErrorKind::InvalidInput, raw.objects.link("", "one").await);
    let elsewhere = raw.objects.link("two", "one").in_bucket("not.a.bucket").await;
    refused("to what is no bucket", ErrorKind::InvalidInput, elsewhere);
}

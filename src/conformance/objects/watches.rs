//! Watches: what is there, that this was all, and every change since.

use super::*;

/// A watch begins with what is there, says that this was all, and goes on with each change.
pub async fn watch(objects: &Objects) {
    let raw = Raw::new(objects, "watch");
    if !capabilities(&raw.objects).await.watch {
        refused("watch", ErrorKind::Unsupported, raw.watch().await.map(drop));
        return;
    }
    let mut empty = ok("watch no bucket", raw.watch().await);
    assert_eq!(empty.next("watch an empty bucket").await, Event::Current, "nothing is there");
    let status = ok("status", raw.objects.bucket_status().await);
    assert!(status.is_some(), "a watch makes the bucket");

    ok("put", raw.put("a", &pattern(5, 1)).await);
    let first = ok("put again", raw.put("a", &pattern(CHUNK, 2)).await);
    let second = ok("put another", raw.put("b", &pattern(CHUNK, 3)).await);
    ok("put what goes", raw.put("gone", &pattern(CHUNK, 4)).await);
    ok("delete it", raw.delete("gone").await);
    let mut feed = ok("watch", raw.watch().await);
    let known = feed.first("what is there").await;
    let expected = [first, second].map(|info| (info.name.clone(), info));
    assert_eq!(known, BTreeMap::from(expected), "what is there is told");
    // The other one saw the way to there.
    let mut at_end = BTreeMap::new();
    while at_end.len() != 2 || !known.values().all(|info| at_end.contains_key(&info.name)) {
        match empty.next("what happened meanwhile").await {
            Event::Put(info) => drop(at_end.insert(info.name.clone(), info)),
            Event::Deleted { name, .. } => drop(at_end.remove(&name)),
            Event::Current => panic!("the end of what was there is told once"),
        }
    }

    let put = ok("put", raw.put("a", &pattern(3 * CHUNK, 5)).await);
    assert_eq!(told(&mut feed, "a change").await, Event::Put(put), "a change is told");
    let put = ok("put a new one", raw.put("c", &Bytes::new()).await);
    assert_eq!(told(&mut feed, "a new one").await, Event::Put(put), "a new one is told");
    let upload = ok("begin", raw.give("never", &pattern(3 * CHUNK, 6)).await);
    drop(upload);
    ok("delete", raw.delete("b").await);
    let Event::Deleted { name, .. } = told(&mut feed, "a delete").await else {
        panic!("a delete was told as something else")
    };
    assert_eq!(name, "b", "a delete is told, and nothing of what was given up before");
    let capabilities = capabilities(&raw.objects).await;
    if capabilities.links {
        let link = ok("link", raw.link("d", Link::to_object(&raw.bucket, "a")).await);
        assert_eq!(told(&mut feed, "a link").await, Event::Put(link), "a link is told");
    }
    if capabilities.metadata {
        let renamed = ok("rename", raw.objects.rename("a", "z").await);
        let both = [told(&mut feed, "a rename").await, told(&mut feed, "a rename").await];
        assert!(renamed.is_some_and(|info| both.contains(&Event::Put(timeless(info)))), "{both:?}");
        let is_old = |event: &Event| matches!(event, Event::Deleted { name, .. } if name == "a");
        assert!(both.iter().any(is_old), "the old name is told as deleted: {both:?}");
    }
    let mut by_handle = ok("watch by a handle", raw.objects.watch().await);
    let first = timeout_at(soon(), by_handle.next()).await;
    assert!(matches!(first, Ok(Some(Ok(Event::Put(_))))), "a handle tells the same: {first:?}");
}

async fn told(feed: &mut Feed, step: &str) -> Event {
    feed.next(step).await
}

/// A reader that is slow knows at the end what is there.
pub async fn watch_under_load(objects: &Objects) {
    let raw = Raw::new(objects, "watch_load");
    if !capabilities(&raw.objects).await.watch {
        return;
    }
    let mut feed = ok("watch", raw.watch().await);
    let write = async {
        for n in 0..400_u32 {
            let name = format!("{}", n % 150);
            if n % 7 == 3 {
                ok("delete", raw.delete(&name).await);
            } else {
                ok("put", raw.put(&name, &pattern(n as usize % 3, n)).await);
            }
        }
        ok("put the last", raw.put("last", &Bytes::new()).await);
    };
    let read = async {
        let (mut known, mut last, mut ends) = (BTreeMap::new(), 0, 0);
        loop {
            match feed.next("read").await {
                Event::Current => ends += 1,
                Event::Put(info) => {
                    assert!(info.revision > last, "{} is told after {last}", info.revision);
                    last = info.revision;
                    let is_last = info.name == "last";
                    known.insert(info.name.clone(), info);
                    if is_last {
                        break;
                    }
                }
                Event::Deleted { name, .. } => drop(known.remove(&name)),
            }
            if known.len() % 50 == 3 {
                sleep(Duration::from_millis(1)).await;
            }
        }
        assert_eq!(ends, 1, "the end of what was there is told once");
        known
    };
    let ((), known) = future::join(write, read).await;
    let listed = ok("list", raw.list().await);
    let listed: BTreeMap<_, _> = listed.into_iter().map(|it| (it.name.clone(), it)).collect();
    assert_eq!(known, listed, "a watch and a listing tell the same");
}

/// A watch goes on when its bucket is deleted and made anew.
pub async fn watch_remade(objects: &Objects) {
    let raw = Raw::new(objects, "watch_remade");
    if !capabilities(&raw.objects).await.watch {
        return;
    }
    ok("put", raw.put("old", &pattern(5, 1)).await);
    ok("put", raw.put("both", &pattern(5, 2)).await);
    let mut feed = ok("watch", raw.watch().await);
    let mut known = feed.first("what is there").await;
    assert_eq!(known.len(), 2, "what is there is told");
    same("delete the bucket", raw.objects.delete_bucket(&raw.bucket).await, &true);
    let both = ok("put in a new one", raw.put("both", &pattern(6, 3)).await);
    let new = ok("put in a new one", raw.put("new", &pattern(7, 4)).await);
    let expected = BTreeMap::from([("both".to_owned(), both), ("new".to_owned(), new)]);
    while known != expected {
        match feed.next("the new bucket").await {
            Event::Put(info) => drop(known.insert(info.name.clone(), info)),
            Event::Deleted { name, .. } => drop(known.remove(&name)),
            Event::Current => panic!("the end of what was there is told once"),
        }
    }
    ok("delete", raw.delete("new").await);
    let event = feed.next("the new bucket").await;
    assert_eq!(event.name(), Some("new"), "it goes on: {event:?}");
}

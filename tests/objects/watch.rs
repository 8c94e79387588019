//! What there is, and what happens to it.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use nats_connector::objects::{BucketConfig, Event, Objects, Watcher};
use testkit::{Proxy, size};

use super::{connect_to, objects};

const LIMIT: Duration = Duration::from_secs(60);

async fn names(objects: &Objects) -> BTreeSet<String> {
    let all: Vec<_> = objects.list().await.unwrap().try_collect().await.unwrap();
    let names: BTreeSet<String> = all.iter().map(|info| info.name.clone()).collect();
    assert_eq!(names.len(), all.len(), "each once");
    names
}

async fn next(watcher: &mut Watcher) -> Event {
    let next = tokio::time::timeout(LIMIT, watcher.next()).await;
    next.expect("an event in time").expect("the watch goes on").unwrap()
}

fn told(event: Event) -> String {
    match event {
        Event::Put(info) => format!("+{}", info.name),
        Event::Deleted { name, .. } => format!("-{name}"),
        Event::Current => "=".to_owned(),
        _ => panic!("unknown"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_has_each_object_once_and_nothing_deleted() {
    let (_server, _connector, objects) = objects().await;
    assert!(names(&objects).await.is_empty());
    let count = size(300, 5000);
    for n in 0..count {
        objects.put_bytes(format!("o{n}"), "x").await.unwrap();
    }
    objects.delete("o0").await.unwrap();
    objects.link("l", "o1").await.unwrap();
    let names = names(&objects).await;
    assert_eq!(names.len(), count);
    assert!(names.contains("l") && !names.contains("o0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_what_is_there_then_what_happens() {
    let (_server, _connector, objects) = objects().await;
    let mut fresh = objects.bucket("fresh").watch().await.unwrap();
    assert_eq!(told(next(&mut fresh).await), "=");
    objects.put_bytes("a", "1").await.unwrap();
    objects.put_bytes("b", "2").await.unwrap();
    objects.delete("b").await.unwrap();
    let mut watcher = objects.watch().await.unwrap();
    assert_eq!(told(next(&mut watcher).await), "+a");
    assert_eq!(told(next(&mut watcher).await), "=");
    objects.put_bytes("c", "3").await.unwrap();
    objects.rename("c", "d").await.unwrap();
    objects.delete("a").await.unwrap();
    for expected in ["+c", "+d", "-c", "-a"] {
        assert_eq!(told(next(&mut watcher).await), expected);
    }
    // What happens before the first look is told as it happened, too.
    let mut early = objects.bucket("early").watch().await.unwrap();
    objects.bucket("early").put_bytes("x", "1").await.unwrap();
    objects.bucket("early").delete("x").await.unwrap();
    for expected in ["+x", "-x", "="] {
        assert_eq!(told(next(&mut early).await), expected);
    }
    // Made anew: what is not there any more is told.
    objects.put_bytes("keep", "1").await.unwrap();
    assert_eq!(told(next(&mut watcher).await), "+keep");
    objects.delete_bucket("b").await.unwrap();
    objects.put_bytes("keep", "2").await.unwrap();
    objects.put_bytes("new", "3").await.unwrap();
    let mut seen = BTreeSet::new();
    while !["+keep", "+new", "-d"].iter().all(|one| seen.contains(*one)) {
        seen.insert(told(next(&mut watcher).await));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_lifetime_is_told() {
    let (_server, connector, _) = objects().await;
    let config = BucketConfig::new("short").ttl(Duration::from_secs(2));
    let objects = connector.objects().create_bucket(config).await.unwrap();
    let mut watcher = objects.watch().await.unwrap();
    assert_eq!(told(next(&mut watcher).await), "=");
    objects.put_bytes("a", "1").await.unwrap();
    assert_eq!(told(next(&mut watcher).await), "+a");
    assert_eq!(told(next(&mut watcher).await), "-a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_without_gaps_after_lost_connections() {
    let (server, _connector, objects) = objects().await;
    let proxy = Proxy::start(server.address());
    let settings = [("NATS.MAX_RECONNECT", "-1"), ("NATS.RECONNECT_WAIT", "50ms")];
    let watching = connect_to(&proxy.url(), &settings).await;
    let mut watcher = watching.objects().bucket("b").watch().await.unwrap();
    assert_eq!(told(next(&mut watcher).await), "=");
    for round in 0..size(5, 50) {
        proxy.refuse();
        proxy.cut();
        objects.put_bytes(format!("a{round}"), "1").await.unwrap();
        objects.put_bytes("same", format!("{round}")).await.unwrap();
        objects.delete("gone").await.unwrap();
        objects.put_bytes("gone", "x").await.unwrap();
        proxy.resume();
        for expected in [format!("+a{round}"), "+same".to_owned(), "+gone".to_owned()] {
            let mut event = told(next(&mut watcher).await);
            // The delete before it may be told, or have been replaced.
            while event == "-gone" {
                event = told(next(&mut watcher).await);
            }
            assert_eq!(event, expected);
        }
    }
}

//! Reading through to a source.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use futures::poll;
use nats_connector::kv::Kv;
use nats_connector::{Error, ErrorKind, Result};
use testkit::{Server, eventually};
use tokio::sync::{Barrier, Notify};

use super::{Stores, connect};

/// A source that counts how often it is asked.
#[derive(Clone, Default)]
struct Source(Arc<AtomicUsize>);

impl Source {
    async fn value(self) -> Result<u32, io::Error> {
        self.0.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        Ok(7)
    }

    fn asked(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

async fn get(kv: &Kv, source: &Source) -> Result<u32> {
    let source = source.clone();
    kv.get_or_load("key", || source.value()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn many_misses_ask_the_source_once() {
    for (store, kv) in Stores::start().await.all() {
        let source = Source::default();
        let start = Arc::new(Barrier::new(64));
        let calls = (0..64).map(|_| {
            let (kv, source, start) = (kv.clone(), source.clone(), start.clone());
            tokio::spawn(async move {
                start.wait().await;
                get(&kv, &source).await
            })
        });
        for value in join_all(calls.collect::<Vec<_>>()).await {
            assert_eq!(value.unwrap().unwrap(), 7, "{store}");
        }
        assert_eq!(source.asked(), 1, "{store}");
        assert_eq!(kv.get::<u32>("key").await.unwrap(), Some(7), "{store}");
        assert_eq!(get(&kv, &source).await.unwrap(), 7, "{store}");
        assert_eq!(source.asked(), 1, "{store}");

        // Another prefix is another key.
        assert_eq!(get(&kv.clone().with_prefix("app"), &source).await.unwrap(), 7, "{store}");
        assert_eq!(source.asked(), 2, "{store}");
    }
}

#[tokio::test]
async fn what_is_stored_is_given_as_it_is() {
    let kv = Kv::memory();
    let source = Source::default();
    kv.set("key", &1).await.unwrap();
    assert_eq!(get(&kv, &source).await.unwrap(), 1);
    kv.set("key", "a word").await.unwrap();
    let error = get(&kv, &source).await.unwrap_err();
    assert_eq!((error.kind(), error.context("key")), (ErrorKind::Decode, Some("key")));
    assert_eq!(source.asked(), 0);

    // No value at the source is a value here.
    let none = || async { Ok::<_, io::Error>(None::<u32>) };
    assert_eq!(kv.get_or_load("none", none).await.unwrap(), None);
    let again = || async { Err::<Option<u32>, _>(io::Error::other("asked again")) };
    assert_eq!(kv.get_or_load("none", again).await.unwrap(), None);
    assert_eq!(kv.get_raw("none").await.unwrap().as_deref(), Some(&b"null"[..]));
}

#[tokio::test]
async fn a_lifetime_is_for_what_was_loaded() {
    let kv = Kv::memory();
    let load = || async { Ok::<_, io::Error>(1) };
    let value = kv.get_or_load("key", load).ttl(Duration::from_secs(60)).await.unwrap();
    assert_eq!(value, 1);
    let (_, end) = kv.get_with_expiration::<u32>("key").await.unwrap().unwrap();
    assert!(end.is_some());
}

#[tokio::test]
async fn a_loaders_error_is_its_own_callers() {
    let kv = Kv::memory();
    let fail = || async { Err::<u32, _>(io::Error::other("no database")) };
    let error = kv.get_or_load("key", fail).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other);
    assert_eq!(error.context("key"), Some("key"));
    assert!(error.to_string().ends_with("no database"), "{error}");
    let own = || async { Err::<u32, _>(Error::new(ErrorKind::NotFound, "no such user")) };
    assert!(kv.get_or_load("key", own).await.unwrap_err().is_not_found());

    // The next in line runs its own loader.
    let (began, goes_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (began_here, goes_on_here) = (began.clone(), goes_on.clone());
    let failing = kv.get_or_load("key", || async move {
        began_here.notify_one();
        goes_on_here.notified().await;
        Err::<u32, _>(io::Error::other("no database"))
    });
    let failing = tokio::spawn(failing);
    began.notified().await;
    let source = Source::default();
    let mut waiting: Vec<_> = (0..8)
        .map(|_| {
            let source = source.clone();
            kv.get_or_load("key", || source.value())
        })
        .collect();
    for call in &mut waiting {
        assert!(poll!(call).is_pending());
    }
    goes_on.notify_one();
    assert_eq!(try_join_all(waiting).await.unwrap(), [7; 8]);
    assert_eq!(source.asked(), 1);
    assert_eq!(failing.await.unwrap().unwrap_err().kind(), ErrorKind::Other);
}

#[tokio::test]
async fn a_dropped_or_late_loader_lets_the_next_go_on() {
    let server = Server::builder().jetstream().start().await;
    let kv = connect(&server.url()).await.kv();
    let source = Source::default();
    let began = Arc::new(Notify::new());
    let began_here = began.clone();
    let stuck = tokio::spawn(kv.get_or_load("key", || async move {
        began_here.notify_one();
        pending::<Result<u32, io::Error>>().await
    }));
    began.notified().await;
    let kv_here = kv.clone();
    let source_here = source.clone();
    let next = tokio::spawn(async move { get(&kv_here, &source_here).await });
    stuck.abort();
    assert!(stuck.await.unwrap_err().is_cancelled());
    assert_eq!(next.await.unwrap().unwrap(), 7);

    // One that is too slow ends in time, and so does who waits for it.
    kv.delete("key").await.unwrap();
    let limit = Duration::from_millis(300);
    let late = kv.get_or_load("key", pending::<Result<u32, io::Error>>).timeout(limit);
    let waiting = kv.get_or_load("key", pending::<Result<u32, io::Error>>).timeout(limit);
    let (late, waiting) = tokio::join!(late, waiting);
    assert!(late.unwrap_err().is_timeout() && waiting.unwrap_err().is_timeout());
    assert_eq!(get(&kv, &source).await.unwrap(), 7);
    assert_eq!(source.asked(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_stale_is_stored() {
    for (store, kv) in Stores::start().await.all() {
        // Written, deleted, and written and deleted while the loader is at it; each on a key that
        // was never there, and on one that was.
        for trace in [false, true] {
            for what in ["set", "delete", "set and delete"] {
                let key = format!("{what}:{trace}");
                if trace {
                    kv.set(&*key, &0).await.unwrap();
                    kv.delete(&*key).await.unwrap();
                }
                let (other, name) = (kv.clone(), key.clone());
                let load = move || async move {
                    if what != "delete" {
                        other.set(&*name, &2).await?;
                    }
                    if what != "set" {
                        other.delete(&*name).await?;
                    }
                    Ok::<u32, Error>(1)
                };
                let loaded = kv.get_or_load(&*key, load).await.unwrap();
                assert_eq!(loaded, 1, "{store}: {key}");
                let stored = kv.get::<u32>(&*key).consistent().await.unwrap();
                assert_eq!(stored, (what == "set").then_some(2), "{store}: {key}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_is_an_error() {
    let mut server = Server::builder().jetstream().start().await;
    let kv = connect(&server.url()).await.kv();
    kv.set("other", &1).await.unwrap();
    server.kill().await;
    let source = Source::default();
    let here = source.clone();
    let call = kv.get_or_load("key", || here.value()).timeout(Duration::from_millis(500));
    let error = call.await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error}");
    assert_eq!(source.asked(), 0);
    server.restart().await;
    eventually(Duration::from_secs(20), || async { get(&kv, &source).await.is_ok() }).await;
    assert_eq!(kv.get::<u32>("key").await.unwrap(), Some(7));
}

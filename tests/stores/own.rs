//! Drivers of the application's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nats_connector::kv::MemoryDriver;
use nats_connector::stores::{StoreConfig, StoreSettings, Stores};
use nats_connector::{Error, ErrorKind};
use tokio::sync::Semaphore;

#[tokio::test(flavor = "multi_thread")]
async fn each_store_has_one_driver_made_once() {
    let made = Arc::new(AtomicUsize::new(0));
    let gate = Arc::new(Semaphore::new(0));
    let (counter, door) = (made.clone(), gate.clone());
    let stores = Stores::builder()
        .register_driver("own", move |settings: StoreSettings| {
            let (counter, door) = (counter.clone(), door.clone());
            async move {
                assert_eq!(settings.field("ENDPOINT"), Some("x"));
                counter.fetch_add(1, Ordering::SeqCst);
                door.acquire().await.unwrap().forget();
                Ok(MemoryDriver::new())
            }
        })
        .store("a", StoreConfig::new().driver("own").set("ENDPOINT", "x"))
        .store("b", StoreConfig::new().driver("OWN").set("ENDPOINT", "x"))
        .build()
        .unwrap();
    assert_eq!(made.load(Ordering::SeqCst), 0);
    let (a, b) = (stores.get("a").unwrap(), stores.get("b").unwrap());

    // A call with a short deadline gives up; opening goes on, and the others wait for it.
    let early = a.set("k", "early").timeout(Duration::from_millis(20)).await.unwrap_err();
    assert_eq!(early.kind(), ErrorKind::Unavailable, "{early}");
    assert_eq!(early.context("store"), Some("a"));
    let calls: Vec<_> = (0..32).map(|i| tokio::spawn(a.set(format!("k{i}"), &i))).collect();
    gate.add_permits(1);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(made.load(Ordering::SeqCst), 1);
    gate.add_permits(1);
    assert_eq!(b.get::<u32>("k1").await.unwrap(), None);
    assert_eq!(made.load(Ordering::SeqCst), 2);
    assert_eq!(a.get::<u32>("k1").await.unwrap(), Some(1));
}

#[tokio::test]
async fn a_failure_is_told_and_tried_again() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counter = tries.clone();
    let stores = Stores::builder()
        .register_driver("own", move |_| {
            let n = counter.fetch_add(1, Ordering::SeqCst);
            async move {
                assert_ne!(n, 1, "the second one panics");
                match n {
                    0 => Err(Error::new(ErrorKind::Unauthorized, "wrong key for the vault")),
                    _ => Ok(MemoryDriver::new()),
                }
            }
        })
        .store("s", StoreConfig::new().driver("own"))
        .build()
        .unwrap();
    let kv = stores.get("s").unwrap();
    let error = kv.get_raw("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(error.to_string().contains("wrong key for the vault"), "{error}");
    assert_eq!(error.context("store"), Some("s"));
    let error = kv.set("k", "v").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    kv.set("k", "v").await.unwrap();
    assert_eq!(kv.get::<String>("k").await.unwrap().as_deref(), Some("v"));
    assert_eq!(tries.load(Ordering::SeqCst), 3);

    stores.close().await;
    stores.close().await;
    let error = kv.get_raw("k").await.unwrap_err();
    assert!(error.is_closed(), "{error}");
    assert!(stores.get("s").unwrap().set("k", "v").await.unwrap_err().is_closed());
}

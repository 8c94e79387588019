//! The functions over the default key-value driver. One test: the default is the process's own.

use nats_connector::kv::{self, BucketConfig, Kv, MemoryDriver};
use nats_connector::{ErrorKind, Serializer, Settings};

#[tokio::test]
async fn handles_bind_when_first_used_and_follow_the_default() {
    let users = kv::bucket("users").with_prefix("app");
    let early = users.set("user:1", &1);
    let error = early.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotRegistered);
    assert!(error.to_string().contains("nats_connector::register()"), "{error}");
    assert_eq!(kv::get::<u32>("key").await.unwrap_err().kind(), ErrorKind::NotRegistered);
    assert_eq!(kv::default_driver().unwrap_err().kind(), ErrorKind::NotRegistered);
    assert_eq!(users.driver().unwrap_err().kind(), ErrorKind::NotRegistered);

    // A handle of the default driver is no driver to follow.
    kv::set_default_driver(kv::bucket("users"));
    assert_eq!(users.exists("user:1").await.unwrap_err().kind(), ErrorKind::NotRegistered);

    let first = Kv::memory().bucket("main").with_serializer(Serializer::text());
    kv::set_default_driver(first.clone());
    assert!(users.set("user:1", "Ada").await.unwrap() > 0);
    assert_eq!(users.get::<String>("user:1").await.unwrap().as_deref(), Some("Ada"));
    let same = first.bucket("users").with_prefix("app");
    assert_eq!(same.get_raw("user:1").await.unwrap().as_deref(), Some(&b"Ada"[..]));
    assert!(users.driver().unwrap().name() == "memory");

    // The functions use the default handle's own bucket.
    kv::set("key", "1").await.unwrap();
    assert_eq!(first.get_raw("key").await.unwrap().as_deref(), Some(&b"1"[..]));
    assert!(kv::replace("key", "2").await.unwrap().is_some());
    assert_eq!(kv::get::<u32>("key").await.unwrap(), Some(2));
    kv::set_raw("raw", "3").await.unwrap();
    assert!(kv::exists("raw").await.unwrap());
    kv::delete("raw").await.unwrap();
    assert_eq!(kv::get_raw("raw").await.unwrap(), None);
    assert_eq!(kv::increment("key", 40).await.unwrap(), 42);
    assert_eq!(kv::decrement("key", 2).await.unwrap(), 40);
    let many = kv::set_many([("a", &1), ("b", &2)]).await.unwrap();
    assert_eq!(many.all().unwrap().len(), 2);
    assert_eq!(kv::get_many::<u32>(["a", "none"]).await.unwrap().all().unwrap(), [Some(1), None]);
    assert_eq!(kv::get_many_raw(["b"]).await.unwrap().found().unwrap()["b"], "2");
    assert_eq!(kv::get_all::<u32>().await.unwrap().len(), 3);
    assert_eq!(kv::get_all_matching::<u32>("k*").await.unwrap()["key"], 40);
    let load = || async { nats_connector::Result::<i32>::Ok(7) };
    assert_eq!(kv::get_or_load("loaded", load).await.unwrap(), 7);
    kv::transaction().set("a", &3).delete("b").await.unwrap();
    assert_eq!(kv::delete_matching("a*").await.unwrap(), 1);
    let many = kv::delete_many(["loaded", "none"]).await.unwrap();
    assert_eq!(many.all().unwrap().len(), 2);
    assert_eq!(first.keys().await.unwrap(), ["key"]);
    let logs = kv::create_bucket(BucketConfig::new("logs").history(5)).await.unwrap();
    logs.set("line", "x").await.unwrap();
    assert_eq!(kv::flush().await.unwrap(), 1);
    kv::set("key", "2").await.unwrap();

    // Another default: the same handles go there, also from other threads.
    kv::set_default_driver(MemoryDriver::new());
    assert!(!users.exists("user:1").await.unwrap());
    assert!(!logs.exists("line").await.unwrap());
    let elsewhere = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async { kv::bucket("users").set("user:2", &2).await })
    });
    assert_eq!(elsewhere.join().unwrap().unwrap(), 1);
    assert_eq!(kv::bucket("users").get::<u32>("user:2").await.unwrap(), Some(2));

    kv::add_driver("cache", MemoryDriver::new()).unwrap();
    kv::add_driver("tests", first).unwrap();
    assert!(kv::add_driver("cache", MemoryDriver::new()).unwrap_err().is_already_exists());
    assert_eq!(kv::drivers(), ["cache", "tests"]);
    assert!(kv::driver("none").is_none());
    assert!(kv::driver("tests").unwrap().exists("key").await.unwrap());
    assert!(!kv::driver("cache").unwrap().exists("key").await.unwrap());

    // Registering adds the connector's, and leaves the chosen default.
    let settings = Settings::builder().set("NATS.SERVER", "memory:").build().unwrap();
    nats_connector::register_with(settings).await.unwrap();
    assert_eq!(kv::drivers(), ["cache", "tests", "nats"]);
    assert_eq!(kv::bucket("users").get::<u32>("user:2").await.unwrap(), Some(2));
    assert!(!kv::driver("nats").unwrap().bucket("users").exists("user:2").await.unwrap());
}

#[tokio::test]
async fn calls_name_what_they_are_about() {
    let kv = Kv::memory().bucket("users");
    kv.set_raw("user:1", "{").await.unwrap();
    let error = kv.get::<u32>("user:1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert_eq!((error.context("bucket"), error.context("key")), (Some("users"), Some("user:1")));
    assert!(error.to_string().starts_with("kv get: "), "{error}");
    let error = kv.set("", "secret").await.unwrap_err();
    assert!(error.to_string().starts_with("kv set: the key is empty"), "{error}");

    let shown = format!("{:?}", kv.set("user:1", "a secret"));
    assert!(shown.contains("user:1") && !shown.contains("secret"), "{shown}");
    let control = format!("{:?}", kv.set("a secret", "value"));
    assert!(control.contains("a secret"), "{control}");
}

#[tokio::test]
async fn calls_can_be_spawned_joined_and_bounded() {
    let kv = Kv::memory();
    let spawned = tokio::spawn(kv.bucket("a").set("key", &1));
    assert_eq!(spawned.await.unwrap().unwrap(), 1);
    let (one, two) = tokio::join!(kv.set("b", &1), kv.set("c", &2));
    assert_ne!(one.unwrap(), two.unwrap());
    assert_eq!(kv.set("d", &1).timeout(std::time::Duration::MAX).await.unwrap(), 3);
}

//! Several writes together.

use std::time::Duration;

use futures::future::join_all;
use nats_connector::kv::{BucketConfig, Kv};
use nats_connector::{ErrorKind, Serializer};
use testkit::{Proxy, Server, Version};

use super::{Stores, connect};

#[tokio::test(flavor = "multi_thread")]
async fn all_of_it_or_nothing() {
    for (store, kv) in Stores::start().await.all() {
        let kv = kv.bucket("b").with_prefix("app");
        let made = kv.transaction().set("a", &1).set_raw("b", "2").create("c", &3).delete("none");
        let revisions = made.await.unwrap();
        assert_eq!(revisions.len(), 4, "{store}");
        let entry = kv.entry::<u32>("a").await.unwrap().unwrap();
        assert_eq!((entry.value, entry.revision), (1, revisions[0]), "{store}");
        assert_eq!(kv.get::<u32>("c").await.unwrap(), Some(3), "{store}");

        let again = kv
            .transaction()
            .set_if_revision("a", &10, revisions[0])
            .delete_if_revision("b", revisions[1])
            .set("d", &4);
        assert_eq!(again.await.unwrap().len(), 3, "{store}");
        let values = kv.get_many::<u32>(["a", "b", "c", "d"]).await.unwrap().all().unwrap();
        assert_eq!(values, [Some(10), None, Some(3), Some(4)], "{store}");

        // One condition that does not hold.
        for wrong in [
            kv.transaction().set("d", &5).set_if_revision("a", &11, revisions[0]),
            kv.transaction().set("d", &5).delete_if_revision("a", revisions[0]),
            kv.transaction().create("new", &1).set_if_revision("a", &11, 0).set("d", &5),
        ] {
            let error = wrong.await.unwrap_err();
            assert!(error.is_conflict(), "{store}: {error}");
            let context = [error.context("bucket"), error.context("key")];
            assert_eq!(context, [Some("b"), Some("a")], "{store}: {error}");
        }
        let error = kv.transaction().set("d", &5).create("c", &1).await.unwrap_err();
        assert!(error.is_already_exists(), "{store}: {error}");
        assert_eq!(error.context("key"), Some("c"), "{store}");
        let values = kv.get_many::<u32>(["a", "c", "d", "new"]).consistent().await.unwrap();
        assert_eq!(values.all().unwrap(), [Some(10), Some(3), Some(4), None], "{store}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_key_is_created_anew() {
    for (store, kv) in Stores::start().await.all() {
        for history in [1, 5] {
            let config = BucketConfig::new(format!("h{history}")).history(history);
            let kv = kv.create_bucket(config).await.unwrap();
            for key in ["a", "b"] {
                kv.set(key, &1).await.unwrap();
                kv.delete(key).await.unwrap();
            }
            let made = kv.transaction().create("a", &2).create("b", &3).create("c", &4);
            made.await.unwrap();
            let values = kv.get_many::<u32>(["a", "b", "c"]).await.unwrap().all().unwrap();
            assert_eq!(values, [Some(2), Some(3), Some(4)], "{store}, history {history}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_creators_wins() {
    for (store, kv) in Stores::start().await.all() {
        kv.set("b", &0).await.unwrap();
        kv.delete("b").await.unwrap();
        let creators = (1..=16).map(|n| {
            tokio::spawn(kv.transaction().create("a", &n).create("b", &n).create("c", &n))
        });
        let results = join_all(creators.collect::<Vec<_>>()).await;
        let (made, failed): (Vec<_>, Vec<_>) =
            results.into_iter().map(|result| result.unwrap()).partition(|result| result.is_ok());
        assert_eq!(made.len(), 1, "{store}");
        assert!(failed.iter().all(|f| f.as_ref().unwrap_err().is_already_exists()), "{store}");
        let values = kv.get_many::<u32>(["a", "b", "c"]).consistent().await.unwrap();
        let values = values.all().unwrap();
        assert!(values[0].is_some() && values.iter().all(|v| *v == values[0]), "{store}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifetime_is_for_the_value_before_it() {
    for (store, kv) in Stores::start().await.all() {
        let hour = Duration::from_secs(3600);
        kv.transaction().set("a", &1).create("b", &2).ttl(hour).set("c", &3).await.unwrap();
        for (key, ends) in [("a", false), ("b", true), ("c", false)] {
            let (_, end) = kv.get_with_expiration::<u32>(key).await.unwrap().unwrap();
            assert_eq!(end.is_some(), ends, "{store}: {key}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_is_sent() {
    let kv = Kv::memory().bucket("b");
    let text = kv.clone().with_serializer(Serializer::text());
    for (wrong, kind, key) in [
        (kv.transaction().set("a", &1).delete("a"), ErrorKind::InvalidInput, Some("a")),
        (kv.transaction().set("a", &1).set("", &1), ErrorKind::InvalidInput, Some("")),
        (kv.transaction().ttl(Duration::from_secs(1)), ErrorKind::InvalidInput, None),
        (
            kv.transaction().set("a", &1).delete("b").ttl(Duration::from_secs(1)),
            ErrorKind::InvalidInput,
            None,
        ),
        (
            text.transaction().set("a", "1").set("b", &[1]).set("c", "1"),
            ErrorKind::Encode,
            Some("b"),
        ),
        (kv.bucket("not a name").transaction().set("a", &1), ErrorKind::InvalidInput, None),
    ] {
        let error = wrong.await.unwrap_err();
        assert_eq!((error.kind(), error.context("key")), (kind, key), "{error}");
        assert!(error.to_string().starts_with("kv transaction: "), "{error}");
    }
    assert_eq!(kv.get_raw("a").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_for_no_writes() {
    let server = Server::builder().jetstream().start().await;
    let proxy = Proxy::start(server.address());
    let kv = connect(&proxy.url()).await.kv();
    proxy.black_hole();
    assert!(kv.transaction().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_server_refuses_them() {
    if !testkit::require(Version::V2_11) {
        return;
    }
    let server = Server::builder().version(Version::V2_11).jetstream().start().await;
    let kv = connect(&server.url()).await.kv();
    let error = kv.transaction().set("a", &1).set("b", &2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("2.12"), "{error}");
    assert_eq!(kv.get_raw("a").await.unwrap(), None);
}

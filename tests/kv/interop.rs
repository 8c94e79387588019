//! What other clients write is read here, and the other way round.

use std::time::{Duration, SystemTime};

use async_nats::HeaderMap;
use async_nats::jetstream::kv::Config;
use nats_connector::Serializer;
use nats_connector::kv::{BucketConfig, KeyCodec};
use serde_json::{Value, json};
use testkit::{Server, eventually};

use super::{api, connect, connect_with};

const PLAIN: [&str; 6] = ["key", "a.b", "A-1/x_y", "a=b", "a=41", "a=3a"];

#[tokio::test(flavor = "multi_thread")]
async fn another_client_reads_and_writes_the_same_keys() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let context = connector.jetstream().unwrap();
    let ours = connector.kv().bucket("ours");
    for key in PLAIN {
        ours.set_raw(key, key).await.unwrap();
    }
    let theirs = context.get_key_value("ours").await.unwrap();
    for key in PLAIN {
        assert_eq!(theirs.get(key).await.unwrap().as_deref(), Some(key.as_bytes()), "{key}");
    }
    // What is not plain is legal for it too.
    ours.set_raw("user:1 😀", "x").await.unwrap();
    let escaped = theirs.get("user=3A1=20=F0=9F=98=80").await.unwrap();
    assert_eq!(escaped.as_deref(), Some(&b"x"[..]));
    ours.delete("key").await.unwrap();
    assert_eq!(theirs.get("key").await.unwrap(), None);

    let theirs = Config { bucket: "theirs".to_owned(), history: 3, ..Default::default() };
    let theirs = context.create_key_value(theirs).await.unwrap();
    let ours = connector.kv().bucket("theirs").with_serializer(Serializer::text());
    for key in PLAIN {
        let revision = theirs.put(key, key.into()).await.unwrap();
        assert_eq!(ours.get::<String>(key).await.unwrap().as_deref(), Some(key), "{key}");
        assert!(ours.replace(key, "new").await.unwrap().is_some_and(|new| new > revision));
        assert_eq!(theirs.get(key).await.unwrap().as_deref(), Some(&b"new"[..]));
    }
    theirs.delete("key").await.unwrap();
    theirs.purge("a.b").await.unwrap();
    for gone in ["key", "a.b"] {
        assert_eq!(ours.get_raw(gone).await.unwrap(), None);
        assert!(!ours.exists(gone).await.unwrap());
        assert_eq!(ours.replace(gone, "x").await.unwrap(), None);
    }
    // The server's own marker of a key that has expired.
    let mut marker = HeaderMap::new();
    marker.insert("Nats-Marker-Reason", "MaxAge");
    let acknowledged = context.publish_with_headers("$KV.theirs.a=b", marker, "".into()).await;
    acknowledged.unwrap().await.unwrap();
    assert_eq!(ours.get_raw("a=b").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_without_direct_reads_are_read_from_the_leader() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let config = json!({
        "name": "KV_old", "subjects": ["$KV.old.>"], "max_msgs_per_subject": 1, "discard": "new",
        "storage": "file", "allow_rollup_hdrs": true, "deny_delete": true, "allow_direct": false,
    });
    api(&connector, "STREAM.CREATE.KV_old", config).await;
    let kv = connector.kv().bucket("old").with_serializer(Serializer::message_pack());
    assert_eq!(kv.get::<u32>("user:1").await.unwrap(), None);
    kv.set("user:1", &7).await.unwrap();
    assert_eq!(kv.get::<u32>("user:1").await.unwrap(), Some(7));
    kv.set_raw("empty", "").await.unwrap();
    assert_eq!(kv.get_raw("empty").await.unwrap().as_deref(), Some(&b""[..]));
    kv.delete("user:1").await.unwrap();
    assert_eq!(kv.get::<u32>("user:1").await.unwrap(), None);
    api(&connector, "STREAM.DELETE.KV_old", Value::Null).await;
    assert_eq!(kv.get_raw("empty").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn colon_keys_of_older_clients_are_read_raw() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect_with(&server, &[("NATS.KEY_CODEC", "raw")]).await;
    let context = connector.jetstream().unwrap();
    context
        .create_key_value(Config { bucket: "old".to_owned(), ..Default::default() })
        .await
        .unwrap();
    context.publish("$KV.old.user:bob", "Bob".into()).await.unwrap().await.unwrap();
    let old = connector.kv().bucket("old").with_serializer(Serializer::text());
    assert_eq!(old.get::<String>("user:bob").await.unwrap().as_deref(), Some("Bob"));
    assert!(old.replace("user:bob", "Robert").await.unwrap().is_some());
    old.delete("user:bob").await.unwrap();
    assert!(!old.exists("user:bob").await.unwrap());

    // The setting is for buckets that do not say: this one does.
    let new = BucketConfig::new("new").key_codec(KeyCodec::Escape);
    let new = connector.kv().create_bucket(new).await.unwrap();
    new.set("user:bob", &1).await.unwrap();
    let theirs = context.get_key_value("new").await.unwrap();
    assert!(theirs.get("user=3Abob").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn lifetimes_of_another_client_are_read() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let context = connector.jetstream().unwrap();
    let config = Config {
        bucket: "theirs".to_owned(),
        limit_markers: Some(Duration::from_secs(1)),
        ..Default::default()
    };
    let theirs = context.create_key_value(config).await.unwrap();
    let ours = connector.kv().bucket("theirs").with_serializer(Serializer::text());
    let minute = Duration::from_secs(60);
    theirs.create_with_ttl("key", "1".into(), minute).await.unwrap();
    let (value, ends) = ours.get_with_expiration::<String>("key").await.unwrap().unwrap();
    assert_eq!(value, "1");
    let left = ends.unwrap().duration_since(SystemTime::now()).unwrap();
    assert!(left <= minute && left > minute / 2, "{left:?}");
    // Their write without a lifetime takes ours away.
    assert!(ours.touch("key", minute).await.unwrap());
    theirs.put("key", "2".into()).await.unwrap();
    assert_eq!(
        ours.get_with_expiration::<String>("key").await.unwrap(),
        Some(("2".to_owned(), None))
    );
    // Ours ends for them, too.
    ours.set("key", "3").ttl(Duration::from_secs(1)).await.unwrap();
    eventually(Duration::from_secs(30), || async { theirs.get("key").await.unwrap().is_none() })
        .await;
    assert_eq!(ours.get::<String>("key").await.unwrap(), None);
}

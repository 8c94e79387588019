//! What is stored, and under which subject.

use std::time::Duration;

use nats_connector::kv::{BucketConfig, KeyCodec};
use nats_connector::{Connector, ErrorKind, Serializer};
use serde_json::{Value, json};
use testkit::{Server, Version, eventually, require};

use super::{api, connect, connect_with, stream};

/// All subjects of a bucket and how many messages each has.
async fn subjects(connector: &Connector, bucket: &str) -> Value {
    let asked = json!({ "subjects_filter": ">" });
    let info = api(connector, &format!("STREAM.INFO.KV_{bucket}"), asked).await;
    info["state"]["subjects"].clone()
}

/// The headers of a key's last message.
async fn headers(connector: &Connector, bucket: &str, key: &str) -> async_nats::HeaderMap {
    let stream = connector.jetstream().unwrap().get_stream(format!("KV_{bucket}")).await.unwrap();
    let subject = format!("$KV.{bucket}.{key}");
    stream.get_last_raw_message_by_subject(&subject).await.unwrap().headers
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_give_bucket_prefix_serializer_and_codec() {
    let server = Server::builder().jetstream().start().await;
    let settings = [
        ("NATS.DEFAULT_BUCKET", "main"),
        ("NATS.BUCKET_PREFIX", "dev_"),
        ("NATS.KEY_PREFIX", "my app"),
        ("NATS.SERIALIZER", "messagepack"),
        ("NATS.KEY_CODEC", "path"),
    ];
    let connector = connect_with(&server, &settings).await;
    let kv = connector.kv();
    kv.set("user:1", &(1, "Ada")).await.unwrap();
    assert_eq!(
        subjects(&connector, "dev_main").await,
        json!({ "$KV.dev_main.my=20app.user.1": 1 })
    );
    let stored = headers(&connector, "dev_main", "my=20app.user.1").await;
    assert_eq!(stored.get("Content-Type").unwrap().as_str(), "application/msgpack");

    kv.bucket("users").with_prefix("").set("a..b", &1).await.unwrap();
    assert_eq!(subjects(&connector, "dev_users").await, json!({ "$KV.dev_users.a=3A=3Ab": 1 }));
    // The default serializer writes no header, and a reader with another one gets what it says.
    let json = kv.clone().with_serializer(Serializer::json());
    json.set("json", &1).await.unwrap();
    assert!(headers(&connector, "dev_main", "my=20app.json").await.is_empty());
    assert_eq!(json.get::<(u32, String)>("user:1").await.unwrap(), Some((1, "Ada".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_come_before_anything_is_sent() {
    let server = Server::builder().jetstream().max_payload(2048).start().await;
    let connector = connect(&server).await;
    let kv = connector.kv().bucket("b");
    kv.set("key", &1).await.unwrap();
    let client = connector.client().unwrap();
    let sent = || client.statistics().out_messages.load(std::sync::atomic::Ordering::Relaxed);

    let before = sent();
    let spaces = " ".repeat(400);
    for (key, kind) in [("", ErrorKind::InvalidInput), (&*spaces, ErrorKind::TooLarge)] {
        assert_eq!(kv.set(key, &1).await.unwrap_err().kind(), kind);
        assert_eq!(kv.get_raw(key).await.unwrap_err().kind(), kind);
        assert_eq!(kv.replace(key, &1).await.unwrap_err().kind(), kind);
        assert_eq!(kv.delete(key).await.unwrap_err().kind(), kind);
    }
    let big = kv.bucket("new").set_raw("key", vec![0; 2049]).await.unwrap_err();
    assert_eq!(big.kind(), ErrorKind::TooLarge);
    assert!(big.to_string().contains("2048"), "{big}");
    // With its header it is one too many.
    let packed = kv.clone().with_serializer(Serializer::text());
    let big = packed.set("key", &"x".repeat(2048)).await.unwrap_err();
    assert_eq!(big.kind(), ErrorKind::TooLarge, "{big}");
    let encode = kv.clone().with_serializer(Serializer::text()).set("key", &[1, 2]).await;
    assert_eq!(encode.unwrap_err().kind(), ErrorKind::Encode);
    assert_eq!(sent(), before, "refused calls sent something");
    kv.set("key", &2).await.unwrap();
    assert!(sent() > before, "what is sent is not counted");
    assert_eq!(stream(&connector, "new").await["error"]["err_code"], 10059);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_codec_belongs_to_the_bucket() {
    let server = Server::builder().jetstream().start().await;
    let path = connect_with(&server, &[("NATS.KEY_CODEC", "path")]).await;
    let escape = connect(&server).await;
    path.kv().bucket("b").set("user:1", &1).await.unwrap();
    // Another process with another setting finds the codec that the bucket was made with.
    let bucket = escape.kv().bucket("b");
    assert_eq!(bucket.get::<u32>("user:1").await.unwrap(), Some(1));
    bucket.set("user:2", &2).await.unwrap();
    let expected = json!({ "$KV.b.user.1": 1, "$KV.b.user.2": 1 });
    assert_eq!(subjects(&escape, "b").await, expected);

    let change = BucketConfig::new("b").key_codec(KeyCodec::Raw);
    let refused = escape.kv().create_bucket(change.clone()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert_eq!(refused.context("key_codec"), Some("path"));
    api(&escape, "STREAM.PURGE.KV_b", Value::Null).await;
    let raw = escape.kv().create_bucket(change).await.unwrap();
    raw.set("user:3", &3).await.unwrap();
    assert_eq!(subjects(&escape, "b").await, json!({ "$KV.b.user:3": 1 }));
    let refused = raw.set("with space", &1).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_leave_no_heap_of_markers() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let kv = connector.kv().bucket("b");
    kv.set("key", &1).await.unwrap();
    kv.delete("key").await.unwrap();
    let marker = headers(&connector, "b", "key").await;
    assert_eq!(marker.get("KV-Operation").unwrap().as_str(), "DEL");
    assert_eq!(marker.get("Nats-TTL").unwrap().as_str(), "60");
    // Nothing is left when such a marker goes: here is one that does so at once.
    let mut short = marker.clone();
    short.insert("Nats-TTL", "1");
    let context = connector.jetstream().unwrap();
    let sent = context.publish_with_headers("$KV.b.key", short, "".into()).await.unwrap();
    sent.await.unwrap();
    eventually(Duration::from_secs(20), || async {
        stream(&connector, "b").await["state"]["messages"] == 0
    })
    .await;

    // With history the older value would come back when the marker goes: it stays.
    let kept = BucketConfig::new("kept").history(5);
    let kept = connector.kv().create_bucket(kept).await.unwrap();
    kept.set("key", &1).await.unwrap();
    kept.delete("key").await.unwrap();
    assert!(headers(&connector, "kept", "key").await.get("Nats-TTL").is_none());
    no_markers_for_missing_keys(&connector, "kept").await;
}

/// Where markers stay for ever, keys without a value get none.
async fn no_markers_for_missing_keys(connector: &Connector, bucket: &str) {
    let kv = connector.kv().bucket(bucket);
    kv.set("other", &1).await.unwrap();
    let before = stream(connector, bucket).await["state"]["messages"].clone();
    for n in 0..50 {
        kv.delete(format!("missing:{n}")).await.unwrap();
    }
    assert_eq!(stream(connector, bucket).await["state"]["messages"], before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_server_does_what_it_can() {
    for version in [Version::V2_10, Version::Debian29] {
        if !require(version) {
            continue;
        }
        let server = Server::builder().version(version).jetstream().start().await;
        let connector = connect(&server).await;
        let kv = connector.kv().bucket("b");
        kv.set("key", &1).await.unwrap();
        kv.delete("key").await.unwrap();
        assert_eq!(kv.get::<u32>("key").await.unwrap(), None);
        assert!(headers(&connector, "b", "key").await.get("Nats-TTL").is_none());
        no_markers_for_missing_keys(&connector, "b").await;

        if version == Version::Debian29 {
            for config in [
                BucketConfig::new("new").compression(true),
                BucketConfig::new("new").key_codec(KeyCodec::Path),
            ] {
                let refused = connector.kv().create_bucket(config).await.unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::Unsupported);
                let text = refused.to_string();
                assert!(text.contains("2.10 or newer; connected to 2.9"), "{text}");
            }
            assert_eq!(stream(&connector, "new").await["error"]["err_code"], 10059);
        }
    }
}

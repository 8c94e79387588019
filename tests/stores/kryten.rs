//! Buckets and values as kryten-py leaves them, read through a store.

use async_nats::HeaderMap;
use nats_connector::kv::BucketConfig;
use nats_connector::{Connector, ErrorKind, Serializer, Stores};
use serde_json::{Value, json};
use testkit::Server;
use testkit::logs::Logs;

use super::lines;

/// The values that its `kv_put` makes of Python's, by key.
const VALUES: [(&str, &[u8]); 12] = [
    ("text", b"Ada"),                                // "Ada"
    ("quoted", b"\"Ada\""),                          // json.dumps("Ada")
    ("bytes", b"\x00\xff"),                          // b"\x00\xff"
    ("json", b"{\"id\": 1, \"name\": \"\\u00e9\"}"), // as_json
    ("none", b"None"),                               // str(None)
    ("null", b"null"),                               // json.dumps(None)
    ("dict", b"{'a': 1}"),                           // str({'a': 1})
    ("int", b"42"),                                  // str(42)
    ("float", b"1.5"),                               // str(1.5)
    ("bool", b"True"),                               // str(True)
    ("nan", b"NaN"),                                 // json.dumps(float("nan"))
    ("empty", b""),                                  // ""
];

/// Makes the bucket that `get_or_create_kv_store` makes, with what was put and deleted in it.
async fn written(connector: &Connector) {
    let client = connector.client().unwrap();
    let config = json!({
        "name": "KV_users", "description": "Kryten users", "subjects": ["$KV.users.>"],
        "retention": "limits", "max_consumers": -1, "max_msgs": -1, "max_bytes": -1,
        "discard": "new", "max_age": 0, "max_msgs_per_subject": 1, "max_msg_size": 1_048_576,
        "storage": "file", "num_replicas": 1, "duplicate_window": 120_000_000_000_u64,
        "allow_rollup_hdrs": true, "allow_msg_ttl": true, "deny_delete": true,
        "allow_direct": false,
    });
    let made = client.request("$JS.API.STREAM.CREATE.KV_users", config.to_string().into()).await;
    let made: Value = serde_json::from_slice(&made.unwrap().payload).unwrap();
    assert_eq!(made["config"]["allow_direct"], false, "{made}");
    let context = connector.jetstream().unwrap();
    let colons = [("user:bob", &b"1"[..]), ("user:eve", b"2"), ("user:gone", b"3")];
    for (key, value) in VALUES.into_iter().chain(colons) {
        context.publish(format!("$KV.users.{key}"), value.into()).await.unwrap().await.unwrap();
    }
    let mut delete = HeaderMap::new();
    delete.insert("KV-Operation", "DEL");
    let deleted = context.publish_with_headers("$KV.users.user:gone", delete, "".into()).await;
    deleted.unwrap().await.unwrap();
}

#[tokio::test]
async fn its_buckets_are_read_as_they_are() {
    let server = Server::builder().jetstream().start().await;
    let (logs, _guard) = Logs::scoped();
    let text = format!("NATS.SERVER={}", server.url());
    let connector = Connector::connect(&lines(&text).build().unwrap()).await.unwrap();
    written(&connector).await;
    let before = connector.kv().bucket("users").bucket_status().await.unwrap().unwrap();

    let text = format!("{text}\nSTORES.USERS.KEY_CODEC=raw\nSTORES.USERS.SERIALIZER=text");
    let stores = Stores::from_settings(lines(&text)).unwrap();
    let kv = stores.get("users").unwrap();
    for (key, value) in VALUES {
        assert_eq!(kv.get_raw(key).await.unwrap().as_deref(), Some(value), "{key}");
    }
    let text = |key| kv.get::<String>(key);
    assert_eq!(text("text").await.unwrap().as_deref(), Some("Ada"));
    assert_eq!(text("none").await.unwrap().as_deref(), Some("None"));
    assert_eq!(text("empty").await.unwrap().as_deref(), Some(""));
    assert_eq!(text("missing").await.unwrap(), None);
    assert_eq!(kv.get::<i64>("int").await.unwrap(), Some(42));
    assert_eq!(kv.get::<f64>("float").await.unwrap(), Some(1.5));
    assert_eq!(text("bytes").await.unwrap_err().kind(), ErrorKind::Decode);
    let json = kv.clone().with_serializer(Serializer::json());
    let person: Option<Value> = json.get("json").await.unwrap();
    assert_eq!(person, Some(json!({"id": 1, "name": "é"})));
    assert_eq!(json.get::<String>("quoted").await.unwrap().as_deref(), Some("Ada"));
    assert_eq!(json.get::<Option<u32>>("null").await.unwrap(), Some(None));
    for broken in ["text", "dict", "bool", "nan", "empty"] {
        let error = json.get::<Value>(broken).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode, "{broken}");
        assert_eq!((error.context("key"), error.context("bucket")), (Some(broken), Some("users")));
    }

    // Keys with colons are subjects of their own.
    let mut keys = kv.keys_matching("user:*").await.unwrap();
    keys.sort_unstable();
    assert_eq!(keys, ["user:bob", "user:eve"]);
    assert_eq!(kv.get::<u32>("user:bob").await.unwrap(), Some(1));
    assert_eq!(kv.item_count().await.unwrap(), VALUES.len() as u64 + 2);

    // What is written here is what it reads: raw text under the same subject.
    kv.set("user:bob", "Bob").await.unwrap();
    assert!(kv.replace("user:eve", "Eve").await.unwrap().is_some());
    kv.delete("text").await.unwrap();
    let last = async |key: &str| {
        let context = connector.jetstream().unwrap();
        let stream = context.get_stream_no_info("KV_users").await.unwrap();
        stream.get_last_raw_message_by_subject(&format!("$KV.users.{key}")).await.unwrap()
    };
    assert_eq!(
        (&*last("user:bob").await.payload, &*last("user:eve").await.payload),
        (&b"Bob"[..], &b"Eve"[..])
    );
    let marker = last("text").await;
    assert_eq!(marker.headers.get("KV-Operation").unwrap().as_str(), "DEL");

    // The bucket stays as it was made, and nothing in it differs from what the store says.
    let after = kv.bucket_status().await.unwrap().unwrap();
    assert_eq!(after.config, BucketConfig::key_codec(before.config, nats_connector::KeyCodec::Raw));
    assert!(!logs.text().contains("not as its store describes it"));
}

//! A conversation with nats-py over the same buckets, both ways.

use std::path::Path;
use std::time::Duration;

use nats_connector::kv::{Event, Kv, Watcher};
use nats_connector::{Serializer, Stores};
use serde_json::{Value, json};
use testkit::{NatsPy, Server};
use tokio::time::timeout;

use super::lines;

/// The other client. Its calls block, so tests have several threads.
struct Peer(NatsPy);

impl Peer {
    fn start(server: &Server) -> Option<Peer> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stores/nats_py.py");
        testkit::require_nats_py().then(|| Peer(NatsPy::start(&script, &[&server.url()])))
    }

    fn ask(&mut self, request: &Value) -> Value {
        let mut answer = self.0.ask(request);
        assert!(answer.get("error").is_none(), "{request}: {answer}");
        answer["ok"].take()
    }

    fn put(&mut self, bucket: &str, key: &str, value: impl AsRef<[u8]>) -> u64 {
        let value = hex(value.as_ref());
        let put = json!({"call": "put", "bucket": bucket, "key": key, "value": value});
        self.ask(&put).as_u64().unwrap()
    }

    fn get(&mut self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        let answer = self.ask(&json!({"call": "get", "bucket": bucket, "key": key}));
        answer.get("value").map(|value| unhex(value.as_str().unwrap()))
    }

    fn keys(&mut self, bucket: &str) -> Value {
        self.ask(&json!({"call": "keys", "bucket": bucket}))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = (0..text.len()).step_by(2).map(|at| &text[at..at + 2]);
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn stores(server: &Server, text: &str) -> Stores {
    Stores::from_settings(lines(&format!("NATS.SERVER={}\n{text}", server.url()))).unwrap()
}

async fn sorted_keys(kv: &Kv) -> Vec<String> {
    let mut keys = kv.keys().await.unwrap();
    keys.sort_unstable();
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn values_go_both_ways() {
    let server = Server::builder().jetstream().start().await;
    let Some(mut peer) = Peer::start(&server) else { return };
    let stores = stores(
        &server,
        "STORES.TEXT.BUCKET=shared\nSTORES.TEXT.SERIALIZER=text\nSTORES.JSON.BUCKET=shared\n\
         STORES.OURS.HISTORY=3",
    );
    let (text, json) = (stores.get("text").unwrap(), stores.get("json").unwrap());
    let created = peer
        .ask(&json!({"call": "get_or_create", "bucket": "shared", "max_value_size": 1_048_576}));
    assert_eq!(created, true);

    // Theirs, read here.
    let first = peer.put("shared", "name", "Ädä");
    peer.put("shared", "bytes", [0, 255, 10]);
    peer.put("shared", "empty", "");
    peer.put("shared", "order", r#"{"id": 1, "tags": ["a", "\u00e9"], "none": null}"#);
    assert_eq!(text.get::<String>("name").await.unwrap().as_deref(), Some("Ädä"));
    assert_eq!(text.entry_raw("name").await.unwrap().unwrap().revision, first);
    assert_eq!(text.get_raw("bytes").await.unwrap().as_deref(), Some(&[0, 255, 10][..]));
    assert_eq!(text.get_raw("empty").await.unwrap().as_deref(), Some(&b""[..]));
    let order: Option<Value> = json.get("order").await.unwrap();
    assert_eq!(order, Some(json!({"id": 1, "tags": ["a", "é"], "none": null})));

    // Ours, read there.
    text.set("city", "Köln").await.unwrap();
    json.set("point", &json!({"x": 1.5})).await.unwrap();
    json.set_raw("blob", vec![7, 0, 200]).await.unwrap();
    json.set_raw("nothing", "").await.unwrap();
    text.set("lease", "short").ttl(Duration::from_secs(3600)).await.unwrap();
    for (key, value) in [
        ("city", "Köln".as_bytes()),
        ("point", br#"{"x":1.5}"#),
        ("blob", &[7, 0, 200]),
        ("nothing", b""),
        ("lease", b"short"),
    ] {
        assert_eq!(peer.get("shared", key).as_deref(), Some(value), "{key}");
    }
    let all = ["blob", "bytes", "city", "empty", "lease", "name", "nothing", "order", "point"];
    assert_eq!(sorted_keys(&text).await, all);
    assert_eq!(peer.keys("shared"), json!(all));

    // Deletes and purges.
    peer.ask(&json!({"call": "delete", "bucket": "shared", "key": "name"}));
    peer.ask(&json!({"call": "purge", "bucket": "shared", "key": "bytes"}));
    text.delete("city").await.unwrap();
    text.purge("blob").await.unwrap();
    for gone in ["name", "bytes", "city", "blob"] {
        assert_eq!(text.get_raw(gone).await.unwrap(), None, "{gone}");
        assert_eq!(peer.get("shared", gone), None, "{gone}");
    }
    let left = ["empty", "lease", "nothing", "order", "point"];
    assert_eq!(sorted_keys(&text).await, left);
    assert_eq!(peer.keys("shared"), json!(left));

    // Each sees the other's conditions: create over a delete, and a revision that has passed.
    assert!(text.create("name", "new").await.is_ok());
    let create = json!({"call": "create", "bucket": "shared", "key": "name", "value": "00"});
    assert_eq!(peer.ask(&create), Value::Null);
    let create =
        json!({"call": "create", "bucket": "shared", "key": "city", "value": hex(b"Bonn")});
    let revision = peer.ask(&create).as_u64().unwrap();
    assert!(text.create("city", "x").await.unwrap_err().is_already_exists());
    let newer = text.set("city", "Trier").if_revision(revision).await.unwrap();
    let update = json!({"call": "update", "bucket": "shared", "key": "city", "value": "00", "last": revision});
    assert_eq!(peer.ask(&update), Value::Null);
    let update = json!({"call": "update", "bucket": "shared", "key": "city", "value": hex(b"Ulm"), "last": newer});
    assert!(peer.ask(&update).as_u64().unwrap() > newer);
    assert_eq!(text.get::<String>("city").await.unwrap().as_deref(), Some("Ulm"));

    // A bucket that is made here, with its history; and one key that it escapes.
    let ours = stores.get("ours").unwrap();
    for value in 1..=2 {
        ours.set("count", &value).await.unwrap();
    }
    peer.put("ours", "count", "3");
    assert_eq!(ours.increment("count", 4).await.unwrap(), 7);
    let history = peer.ask(&json!({"call": "history", "bucket": "ours", "key": "count"}));
    assert_eq!(history, json!([[null, hex(b"2")], [null, hex(b"3")], [null, hex(b"7")]]));
    ours.set("user:1", &1).await.unwrap();
    assert_eq!(peer.keys("ours"), json!(["count", "user=3A1"]));
    peer.put("ours", "user=3A2", "2");
    assert_eq!(ours.get::<u32>("user:2").await.unwrap(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_colons_are_one_key_for_both() {
    let server = Server::builder().jetstream().start().await;
    let Some(mut peer) = Peer::start(&server) else { return };
    let stores = stores(&server, "STORES.USERS.KEY_CODEC=raw\nSTORES.USERS.SERIALIZER=text");
    let kv = stores.get("users").unwrap();
    peer.ask(&json!({"call": "create_bucket", "bucket": "users"}));
    let put = json!({"call": "put", "bucket": "users", "key": "user:bob", "value": hex(b"Bob"), "validate": false});
    peer.ask(&put);
    assert_eq!(kv.get::<String>("user:bob").await.unwrap().as_deref(), Some("Bob"));
    kv.set("user:eve", "Eve").await.unwrap();
    let get = json!({"call": "get", "bucket": "users", "key": "user:eve", "validate": false});
    assert_eq!(peer.ask(&get)["value"], hex(b"Eve"));
    assert_eq!(peer.keys("users"), json!(["user:bob", "user:eve"]));
    assert_eq!(sorted_keys(&kv).await, ["user:bob", "user:eve"]);
    assert_eq!(kv.keys_matching("*:bob").await.unwrap(), ["user:bob"]);
}

/// An event in the form in which the other client tells it.
async fn next(watch: &mut Watcher) -> Value {
    let event = timeout(Duration::from_secs(20), futures::StreamExt::next(watch)).await;
    match event.unwrap().unwrap().unwrap() {
        Event::Put(put) => json!([null, put.key, hex(&put.value), put.revision]),
        Event::Deleted { key, revision } => json!(["DEL", key, "", revision]),
        Event::Purged { key, revision } => json!(["PURGE", key, "", revision]),
        Event::Current => Value::Null,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_watches_tell_the_same() {
    let server = Server::builder().jetstream().start().await;
    let Some(mut peer) = Peer::start(&server) else { return };
    let stores = stores(&server, "STORES.SHARED.SERIALIZER=text");
    let kv = stores.get("shared").unwrap().with_serializer(Serializer::text());
    peer.ask(&json!({"call": "create_bucket", "bucket": "shared"}));
    peer.put("shared", "a", "1");
    kv.set("b", "2").await.unwrap();

    peer.ask(&json!({"call": "watch", "bucket": "shared", "keys": ">"}));
    let mut watch = kv.watch_all().await.unwrap();
    let mut expect = async |peer: &mut Peer, events: &[Value]| {
        for expected in events {
            assert_eq!(next(&mut watch).await, *expected);
            assert_eq!(peer.ask(&json!({"call": "next", "bucket": "shared"})), *expected);
        }
    };
    let initial = [json!([null, "a", hex(b"1"), 1]), json!([null, "b", hex(b"2"), 2]), Value::Null];
    expect(&mut peer, &initial).await;

    let revision = peer.put("shared", "c", "3");
    expect(&mut peer, &[json!([null, "c", hex(b"3"), revision])]).await;
    let revision = kv.set("a", "4").await.unwrap();
    expect(&mut peer, &[json!([null, "a", hex(b"4"), revision])]).await;
    peer.ask(&json!({"call": "delete", "bucket": "shared", "key": "a"}));
    expect(&mut peer, &[json!(["DEL", "a", "", revision + 1])]).await;
    kv.delete("b").await.unwrap();
    expect(&mut peer, &[json!(["DEL", "b", "", revision + 2])]).await;
    peer.ask(&json!({"call": "purge", "bucket": "shared", "key": "c"}));
    expect(&mut peer, &[json!(["PURGE", "c", "", revision + 3])]).await;
    kv.set("c", "5").await.unwrap();
    kv.purge("c").await.unwrap();
    expect(
        &mut peer,
        &[json!([null, "c", hex(b"5"), revision + 4]), json!(["PURGE", "c", "", revision + 5])],
    )
    .await;
}

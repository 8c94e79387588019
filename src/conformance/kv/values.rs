//! Values and keys of any kind come back as they were.

use super::*;

/// Typed and raw values come back as they were, empty ones and JSON `null` too.
pub async fn values(kv: &Kv) {
    let kv = kv.bucket(unique("values"));
    ok("set a struct", kv.set("user", &user("Ada")).await);
    same("get a struct", kv.get("user").await, &Some(user("Ada")));
    let stored = ok("get a struct's bytes", kv.get_raw("user").await);
    let decoded = stored.and_then(|bytes| serde_json::from_slice::<User>(&bytes).ok());
    assert_eq!(decoded, Some(user("Ada")), "a struct is stored as JSON");

    ok("set a str", kv.set("text", "plain").await);
    same("get a String", kv.get("text").await, &Some("plain".to_owned()));

    ok("set null", kv.set("null", &None::<u8>).await);
    same("get null", kv.get::<Option<u8>>("null").await, &Some(None));
    same("null exists", kv.exists("null").await, &true);

    ok("set no bytes", kv.set_raw("empty", "").await);
    same("get no bytes", kv.get_raw("empty").await, &Some(Bytes::new()));
    same("no bytes exist", kv.exists("empty").await, &true);

    let bytes: Bytes = (0..=255).collect::<Vec<u8>>().into();
    ok("set bytes", kv.set_raw("bytes", bytes.clone()).await);
    same("get bytes", kv.get_raw("bytes").await, &Some(bytes));
    refused("get what is no JSON", ErrorKind::Decode, kv.get::<User>("bytes").await);
    same("bytes stay after that", kv.exists("bytes").await, &true);
}

/// Any text is a key, and no two keys are one.
pub async fn keys(kv: &Kv) {
    let kv = kv.bucket(unique("keys"));
    let longest = "k".repeat(MAX_KEY_LEN);
    let keys = [
        "user:1",
        "user=3A1",
        "user=3D3A1",
        "user.1",
        "user/1",
        "session:abc",
        "a=b",
        "a=3D",
        "=",
        "=41",
        "A",
        "a b",
        " ",
        "a\tb",
        "a\nb",
        "a\0b",
        "a..b",
        "a.b",
        ".a",
        "a.",
        ".",
        "..",
        "*",
        ">",
        "a.*",
        "a.>",
        "$KV",
        "é",
        "e\u{301}",
        "😀",
        "%20",
        "\\",
        "\"",
        "_",
        "-",
        "KEY",
        "key",
        &longest,
    ];
    for key in keys {
        ok(&format!("set {key:?}"), kv.set(key, key).await);
    }
    for key in keys {
        same(&format!("get {key:?}"), kv.get(key).await, &Some(key.to_owned()));
    }
    for key in keys {
        ok(&format!("delete {key:?}"), kv.delete(key).await);
        same(&format!("{key:?} after its delete"), kv.exists(key).await, &false);
    }
}

/// Missing keys and missing buckets are misses, and reading creates nothing.
pub async fn missing(kv: &Kv) {
    let kv = kv.bucket(unique("missing"));
    let compares = capabilities(&kv).await.compare_and_set;
    for state in ["no bucket", "an empty key space"] {
        same(&format!("get: {state}"), kv.get::<User>("nothing").await, &None);
        same(&format!("get_raw: {state}"), kv.get_raw("nothing").await, &None);
        same(&format!("exists: {state}"), kv.exists("nothing").await, &false);
        if compares {
            same(&format!("replace: {state}"), kv.replace("nothing", &1).await, &None);
        }
        ok(&format!("delete: {state}"), kv.delete("nothing").await);
        ok("set another key", kv.set("other", &1).await);
    }
    same("replace stored nothing", kv.exists("nothing").await, &false);
}

/// Prefixes are namespaces of one bucket.
pub async fn prefixes(kv: &Kv) {
    let kv = kv.bucket(unique("prefixes"));
    let names = ["", "app", "app:two", "a b", "app=3Atwo"];
    for (n, name) in names.into_iter().enumerate() {
        ok("set under a prefix", kv.clone().with_prefix(name).set("user:1", &n).await);
    }
    for (n, name) in names.into_iter().enumerate() {
        let step = format!("get under the prefix {name:?}");
        same(&step, kv.clone().with_prefix(name).get("user:1").await, &Some(n));
    }
    let app = kv.clone().with_prefix("app");
    ok("delete under a prefix", app.delete("user:1").await);
    same("gone there", app.exists("user:1").await, &false);
    same("not elsewhere", kv.exists("user:1").await, &true);
    same("a prefix is replaced", app.with_prefix("").exists("user:1").await, &true);
}

/// Values are read with the serializer that wrote them, where the store keeps which that was.
pub async fn serializers(kv: &Kv) {
    let json = kv.bucket(unique("serializers"));
    let packed = json.clone().with_serializer(Serializer::message_pack());
    let text = json.clone().with_serializer(Serializer::text());
    ok("set packed", packed.set("packed", &user("Ada")).await);
    same("get packed", packed.get("packed").await, &Some(user("Ada")));
    ok("set text", text.set("text", "plain").await);
    same("get text", text.get("text").await, &Some("plain".to_owned()));
    same("text is stored raw", json.get_raw("text").await, &Some(Bytes::from("plain")));
    ok("set_raw", text.set_raw("raw", "\"quoted\"").await);
    same("raw bytes: own serializer", json.get("raw").await, &Some("quoted".to_owned()));
    same("raw bytes: own serializer", text.get("raw").await, &Some("\"quoted\"".to_owned()));
    let capabilities = capabilities(&json).await;
    if !capabilities.content_type {
        return;
    }
    for (name, reader) in [("json", &json), ("packed", &packed), ("text", &text)] {
        let step = format!("{name} reads what was packed");
        same(&step, reader.get("packed").await, &Some(user("Ada")));
        let step = format!("{name} reads text");
        same(&step, reader.get("text").await, &Some("plain".to_owned()));
    }
    if capabilities.compare_and_set {
        ok("replace packed by JSON", json.replace("packed", &user("Grace")).await);
        same("the JSON handle reads it", json.get("packed").await, &Some(user("Grace")));
    }
    if capabilities.ttl {
        ok("set packed", packed.set("kept", &user("Ada")).await);
        same("touch it", json.touch("kept", LIMIT * 6).await, &true);
        same("it stays packed", json.get("kept").await, &Some(user("Ada")));
    }
}

/// Entries tell revision and age; a default is for a miss alone.
pub async fn entries(kv: &Kv) {
    let kv = kv.bucket(unique("entries"));
    same("the entry of nothing", kv.entry::<u32>("key").await, &None);
    same("the raw entry of nothing", kv.entry_raw("key").await, &None);
    same("get or", kv.get_or("key", 7).await, &7);
    same("nothing with its end", kv.get_with_expiration::<u32>("key").await, &None);
    same("no bytes with their end", kv.get_raw_with_expiration("key").await, &None);

    // Clocks of two machines are never the same.
    let slack = Duration::from_secs(5);
    let before = SystemTime::now() - slack;
    let revision = ok("set", kv.set("key", &1).await);
    let after = SystemTime::now() + slack;
    let Some(entry) = ok("entry", kv.entry::<u32>("key").await) else {
        panic!("the entry is not there")
    };
    assert_eq!((entry.value, entry.revision), (1, revision), "an entry is what was written");
    assert_eq!(entry.expires, None, "it does not end");
    if let Some(created) = entry.created {
        assert!(created >= before && created <= after, "it was made at {created:?}");
    }
    let bytes = ok("raw entry", kv.entry_raw("key").await);
    let bytes = bytes.map(|entry| (entry.value, entry.revision));
    assert_eq!(bytes, Some((Bytes::from("1"), revision)), "so are its bytes");
    same("get or what is there", kv.get_or("key", 7).await, &1);
    same("with its end", kv.get_with_expiration("key").await, &Some((1, None)));
    let bytes = Some((Bytes::from("1"), None));
    same("bytes with their end", kv.get_raw_with_expiration("key").await, &bytes);
    refused("get a text or", ErrorKind::Decode, kv.get_or("key", "text".to_owned()).await);
    refused("an entry of another type", ErrorKind::Decode, kv.entry::<String>("key").await);
}

//! Data as lokstra's `kvstore_redis` leaves it, read and written through stores.

use std::time::{Duration, SystemTime};

use nats_connector::{ErrorKind, Stores};
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use testkit::Redis;

use super::lines;

/// What its `Set(ctx, key, value, ttl)` stores, by key: JSON, also for strings and bytes.
const VALUES: [(&str, &str); 6] = [
    ("user:123", r#"{"Id":123,"Name":"Ada \u003cB\u003e"}"#),
    ("user:123:profile", r#""plain text""#),
    ("user:124", r#""AAH/""#), // []byte{0, 1, 255}
    ("count", "42"),
    ("nothing", "null"),
    ("empty", r#""""#),
];

async fn other_program(server: &Redis) -> MultiplexedConnection {
    let client = redis::Client::open(server.url()).unwrap();
    let config = redis::AsyncConnectionConfig::new();
    let config = config.set_response_timeout(Some(Duration::from_secs(30)));
    client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

async fn ask<T: redis::FromRedisValue>(other: &mut MultiplexedConnection, words: &[&str]) -> T {
    redis::cmd(words[0]).arg(&words[1..]).query_async(other).await.unwrap()
}

/// A store with its prefix, as it is where none is set.
fn stores(server: &Redis, more: &str) -> Stores {
    let text = format!(
        "STORES.USERS.DRIVER=redis\nSTORES.USERS.ADDR={}\nSTORES.USERS.PREFIX=kv\n{more}",
        server.address()
    );
    Stores::from_settings(lines(&text)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn its_data_is_read_as_it_is() {
    if !testkit::require_redis() {
        return;
    }
    let server = Redis::builder().start().await;
    let mut other = other_program(&server).await;
    for (key, value) in VALUES {
        let _: () = ask(&mut other, &["SET", &format!("kv:{key}"), value]).await;
    }
    let _: () = ask(&mut other, &["SET", "kv:otp:ada", "\"123456\"", "EX", "300"]).await;
    let _: () = ask(&mut other, &["SET", "other:user:1", "\"not in this store\""]).await;

    let stores = stores(&server, "");
    let kv = stores.get("users").unwrap();
    let user: Option<Value> = kv.get("user:123").await.unwrap();
    assert_eq!(user, Some(json!({"Id": 123, "Name": "Ada <B>"})));
    assert_eq!(kv.get::<String>("user:123:profile").await.unwrap().as_deref(), Some("plain text"));
    assert_eq!(kv.get::<String>("user:124").await.unwrap().as_deref(), Some("AAH/"));
    assert_eq!(kv.get::<u32>("count").await.unwrap(), Some(42));
    assert_eq!(kv.get::<Option<u32>>("nothing").await.unwrap(), Some(None));
    assert_eq!(kv.get::<String>("empty").await.unwrap().as_deref(), Some(""));
    assert_eq!(kv.get::<String>("missing").await.unwrap(), None);
    let error = kv.get::<u32>("user:123").await.unwrap_err();
    assert_eq!((error.kind(), error.context("key")), (ErrorKind::Decode, Some("user:123")));

    // Its lifetimes are told, and `take` gives a password away once.
    let (code, end) = kv.get_with_expiration::<String>("otp:ada").await.unwrap().unwrap();
    let left = end.unwrap().duration_since(SystemTime::now()).unwrap();
    assert!(code == "123456" && left <= Duration::from_secs(301), "{code} {left:?}");
    let takes = (0..16).map(|_| tokio::spawn(kv.take::<String>("otp:ada")));
    let takes = futures::future::join_all(takes.collect::<Vec<_>>()).await;
    assert_eq!(
        takes
            .into_iter()
            .filter(|taken| taken.as_ref().unwrap().as_ref().unwrap().is_some())
            .count(),
        1
    );

    let mut keys = kv.keys_matching("user:*").await.unwrap();
    keys.sort_unstable();
    assert_eq!(keys, ["user:123", "user:123:profile", "user:124"]);
    assert_eq!(kv.item_count().await.unwrap(), VALUES.len() as u64);

    // What is written here is what it reads.
    kv.set("user:125", &json!({"Id": 125})).ttl(Duration::from_secs(100)).await.unwrap();
    kv.set("name", "Ada").await.unwrap();
    assert_eq!(kv.increment("count", 1).await.unwrap(), 43);
    let stored: String = ask(&mut other, &["GET", "kv:user:125"]).await;
    let left: i64 = ask(&mut other, &["TTL", "kv:user:125"]).await;
    assert!(stored == r#"{"Id":125}"# && (1..=100).contains(&left), "{stored} {left}");
    assert_eq!(ask::<String>(&mut other, &["GET", "kv:name"]).await, r#""Ada""#);
    assert_eq!(ask::<String>(&mut other, &["GET", "kv:count"]).await, "43");

    // And the other way round again: it overwrites and deletes.
    let _: () = ask(&mut other, &["SET", "kv:name", "\"Grace\""]).await;
    let _: () = ask(&mut other, &["DEL", "kv:user:125"]).await;
    assert_eq!(kv.get::<String>("name").await.unwrap().as_deref(), Some("Grace"));
    assert_eq!(kv.get::<Value>("user:125").await.unwrap(), None);

    assert_eq!(kv.delete_matching("user:*").await.unwrap(), 3);
    kv.flush().await.unwrap();
    assert_eq!(ask::<Vec<String>>(&mut other, &["KEYS", "kv:*"]).await, [""; 0]);
    let kept: String = ask(&mut other, &["GET", "other:user:1"]).await;
    assert_eq!(kept, "\"not in this store\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_share_a_pool_until_they_are_closed() {
    if !testkit::require_redis() {
        return;
    }
    let server = Redis::builder().password("s3cr3t").start().await;
    let address = server.address();
    let wrong = lines(&format!("STORES.S.DRIVER=redis\nSTORES.S.ADDR={address}"));
    let wrong = Stores::from_settings(wrong).unwrap().get("s").unwrap();
    let error = wrong.get_raw("k").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.context("store")),
        (ErrorKind::Unauthorized, Some("s")),
        "{error}"
    );

    let text = format!(
        "STORES.A.DRIVER=redis\nSTORES.A.ADDR={address}\nSTORES.A.PASSWORD=s3cr3t\nSTORES.A.PREFIX=a\n\
         STORES.B.DRIVER=redis\nSTORES.B.ADDR={address}\nSTORES.B.PASSWORD=s3cr3t\nSTORES.B.BUCKET=b\n\
         STORES.B.TTL=1h\nSTORES.C.DRIVER=redis\nSTORES.C.ADDR={address}\nSTORES.C.PASSWORD=s3cr3t\n\
         STORES.C.DB=1\nSTORES.C.PREFIX=a"
    );
    let stores = Stores::from_settings(lines(&text)).unwrap();
    let shown = format!("{stores:?}");
    assert!(shown.matches("redis").count() == 2 && !shown.contains("s3cr3t"), "{shown}");
    let handle = |name| stores.get(name).unwrap();
    for name in ["a", "b", "c"] {
        handle(name).set("k", name).await.unwrap();
    }
    for name in ["a", "b", "c"] {
        assert_eq!(handle(name).get::<String>("k").await.unwrap().as_deref(), Some(name));
    }
    // The bucket's own lifetime, as the store describes it.
    let (_, end) = handle("b").get_raw_with_expiration("k").await.unwrap().unwrap();
    let left = end.unwrap().duration_since(SystemTime::now()).unwrap();
    assert!((Duration::from_secs(3000)..=Duration::from_secs(3601)).contains(&left), "{left:?}");

    let kept = handle("a");
    stores.close().await;
    assert!(kept.get_raw("k").await.unwrap_err().is_closed());
}

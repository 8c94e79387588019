//! Where stores come from: files of every format, environment, arguments, code.

use std::time::Duration;

use nats_connector::kv::{KeyCodec, Storage};
use nats_connector::stores::{StoreConfig, StoreSettings};
use nats_connector::{ErrorKind, Format, Settings, SettingsBuilder, Stores};

use super::{lines, stores};

/// The store as an own driver's factory gets it, which is never opened otherwise.
async fn settings_of(sources: SettingsBuilder, name: &str) -> StoreSettings {
    let (tell, told) = std::sync::mpsc::channel();
    let stores = Stores::builder().settings(sources).register_driver("probe", move |settings| {
        let told = tell.send(settings);
        async move {
            told.unwrap();
            Ok(nats_connector::kv::MemoryDriver::new())
        }
    });
    let kv = stores.build().unwrap().get(name).unwrap();
    assert_eq!(kv.get_raw("key").await.unwrap(), None);
    told.try_recv().unwrap()
}

const YAML: &str = "\
stores:
  user_cache:
    driver: probe
    ttl: 1h 30m
    history: 5
    replicas: 3
    storage: memory
    max_bytes: 64MiB
    key-codec: path
    prefix: ${PREFIX:users}
    endpoint: https://example
    pool:
      size-limit: $${7
  plain:
";
const TOML: &str = "\
[stores.user_cache]
driver = 'probe'
ttl = '1h 30m'
history = 5
replicas = 3
storage = 'memory'
max_bytes = '64MiB'
key_codec = 'path'
prefix = '${PREFIX:users}'
endpoint = 'https://example'
pool = { 'size-limit' = '$${7' }
[stores.plain]
";
const JSON: &str = r#"{"stores": {
    "user_cache": {"driver": "probe", "ttl": "1h 30m", "history": 5, "replicas": 3,
        "storage": "memory", "max_bytes": "64MiB", "keyCodec": "", "key_codec": "path",
        "prefix": "${PREFIX:users}", "endpoint": "https://example",
        "pool": {"size-limit": "$${7"}},
    "plain": {}
}}"#;
const LINES: &str = "\
STORES.USER_CACHE.DRIVER=probe
stores.user-cache.ttl=1h 30m
STORES_USER_CACHE_HISTORY=5
STORES.USER_CACHE_REPLICAS=3
STORES.user_cache.STORAGE=memory
STORES.USER_CACHE.MAX_BYTES=67108864
STORES.USER_CACHE.KEY_CODEC=path
STORES.USER_CACHE.PREFIX=${PREFIX:users}
STORES.USER_CACHE.ENDPOINT=https://example
STORES_USER_CACHE_POOL_SIZE_LIMIT=$${7
STORES.PLAIN=
";

#[tokio::test]
async fn every_format_says_the_same() {
    for (format, text) in
        [(Format::Yaml, YAML), (Format::Toml, TOML), (Format::Json, JSON), (Format::Lines, LINES)]
    {
        let sources = Settings::builder().text("settings", format, text);
        let names = Stores::builder()
            .settings(sources.clone())
            .register_driver("probe", |_| async { Ok(nats_connector::kv::MemoryDriver::new()) });
        assert_eq!(names.build().unwrap().names(), ["plain", "user_cache"], "{format:?}");
        let store = settings_of(sources, "user_cache").await;
        assert_eq!((store.name(), store.driver()), ("user_cache", "probe"), "{format:?}");
        let bucket = store.bucket();
        assert_eq!(bucket.name(), "user_cache");
        let expected = nats_connector::kv::BucketConfig::new("user_cache")
            .ttl(Duration::from_secs(5400))
            .history(5)
            .replicas(3)
            .storage(Storage::Memory)
            .max_bytes(64 << 20)
            .key_codec(KeyCodec::Path);
        assert_eq!(*bucket, expected, "{format:?}");
        assert_eq!(store.field("prefix"), Some("users"), "{format:?}");
        assert_eq!(store.field("Endpoint"), Some("https://example"), "{format:?}");
        assert_eq!(store.field("pool.size_limit"), Some("${7"), "{format:?}");
        assert_eq!(store.field("none"), None);
        assert!(store.fields().any(|field| field == "POOL_SIZE_LIMIT"), "{format:?}");
    }
}

#[test]
fn names_compare_without_case() {
    let sources = Settings::builder().text("settings.yml", Format::Yaml, YAML);
    let sources = sources.set("STORES.user_cache.driver", "memory");
    let error = Stores::from_settings(sources.clone()).unwrap_err().to_string();
    assert!(error.contains("endpoint"), "{error}");

    let stores = stores("STORES.User-Cache.DRIVER=memory\nSTORES.B.DRIVER=memory");
    assert_eq!(stores.names(), ["b", "user_cache"]);
    for name in ["user_cache", "USER-CACHE", "user.cache"] {
        assert!(stores.get(name).is_ok(), "{name}");
    }
    let error = stores.get("users").unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(
        error.to_string(),
        "get store: no such store; there are b, user_cache (store=users)"
    );
    let none = Stores::builder().build().unwrap();
    assert!(none.names().is_empty());
    let error = none.get("é").unwrap_err();
    assert!(
        error.is_not_found() && error.to_string().contains("no stores are configured"),
        "{error}"
    );
}

#[tokio::test]
async fn later_sources_win_field_by_field() {
    let sources = lines(
        "STORES.S.DRIVER=probe\nSTORES.S.TTL=1s\nSTORES.S.HISTORY=2\nSTORES.S.REPLICAS=1\n\
         STORES.S.PREFIX=file\nSTORES.S.OWN=file",
    )
    .text("second.conf", Format::Lines, "STORES.S.TTL=2s")
    .env_from([("STORES_S_TTL", "3s"), ("STORES_S_HISTORY", "3"), ("STORES_S_OWN", "env")])
    .args_from(["--STORES.S.TTL=4s", "--stores-s-replicas", "4", "STORES.S.PREFIX="])
    .set("STORES.S.TTL", "5s");
    let store = settings_of(sources.clone(), "s").await;
    let expected = nats_connector::kv::BucketConfig::new("s");
    let expected = expected.ttl(Duration::from_secs(5)).history(3).replicas(4);
    assert_eq!(*store.bucket(), expected);
    assert_eq!((store.field("prefix"), store.field("own")), (None, Some("env")));

    let config = StoreConfig::new().ttl(Duration::from_millis(1500)).bucket("b");
    let (tell, told) = std::sync::mpsc::channel();
    let stores = Stores::builder()
        .settings(sources)
        .store("S", config)
        .register_driver("probe", move |settings: StoreSettings| {
            let told = tell.send(settings.bucket().clone());
            async move {
                told.map(|()| nats_connector::kv::MemoryDriver::new()).map_err(|_| unreachable!())
            }
        })
        .build()
        .unwrap();
    stores.get("s").unwrap().get_raw("key").await.unwrap();
    let expected = nats_connector::kv::BucketConfig::new("b");
    let expected = expected.ttl(Duration::from_millis(1500)).history(3).replicas(4);
    assert_eq!(told.try_recv().unwrap(), expected);
}

#[test]
fn the_environment_alone_names_a_store_by_its_driver() {
    // What a cluster sets for a service called `stores`.
    let others = [
        ("STORES_SERVICE_HOST", "10.0.0.1"),
        ("STORES_PORT", "tcp://10.0.0.1:80"),
        ("STORES_PORT_80_TCP_ADDR", "10.0.0.1"),
    ];
    let sources = Settings::builder().env_from(others).env_from([
        ("STORES_USER_CACHE_DRIVER", "memory"),
        ("STORES_USER_CACHE_TTL", "1h"),
        ("STORES_USER_CACHE_TLT", "1h"),
    ]);
    let stores = Stores::from_settings(sources).unwrap();
    assert_eq!(stores.names(), ["user_cache"]);
    let [warning] = stores.warnings() else { panic!("{:?}", stores.warnings()) };
    for name in others.iter().map(|(name, _)| *name).chain(["STORES_USER_CACHE_TLT"]) {
        assert!(warning.contains(name), "{warning}");
    }
    assert!(warning.contains("(did you mean STORES_USER_CACHE_TTL?)"), "{warning}");
}

#[test]
fn connector_settings_and_stores_share_their_sources() {
    let sources = Settings::builder()
        .set("NATS.SERVER", "memory:")
        .set("STORES.A.TTL", "1s")
        .set("AUDIT.SERVER", "memory:")
        .set("STORES.B.DOMAIN", "AUDIT");
    assert_eq!(Stores::from_settings(sources).unwrap().names(), ["a", "b"]);
    // Settings leave keys of stores alone, and still tell a slip.
    let settings = Settings::builder().set("STORES.A.TTL", "1s").build().unwrap();
    assert_eq!(settings, Settings::builder().build().unwrap());
    assert!(Settings::builder().set("STORE.A.TTL", "1s").build().is_err());
    for name in ["STORES", "stores_a"] {
        let error = Settings::domain(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSettings);
        assert!(error.to_string().contains("would be keys of STORES"), "{error}");
    }
}

#[tokio::test]
async fn code_alone_makes_stores() {
    let ours = StoreConfig::new()
        .driver("memory")
        .bucket("b")
        .prefix("p")
        .serializer(nats_connector::Serializer::text())
        .key_codec(KeyCodec::Path)
        .ttl(Duration::from_millis(1500))
        .history(2)
        .replicas(1)
        .storage(Storage::Memory)
        .max_bytes(1 << 20);
    let stores = Stores::builder()
        .store("ours", ours)
        .store("plain", StoreConfig::new())
        .store("other", StoreConfig::new().domain("nats"))
        .build()
        .unwrap();
    assert_eq!(stores.names(), ["other", "ours", "plain"]);
    let kv = stores.get("ours").unwrap();
    kv.set("k", "plain").await.unwrap();
    assert_eq!(kv.get_raw("k").await.unwrap().as_deref(), Some(&b"plain"[..]));
    let described = nats_connector::kv::BucketConfig::new("b")
        .key_codec(KeyCodec::Path)
        .ttl(Duration::from_millis(1500))
        .history(2)
        .replicas(1)
        .storage(Storage::Memory)
        .max_bytes(1 << 20);
    let found = kv.get_or_create_bucket(described).await.unwrap();
    assert!(!found.made && found.differences.is_empty(), "{:?}", found.differences);
    let shown = format!("{kv:?}");
    assert!(shown.contains("\"b\"") && shown.contains("\"p\""), "{shown}");
}

#[test]
fn every_field_is_described_once() {
    let markdown = Stores::keys_markdown();
    let reference = Settings::reference_conf();
    for key in Stores::keys() {
        assert!(key.meaning().ends_with('.'), "{}", key.name());
        assert_eq!(markdown.matches(&format!("| `{}` |", key.name())).count(), 1, "{}", key.name());
        let line = key.name().replace("<NAME>", "USER_CACHE");
        assert_eq!(reference.matches(&format!("#{line}=")).count(), 1, "{}", key.name());
    }
    assert_eq!(markdown.lines().count(), Stores::keys().len() + 2);
    assert!(markdown.lines().all(|line| line.matches('|').count() == 5), "{markdown}");
    assert!(Stores::keys().iter().any(|key| key.name().ends_with(".PASSWORD") && key.is_secret()));

    // The defaults in reference.conf are the defaults, driver by driver.
    let active: Vec<&str> = reference.lines().filter_map(|l| l.strip_prefix("#STORES.")).collect();
    assert_eq!(active.len(), Stores::keys().len());
    let nats = active.iter().take_while(|line| !line.starts_with("USER_CACHE.ADDR"));
    let text = nats.map(|line| format!("STORES.{line}\n")).collect::<String>();
    assert_eq!(stores(&text).names(), ["user_cache"]);
}

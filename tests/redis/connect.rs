//! Who is let in, and what is said of those who are not.

use std::time::{Duration, Instant};

use nats_connector::kv::{Kv, RedisConfig, RedisDriver};
use nats_connector::{ErrorKind, Secret};
use testkit::{Authority, Proxy, Redis, require_redis};

use super::{LIMIT, ask, connect, other_program, start};

async fn refused(config: RedisConfig) -> (ErrorKind, String) {
    let error = RedisDriver::connect(config).await.expect_err("a refusal");
    (error.kind(), error.to_string())
}

#[tokio::test]
async fn by_password() {
    if !require_redis() {
        return;
    }
    let server = Redis::builder().password("right").start().await;
    let config = || RedisConfig::new(server.url());
    let (_, kv) = connect(config().password(Secret::new("right"))).await;
    kv.set("key", &1).await.unwrap();
    let in_url = server.url().replace("://", "://:right@");
    let (_, kv) = connect(RedisConfig::new(in_url)).await;
    assert_eq!(kv.get("key").await.unwrap(), Some(1));

    let (kind, text) = refused(config().password(Secret::new("wrong"))).await;
    assert_eq!(kind, ErrorKind::Unauthorized);
    assert!(text.contains("check username and password"), "{text}");
    assert!(text.contains(&server.address().to_string()), "{text}");
    let (kind, text) = refused(config()).await;
    assert_eq!(kind, ErrorKind::Unauthorized);
    assert!(text.contains("set a password"), "{text}");
    let (kind, _) = refused(config().db(3)).await;
    assert_eq!(kind, ErrorKind::Unauthorized, "also where a database is asked for first");
}

#[tokio::test]
async fn by_acl_user() {
    if !require_redis() {
        return;
    }
    // The least that the documentation names for reads, writes and lists.
    let least = "~app:* ~@:r:default:app:* ~@:b:default ~@:buckets -@all +hello +select \
                 +client|setinfo +evalsha +eval +time +get +set +unlink +exists +pttl +hget +hmget \
                 +hset +sadd +scan";
    // This server does not know subcommands that came later.
    let least = least.replace(" +client|setinfo", "");
    let server = Redis::builder().user("app", "secret", &least).start().await;
    let config = || RedisConfig::new(server.url()).username("app");
    let (_, all) = connect(config().password(Secret::new("secret"))).await;
    let kv = all.clone().with_prefix("app");
    let revision = kv.set("user:1", &1).ttl(Duration::from_secs(60)).await.unwrap();
    assert_eq!(kv.get("user:1").await.unwrap(), Some(1));
    assert!(kv.entry::<u32>("user:1").await.unwrap().unwrap().expires.is_some());
    kv.set("user:1", &2).if_revision(revision).await.unwrap();
    assert_eq!(kv.keys().await.unwrap(), ["user:1"]);
    kv.delete("user:1").await.unwrap();
    assert!(!kv.exists("user:1").await.unwrap());

    let outside = all.with_prefix("other");
    assert_eq!(outside.set("key", &1).await.unwrap_err().kind(), ErrorKind::Unauthorized);
    assert_eq!(outside.get::<u32>("key").await.unwrap_err().kind(), ErrorKind::Unauthorized);
    let forbidden = kv.capabilities().await.map(drop);
    forbidden.expect("a field of the bucket's hash may be read");
    let error = kv.delete_bucket("other").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");

    let (kind, _) = refused(config().password(Secret::new("wrong"))).await;
    assert_eq!(kind, ErrorKind::Unauthorized);
    let nobody = RedisConfig::new(server.url()).username("bob").password(Secret::new("secret"));
    assert_eq!(refused(nobody).await.0, ErrorKind::Unauthorized);
}

#[tokio::test]
async fn by_tls() {
    if !require_redis() {
        return;
    }
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = Redis::builder().tls(&authority.server()).password("p").start().await;
    let config = || RedisConfig::new(server.url()).password(Secret::new("p"));
    let (_, kv) = connect(config().tls_ca(authority.file())).await;
    let big = vec![7_u8; 100_000];
    kv.set_raw("key", big.clone()).await.unwrap();
    assert_eq!(kv.get_raw("key").await.unwrap().as_deref(), Some(big.as_slice()));
    // An address without a scheme speaks TLS where there is a CA.
    let bare = RedisConfig::new(server.address().to_string()).password(Secret::new("p"));
    let (_, kv) = connect(bare.clone().tls_ca(authority.file())).await;
    assert!(kv.exists("key").await.unwrap());

    let (kind, text) = refused(config().tls_ca(stranger.file())).await;
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains("check the certificates in tls_ca"), "{text}");
    let (kind, text) = refused(bare.connect_timeout(Duration::from_secs(5))).await;
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains("expects TLS"), "{text}");

    let other_host = Redis::builder().tls(&authority.server_for("other.example")).start().await;
    let to_other = RedisConfig::new(other_host.url()).tls_ca(authority.file());
    assert!(refused(to_other).await.1.contains("TLS failed"));

    let plain = Redis::builder().start().await;
    let with_tls = RedisConfig::new(plain.address().to_string()).tls_ca(authority.file());
    let (kind, text) = refused(with_tls.connect_timeout(Duration::from_millis(500))).await;
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains("without TLS") || text.contains("expects TLS"), "{text}");
}

#[tokio::test]
async fn by_a_clients_certificate() {
    if !require_redis() {
        return;
    }
    let authority = Authority::new();
    let builder = Redis::builder().tls(&authority.server()).tls_client_ca(authority.file());
    let server = builder.start().await;
    let config = || RedisConfig::new(server.url()).tls_ca(authority.file());
    let with = |it: &testkit::Certificate| config().tls_cert(it.certificate()).tls_key(it.key());
    let ann = authority.client("ann");
    let (_, kv) = connect(with(&ann)).await;
    kv.set("key", &1).await.unwrap();

    let (kind, text) = refused(config()).await;
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains("tls_cert"), "{text}");
    let (kind, _) = refused(with(&Authority::new().client("eve"))).await;
    assert_eq!(kind, ErrorKind::Unavailable);
    let bob = authority.client("bob");
    let mixed = config().tls_cert(ann.certificate()).tls_key(bob.key());
    let (kind, text) = refused(mixed).await;
    assert_eq!(kind, ErrorKind::InvalidSettings);
    assert!(text.contains("tls_key") && text.contains("does not belong"), "{text}");
}

#[tokio::test]
async fn files_are_read_and_named() {
    if !require_redis() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    let authority = Authority::new();
    let server = Redis::builder().tls(&authority.server()).start().await;
    let config = || RedisConfig::new(server.url());
    let trusted = || config().tls_ca(authority.file());
    let certificate = authority.client("ann");
    for (config, option, what) in [
        (config().tls_ca(folder.path().join("none.pem")), "tls_ca", "cannot be read"),
        (config().tls_ca(&empty), "tls_ca", "no certificate found"),
        (trusted().tls_cert(&empty).tls_key(certificate.key()), "tls_cert", "no certificate found"),
        (
            trusted().tls_cert(certificate.certificate()).tls_key(&empty),
            "tls_key",
            "no private key",
        ),
    ] {
        let (kind, text) = refused(config).await;
        assert_eq!(kind, ErrorKind::InvalidSettings, "{text}");
        assert!(text.contains(option) && text.contains(what) && text.contains(".pem"), "{text}");
    }
}

#[tokio::test]
async fn databases_are_apart() {
    if !require_redis() {
        return;
    }
    let server = Redis::builder().databases(4).start().await;
    let config = || RedisConfig::new(server.url());
    let (_, zero) = connect(config()).await;
    let (_, three) = connect(config().db(3)).await;
    zero.set("key", &0).await.unwrap();
    three.set("key", &3).await.unwrap();
    assert_eq!(zero.get("key").await.unwrap(), Some(0));
    let (_, by_url) = connect(RedisConfig::new(format!("{}/3", server.url()))).await;
    assert_eq!(by_url.get("key").await.unwrap(), Some(3));
    let (kind, text) = refused(config().db(4)).await;
    assert_eq!(kind, ErrorKind::InvalidSettings);
    assert!(text.contains("db:") && text.contains('4'), "{text}");
}

#[tokio::test]
async fn nobody_is_there() {
    if !require_redis() {
        return;
    }
    let mut server = Redis::builder().start().await;
    let proxy = Proxy::start(server.address());
    server.stop().await;
    let begun = Instant::now();
    let (kind, text) = refused(RedisConfig::new(server.url())).await;
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains("start Redis there"), "{text}");
    proxy.black_hole();
    let timeout = Duration::from_millis(300);
    let silent = RedisConfig::new(proxy.address().to_string()).connect_timeout(timeout);
    let (kind, text) = refused(silent).await;
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains("no answer within"), "{text}");
    let (kind, text) = refused(RedisConfig::new("no-such-host.invalid")).await;
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains("no-such-host.invalid"), "{text}");
    assert!(begun.elapsed() < LIMIT);
}

#[tokio::test]
async fn a_cluster_is_refused() {
    if !require_redis() {
        return;
    }
    let server = Redis::builder().set("cluster-enabled", "yes").start().await;
    let (kind, text) = refused(RedisConfig::new(server.url())).await;
    assert_eq!(kind, ErrorKind::Unsupported);
    assert!(text.contains("Redis Cluster is not supported"), "{text}");
}

/// No more connections than the pool has, however many calls there are.
#[tokio::test(flavor = "multi_thread")]
async fn the_pool_has_its_size() {
    if !require_redis() {
        return;
    }
    let (server, _) = start().await;
    let proxy = Proxy::start(server.address());
    let config = RedisConfig::new(proxy.address().to_string()).pool_size(3);
    let (driver, kv) = connect(config).await;
    let sets = (0..200).map(|n| kv.set(format!("key:{n}"), &n));
    for set in futures::future::join_all(sets).await {
        set.unwrap();
    }
    assert_eq!(proxy.accepted(), 3);
    let mut con = other_program(&server).await;
    let count: u32 = ask(&mut con, &["DBSIZE"]).await;
    assert!(count >= 200);
    driver.close();
    assert!(kv.get::<u32>("key:1").await.unwrap_err().is_closed());
    testkit::eventually(LIMIT, || async { proxy.open() == 0 }).await;
}

/// A driver that is dropped ends its connections.
#[tokio::test]
async fn dropped() {
    if !require_redis() {
        return;
    }
    let (server, _) = start().await;
    let proxy = Proxy::start(server.address());
    let driver = RedisDriver::connect(RedisConfig::new(proxy.address().to_string())).await.unwrap();
    let kv = Kv::new(driver);
    kv.set("key", &1).await.unwrap();
    assert!(proxy.open() > 0);
    drop(kv);
    testkit::eventually(LIMIT, || async { proxy.open() == 0 }).await;
}

//! The first write makes the bucket as the store describes it; one that is there stays as it is.

use std::time::Duration;

use nats_connector::kv::{BucketConfig, KeyCodec, Storage};
use nats_connector::{Connector, Stores};
use testkit::logs::Logs;
use testkit::{Permissions, Server};

use super::lines;

async fn connect(server: &Server) -> Connector {
    let settings = lines(&format!("NATS.SERVER={}", server.url())).build().unwrap();
    Connector::connect(&settings).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_write_makes_it_as_described() {
    let server = Server::builder().jetstream().start().await;
    let text = format!(
        "NATS.SERVER={}\nNATS.BUCKET_PREFIX=app_\nNATS.KEY_PREFIX=p\nSTORES.S.TTL=1h\n\
         STORES.S.HISTORY=5\nSTORES.S.STORAGE=memory\nSTORES.S.MAX_BYTES=10MiB\n\
         STORES.S.KEY_CODEC=path\nSTORES.T.BUCKET=s\nSTORES.T.PREFIX=q",
        server.url()
    );
    let stores = Stores::from_settings(lines(&text)).unwrap();
    let kv = stores.get("s").unwrap();
    // Reading makes nothing.
    assert_eq!(kv.get_raw("user:1").await.unwrap(), None);
    kv.delete("user:1").await.unwrap();
    let there = connect(&server).await.kv();
    assert_eq!(there.bucket("app_s").bucket_status().await.unwrap(), None);

    let calls: Vec<_> = (0..8).map(|i| tokio::spawn(kv.set(format!("user:{i}"), &i))).collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let status = there.bucket("app_s").bucket_status().await.unwrap().unwrap();
    let wanted = BucketConfig::new("app_s")
        .ttl(Duration::from_secs(3600))
        .history(5)
        .storage(Storage::Memory)
        .max_bytes(10 << 20)
        .key_codec(KeyCodec::Path);
    let again = there.get_or_create_bucket(wanted).await.unwrap();
    assert!(!again.made && again.differences.is_empty(), "{status:?}: {:?}", again.differences);
    // The other store of the bucket, in its own namespace.
    stores.get("t").unwrap().set("user:1", "t").await.unwrap();
    assert_eq!(kv.get::<u32>("user:1").await.unwrap(), Some(1));
    let raw = there.bucket("app_s").with_prefix("q");
    assert_eq!(raw.get::<String>("user:1").await.unwrap().as_deref(), Some("t"));

    // Deleted through the store or elsewhere, the next write makes it as described again.
    for elsewhere in [false, true] {
        let from = if elsewhere { there.clone() } else { kv.clone().with_bucket_prefix("") };
        assert!(from.delete_bucket("app_s").await.unwrap());
        kv.set("user:1", &1).await.unwrap();
        let status = there.bucket("app_s").bucket_status().await.unwrap().unwrap();
        let config = BucketConfig::new("app_s").history(5).ttl(Duration::from_secs(3600));
        let found = there.get_or_create_bucket(config).await.unwrap();
        assert!(found.differences.is_empty(), "{status:?}: {:?}", found.differences);
    }
}

#[tokio::test]
async fn what_differs_is_told_once_and_stays() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let config = BucketConfig::new("s").history(3).ttl(Duration::from_secs(60));
    connector.kv().create_bucket(config).await.unwrap();
    let (logs, _guard) = Logs::scoped();
    let text = format!("NATS.SERVER={}\nSTORES.S.TTL=1h\nSTORES.S.HISTORY=3", server.url());
    let stores = Stores::from_settings(lines(&text)).unwrap();
    let kv = stores.get("s").unwrap();
    for i in 0..3 {
        kv.set("k", &i).await.unwrap();
    }
    let text = logs.text();
    let told =
        text.lines().filter(|l| l.contains("not as its store describes it")).collect::<Vec<_>>();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("ttl is 1m, not 1h") && told[0].contains("store=\"s\""), "{told:?}");
    assert!(!told[0].contains("history"), "{told:?}");
    let found = connector.kv().bucket("s").bucket_status().await.unwrap().unwrap();
    let same = BucketConfig::new("s").history(3).ttl(Duration::from_secs(60));
    let same = connector.kv().get_or_create_bucket(same).await.unwrap();
    assert!(same.differences.is_empty(), "{found:?}");

    // Deleted elsewhere, it is made anew as the store describes it.
    connector.kv().delete_bucket("s").await.unwrap();
    kv.set("k", "v").await.unwrap();
    let described = BucketConfig::new("s").history(3).ttl(Duration::from_secs(3600));
    let described = connector.kv().get_or_create_bucket(described).await.unwrap();
    assert!(!described.made && described.differences.is_empty(), "{:?}", described.differences);
}

#[tokio::test]
async fn a_user_that_may_not_ask_for_the_bucket_uses_it_as_it_is() {
    let keys = ["$JS.API.DIRECT.GET.KV_s.>", "$KV.s.>"];
    let narrow = Permissions::default().publish(&keys).subscribe(&["_INBOX.>"]);
    let server = Server::builder().jetstream().user("admin", "a").user_with("app", "p", &narrow);
    let server = server.start().await;
    let text = |user, password| {
        format!("NATS.SERVER={}\nNATS.USERNAME={user}\nNATS.PASSWORD={password}", server.url())
    };
    let admin = Connector::connect(&lines(&text("admin", "a")).build().unwrap()).await.unwrap();
    admin.kv().create_bucket(BucketConfig::new("s").history(2)).await.unwrap();

    let (logs, _guard) = Logs::scoped();
    let described = format!("{}\nSTORES.S.TTL=1h", text("app", "p"));
    let kv = Stores::from_settings(lines(&described)).unwrap().get("s").unwrap();
    for value in ["first", "second"] {
        kv.set("k", value).await.unwrap();
        assert_eq!(kv.get::<String>("k").await.unwrap().as_deref(), Some(value));
    }
    let text = logs.text();
    let told: Vec<_> =
        text.lines().filter(|line| line.contains("not as its store describes it")).collect();
    assert!(told.len() == 1 && told[0].contains("not known"), "{told:?}");
}

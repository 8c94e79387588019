//! Buckets: found, made, changed, on every server.

use std::time::Duration;

use nats_connector::ErrorKind;
use nats_connector::objects::{BucketConfig, Storage};
use testkit::{Server, Version, require};

use super::{bytes, connect, objects, stream};

#[tokio::test(flavor = "multi_thread")]
async fn buckets_are_made_found_and_changed() {
    let (_server, connector, objects) = objects().await;
    let missing = objects.bind_bucket("b").await.unwrap_err();
    assert!(missing.is_not_found(), "{missing}");
    assert_eq!(objects.bucket_status().await.unwrap(), None);
    assert!(!objects.delete_bucket("b").await.unwrap());

    let config = BucketConfig::new("b").ttl(Duration::from_secs(60)).description("files");
    let made = objects.get_or_create_bucket(config.clone()).await.unwrap();
    assert!(made.made && made.differences.is_empty());
    let found = objects
        .get_or_create_bucket(config.max_bytes(1_000_000).storage(Storage::Memory))
        .await
        .unwrap();
    let told: Vec<_> = found.differences.iter().map(|one| one.option).collect();
    assert_eq!((found.made, told), (false, vec!["storage", "max_bytes"]));

    objects.create_bucket(BucketConfig::new("b").max_bytes(9_000_000)).await.unwrap();
    let status = objects.bind_bucket("b").await.unwrap().bucket_status().await.unwrap().unwrap();
    assert!(!status.sealed && status.created.is_some());
    assert_eq!(status.config.name(), "b");
    let config = stream(&connector, "b").await["config"].clone();
    assert_eq!(config["max_bytes"], 9_000_000);
    assert_eq!(config["max_age"], 60_000_000_000_u64);
    assert_eq!(config["discard"], "new");
    assert_eq!(config["description"], "files");
    for flag in ["allow_rollup_hdrs", "allow_direct"] {
        assert_eq!(config[flag], true, "{flag}");
    }
    let wrong = objects.create_bucket(BucketConfig::new("b").storage(Storage::Memory)).await;
    assert_eq!(wrong.unwrap_err().kind(), ErrorKind::InvalidInput);

    let prefixed = connector.objects().with_bucket_prefix("app-");
    prefixed.bucket("x").put_bytes("a", "1").await.unwrap();
    assert_eq!(prefixed.buckets().await.unwrap(), ["x"]);
    assert_eq!(connector.objects().buckets().await.unwrap(), ["app-x", "b"]);

    // One that vanishes is made again as it was made here.
    assert!(connector.objects().delete_bucket("app-x").await.unwrap());
    let made = BucketConfig::new("b").max_bytes(9_000_000);
    objects.put_bytes("a", "1").await.unwrap();
    super::api(&connector, "STREAM.DELETE.OBJ_b", serde_json::Value::Null).await;
    assert_eq!(objects.get_bytes("a").await.unwrap(), None);
    objects.put_bytes("a", "1").await.unwrap();
    let status = objects.bucket_status().await.unwrap().unwrap();
    assert_eq!(objects.get_or_create_bucket(made).await.unwrap().differences, []);
    assert_eq!(status.config, objects.bucket_status().await.unwrap().unwrap().config);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_server_version_stores_and_gives_objects() {
    let versions =
        [Version::Debian29, Version::V2_10, Version::V2_11, Version::V2_12, Version::V2_15];
    for version in versions {
        if !require(version) {
            continue;
        }
        let server = Server::builder().version(version).jetstream().start().await;
        let connector = connect(&server).await;
        let objects = connector.objects().bucket("b");
        let data = bytes(700_000, 5);
        objects.put_bytes("a", data.clone()).await.unwrap();
        objects.put_bytes("a", data.clone()).await.unwrap();
        assert_eq!(objects.get_bytes("a").await.unwrap().unwrap(), data, "{version}");
        assert_eq!(super::chunks(&connector, "b").await, 6, "{version}");
        assert!(objects.delete("a").await.unwrap(), "{version}");
        let compressed = BucketConfig::new("c").compression(true);
        let made = objects.create_bucket(compressed).await;
        match version {
            Version::Debian29 => {
                assert_eq!(made.unwrap_err().kind(), ErrorKind::Unsupported);
            }
            _ => drop(made.unwrap()),
        }
    }
}

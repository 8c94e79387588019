//! The same buckets with other clients, in both directions.

use async_nats::jetstream::object_store::{Config, ObjectMetadata, UpdateMetadata};
use nats_connector::objects::Link;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{bytes, objects};

#[tokio::test(flavor = "multi_thread")]
async fn the_plain_client_reads_what_is_stored_here() {
    let (_server, connector, objects) = objects().await;
    let data = bytes(500_000, 1);
    objects
        .put_bytes("a/ü", data.clone())
        .description("text")
        .header("X-One", "1")
        .metadata("k", "v")
        .await
        .unwrap();
    objects.put_bytes("empty", "").await.unwrap();
    objects.link("l", "a/ü").await.unwrap();
    let context = connector.jetstream().unwrap();
    let store = context.get_object_store("b").await.unwrap();
    let mut read = Vec::new();
    for (name, expected) in [("a/ü", &data[..]), ("l", &data[..]), ("empty", &[])] {
        read.clear();
        store.get(name).await.unwrap().read_to_end(&mut read).await.unwrap();
        assert!(read == expected, "{name}");
    }
    let info = store.info("a/ü").await.unwrap();
    assert_eq!((info.size, info.chunks), (500_000, 4));
    assert_eq!(info.description.as_deref(), Some("text"));
    assert_eq!(info.headers.unwrap().get("X-One").unwrap().as_str(), "1");
    assert_eq!(info.metadata["k"], "v");
    store
        .update_metadata(
            "a/ü",
            UpdateMetadata {
                name: "b".to_owned(),
                description: Some("other".to_owned()),
                ..UpdateMetadata::default()
            },
        )
        .await
        .unwrap();
    assert_eq!(objects.get_bytes("b").await.unwrap().unwrap(), data);
    store.delete("b").await.unwrap();
    assert!(!objects.exists("b").await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_plain_client_stores_is_read_here() {
    let (_server, connector, objects) = objects().await;
    let context = connector.jetstream().unwrap();
    let config = Config { bucket: "b".to_owned(), ..Config::default() };
    let store = context.create_object_store(config).await.unwrap();
    let data = bytes(500_000, 2);
    let mut meta = ObjectMetadata { name: "a".to_owned(), ..ObjectMetadata::default() };
    meta.metadata.insert("k".to_owned(), "v".to_owned());
    let mut headers = async_nats::HeaderMap::new();
    headers.append("X-One", "1");
    meta.headers = Some(headers);
    // A source that gives little at a time makes chunks of all sizes.
    let (mut sink, mut source) = tokio::io::duplex(3000);
    let sent = data.clone();
    tokio::spawn(async move { sink.write_all(&sent).await });
    let stored = store.put(meta, &mut source).await.unwrap();
    assert!(stored.chunks > 4);
    assert_eq!(objects.get_bytes("a").await.unwrap().unwrap(), data);
    let part = objects.get_bytes("a").range(299_990..300_010).await.unwrap().unwrap();
    assert_eq!(part, data[299_990..300_010]);
    let info = objects.info("a").await.unwrap().unwrap();
    assert_eq!((info.header("x-one"), info.metadata["k"].as_str()), (Some("1"), "v"));
    store.add_link("l", &stored).await.unwrap();
    assert_eq!(objects.info("l").await.unwrap().unwrap().link, Some(Link::to_object("b", "a")));
    assert_eq!(objects.get_bytes("l").await.unwrap().unwrap(), data);
    store.add_bucket_link("bl", "b").await.unwrap();
    assert!(objects.linked_bucket("bl").await.unwrap().is_some());
    // Replaced here, its chunks are gone.
    objects.put_bytes("a", "new").await.unwrap();
    assert_eq!(super::chunks(&connector, "b").await, 1);
    store.delete("a").await.unwrap();
    assert_eq!(objects.get_bytes("a").await.unwrap(), None);
    objects.seal_bucket("b").await.unwrap();
    let mut none: &[u8] = &[];
    store.put("x", &mut none).await.unwrap_err();
}

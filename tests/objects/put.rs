//! What is stored, and what is left of what is not.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nats_connector::objects::BucketConfig;
use nats_connector::{ErrorKind, Serializer};
use testkit::{eventually, size};
use tokio::io::AsyncWriteExt;

use super::{bytes, chunks, objects};

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_every_size_come_back() {
    let (_server, connector, objects) = objects().await;
    let objects = objects.with_max_chunk_size(1000);
    let mut held = 0;
    for len in [0, 1, 999, 1000, 1001, 2000, 12_345] {
        let data = bytes(len, 1);
        let name = format!("größe/{len} *>.");
        let info = objects.put_bytes(&name, data.clone()).await.unwrap();
        assert_eq!((info.size, info.chunks), (len as u64, len.div_ceil(1000) as u64));
        assert_eq!(objects.get_bytes(&name).await.unwrap().unwrap(), data, "{len}");
        assert_eq!(objects.info(&name).await.unwrap().unwrap().digest, info.digest);
        held += info.chunks;
    }
    assert_eq!(chunks(&connector, "b").await, held);
    assert_eq!(objects.get_bytes("other").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_of_an_object_is_kept() {
    let (_server, _connector, objects) = objects().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = seen.clone();
    let stored = objects
        .put_bytes("a", bytes(2500, 2))
        .description("text")
        .header("X-Part", "1")
        .header("X-Part", "2")
        .content_type("application/pdf")
        .metadata("owner", "ada")
        .max_chunk_size(1000)
        .progress(move |so_far, total| told.lock().unwrap().push((so_far, total)))
        .await
        .unwrap();
    assert_eq!(*seen.lock().unwrap(), [0, 1000, 2000, 2500].map(|n| (n, Some(2500))));
    let info = objects.info("a").consistent().await.unwrap().unwrap();
    assert_eq!(info.description.as_deref(), Some("text"));
    assert_eq!(info.headers["X-Part"], ["1", "2"]);
    assert_eq!(info.content_type(), Some("application/pdf"));
    assert_eq!(info.metadata["owner"], "ada");
    assert_eq!((info.max_chunk_size, info.revision), (Some(1000), stored.revision));
    assert!(info.modified.is_some());

    let changed = objects.update("a").description("").metadata("owner", "bob").await.unwrap();
    let changed = changed.unwrap();
    assert_eq!((changed.description, changed.headers), (None, info.headers));
    assert_eq!(changed.metadata["owner"], "bob");
    assert_eq!(objects.update("none").clear_headers().await.unwrap(), None);

    let renamed = objects.rename("a", "z").await.unwrap().unwrap();
    assert_eq!((renamed.name.as_str(), renamed.size), ("z", 2500));
    assert_eq!(objects.info("a").await.unwrap(), None);
    assert_eq!(objects.get_bytes("z").await.unwrap().unwrap(), bytes(2500, 2));
    objects.put_bytes("y", "other").await.unwrap();
    let taken = objects.rename("z", "y").await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists, "{taken}");
    assert_eq!(objects.rename("none", "x").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_read_with_the_serializer_that_wrote_them() {
    let (_server, _connector, objects) = objects().await;
    let packed = objects.clone().with_serializer(Serializer::message_pack());
    let info = packed.put("v", &("order", 7)).await.unwrap();
    assert_eq!(info.content_type(), Some("application/msgpack"));
    let back: Option<(String, u32)> = objects.get("v").await.unwrap();
    assert_eq!(back, Some(("order".to_owned(), 7)));
    objects.put("j", &"text").await.unwrap();
    assert_eq!(packed.info("j").await.unwrap().unwrap().content_type(), None);
    assert_eq!(objects.get::<String>("none").await.unwrap(), None);
    let wrong = objects.get::<u32>("j").await.unwrap_err();
    assert_eq!((wrong.kind(), wrong.context("object")), (ErrorKind::Decode, Some("j")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_takes_the_place_of_what_was_there_with_all_its_chunks() {
    let (_server, connector, objects) = objects().await;
    let objects = objects.with_max_chunk_size(100);
    for seed in 0..3 {
        let data = bytes(1000 + 100 * usize::from(seed), seed);
        objects.put_bytes("a", data.clone()).await.unwrap();
        assert_eq!(objects.get_bytes("a").consistent().await.unwrap().unwrap(), data);
        assert_eq!(chunks(&connector, "b").await, 10 + u64::from(seed));
    }
    assert!(objects.delete("a").await.unwrap());
    assert!(!objects.delete("a").await.unwrap());
    assert_eq!(objects.info("a").await.unwrap(), None);
    assert_eq!(chunks(&connector, "b").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn puts_of_one_name_at_once_end_with_one_whole_object() {
    let (_server, connector, objects) = objects().await;
    let objects = objects.with_max_chunk_size(1000).with_timeout(LIMIT);
    let puts = (0..16_u8).map(|seed| {
        let put = objects.put_bytes("a", bytes(10_000 + usize::from(seed), seed));
        tokio::spawn(put)
    });
    for put in futures::future::join_all(puts).await {
        put.unwrap().unwrap();
    }
    let info = objects.info("a").consistent().await.unwrap().unwrap();
    let seed = u8::try_from(info.size - 10_000).unwrap();
    let found = objects.get_bytes("a").await.unwrap().unwrap();
    assert_eq!(found, bytes(10_000 + usize::from(seed), seed));
    assert_eq!(chunks(&connector, "b").await, info.chunks);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_put_that_is_dropped_or_whose_source_fails() {
    let (_server, connector, objects) = objects().await;
    let objects = objects.with_max_chunk_size(1000);
    objects.put_bytes("a", bytes(3000, 1)).await.unwrap();

    let (mut source, reader) = tokio::io::duplex(64 * 1024);
    let put = tokio::spawn(objects.put_reader("a", reader));
    source.write_all(&bytes(50_000, 2)).await.unwrap();
    eventually(LIMIT, || async { chunks(&connector, "b").await > 30 }).await;
    put.abort();
    eventually(LIMIT, || async { chunks(&connector, "b").await == 3 }).await;

    let failing = readers::failing(bytes(20_000, 3));
    let error = objects.put_reader("a", failing).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other);
    assert!(error.to_string().contains("source of the object cannot be read"), "{error}");
    eventually(LIMIT, || async { chunks(&connector, "b").await == 3 }).await;

    // A call that has a limit of its own ends by it, whatever its source does.
    let (mut source, reader) = tokio::io::duplex(64 * 1024);
    let put = objects.put_reader("a", reader).timeout(Duration::from_millis(300));
    source.write_all(&bytes(30_000, 4)).await.unwrap();
    let error = put.await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    eventually(LIMIT, || async { chunks(&connector, "b").await == 3 }).await;
    assert_eq!(objects.get_bytes("a").await.unwrap().unwrap(), bytes(3000, 1));
    drop(source);
}

/// A reader that gives some bytes and then an error.
mod readers {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, ReadBuf};

    pub(super) fn failing(bytes: Vec<u8>) -> impl AsyncRead + Send + 'static {
        Failing(io::Cursor::new(bytes))
    }

    struct Failing(io::Cursor<Vec<u8>>);

    impl AsyncRead for Failing {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let before = buf.filled().len();
            let read = Pin::new(&mut self.0).poll_read(cx, buf);
            if buf.filled().len() == before {
                return Poll::Ready(Err(io::Error::other("the disk is gone")));
            }
            read
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_or_sealed_bucket_refuses_and_keeps_what_it_has() {
    let (_server, connector, objects) = objects().await;
    let small = BucketConfig::new("b").max_bytes(40_000).max_chunk_size(1000);
    let objects = objects.create_bucket(small).await.unwrap();
    objects.put_bytes("a", bytes(10_000, 1)).await.unwrap();
    let error = objects.put_bytes("a", bytes(100_000, 2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    assert!(error.to_string().contains("max_bytes"), "{error}");
    eventually(LIMIT, || async { chunks(&connector, "b").await == 10 }).await;
    assert_eq!(objects.get_bytes("a").await.unwrap().unwrap(), bytes(10_000, 1));

    objects.seal_bucket("b").await.unwrap();
    assert!(objects.bucket_status().await.unwrap().unwrap().sealed);
    for error in [
        objects.put_bytes("c", bytes(10, 1)).await.unwrap_err(),
        objects.put_bytes("c", "").await.unwrap_err(),
        objects.delete("a").await.unwrap_err(),
        objects.update("a").description("x").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("sealed"), "{error}");
    }
    assert_eq!(objects.get_bytes("a").await.unwrap().unwrap(), bytes(10_000, 1));
}

#[tokio::test]
async fn a_drain_waits_for_no_answers_that_a_full_bucket_has_given() {
    let (_server, connector, objects) = objects().await;
    let small = BucketConfig::new("b").max_bytes(40_000).max_chunk_size(1000);
    objects.create_bucket(small).await.unwrap();
    let error = objects.put_bytes("o", vec![1; 200_000]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    let began = Instant::now();
    assert!(connector.drain().await.is_clean());
    // Chunks whose answers are missing are waited for, and looked for again, for five seconds.
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_store_takes_is_refused_before_anything_is_sent() {
    let (_server, connector, objects) = objects().await;
    let long = "x".repeat(1025);
    for error in [
        objects.put_bytes("", "x").await.unwrap_err(),
        objects.put_bytes(&long, "x").await.unwrap_err(),
        objects.bucket("a.b").put_bytes("a", "x").await.unwrap_err(),
        objects.put_bytes("a", "x").max_chunk_size(0).await.unwrap_err(),
        objects.put_bytes("a", "x").header("a b", "x").await.unwrap_err(),
        objects.put_bytes("a", "x").header("a", "x\r\ny").await.unwrap_err(),
        objects.put_file("a", "/does/not/exist").await.unwrap_err(),
        objects.get_bytes("a").range(std::ops::Range { start: 5, end: 3 }).await.unwrap_err(),
        objects.info("").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    let encode = objects.put("a", &std::collections::HashMap::from([((1, 2), 3)])).await;
    assert_eq!(encode.unwrap_err().kind(), ErrorKind::Encode);
    assert_eq!(connector.objects().buckets().await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_of_chunks_is_under_way_at_once() {
    let (server, _connector, _) = objects().await;
    let proxy = testkit::Proxy::start(server.address());
    let connector = super::connect_to(&proxy.url(), &[]).await;
    let objects = connector.objects().bucket("b").with_timeout(LIMIT);
    objects.put_bytes("first", "x").await.unwrap();
    // Acknowledgements come late: what was sent before the first one was under way at once.
    proxy.set_delays(Duration::ZERO, Duration::from_secs(1));
    let before = proxy.bytes_to_server();
    let len = size(32, 256) * 1024 * 1024;
    let (progress, told) = tokio::sync::watch::channel(0);
    let put = objects.put_bytes("a", bytes(len, 1)).progress(move |so_far, _| {
        progress.send_replace(so_far);
    });
    let put = tokio::spawn(put);
    eventually(LIMIT, || async { proxy.bytes_to_server() - before > 3 * 1024 * 1024 }).await;
    // And no more than the window: the rest waits.
    assert!(*told.borrow() < 6 * 1024 * 1024, "{}", *told.borrow());
    proxy.set_delay(Duration::ZERO);
    let info = put.await.unwrap().unwrap();
    assert_eq!(info.size, len as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_nobody_are_found_when_they_are_old() {
    let (_server, connector, objects) = objects().await;
    objects.put_bytes("a", "kept").await.unwrap();
    let client = connector.client().unwrap();
    for _ in 0..3 {
        client.request("$O.b.C.ORPHAN", "left".into()).await.unwrap();
    }
    let hour = Duration::from_secs(3600);
    assert_eq!(objects.purge_orphans(hour).await.unwrap(), 0);
    assert_eq!(chunks(&connector, "b").await, 4);
    assert_eq!(objects.purge_orphans(Duration::ZERO).await.unwrap(), 1);
    assert_eq!(chunks(&connector, "b").await, 1);
    assert_eq!(objects.get_bytes("a").await.unwrap().unwrap(), "kept");
    assert_eq!(objects.bucket("none").purge_orphans(hour).await.unwrap(), 0);
}

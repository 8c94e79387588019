//! What comes back: whole, in part, through links, and never a mixture.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use nats_connector::ErrorKind;
use nats_connector::objects::Link;
use testkit::eventually;
use tokio::io::AsyncReadExt;

use super::{bytes, objects};

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_what_they_are_of_the_whole() {
    let (_server, _connector, objects) = objects().await;
    let data = bytes(3_000_000, 1);
    // More than a skim goes over, in chunks of two kinds.
    objects.put_bytes("large", data.clone()).max_chunk_size(7000).await.unwrap();
    objects.put_bytes("small", data[..5000].to_vec()).await.unwrap();
    for (name, len) in [("large", data.len()), ("small", 5000)] {
        for (start, end) in [
            (0, 1),
            (0, 7000),
            (6999, 7001),
            (1_500_000, 1_500_010),
            (2_999_999, 9_000_000),
            (4, 4),
        ] {
            let read = objects.get_bytes(name).range(start as u64..end as u64).await.unwrap();
            let expected = &data[start.min(len)..end.min(len)];
            assert_eq!(read.unwrap(), expected, "{name} {start}..{end}");
        }
        let read = objects.get_bytes(name).range(..).await.unwrap().unwrap();
        assert_eq!(read, data[..len]);
        let read = objects.get_bytes(name).range(..=2).await.unwrap().unwrap();
        assert_eq!(read, data[..3]);
    }
    assert_eq!(objects.get_bytes("none").range(1..2).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_a_writer_and_a_stream_give_the_same() {
    let (_server, _connector, objects) = objects().await;
    let data = bytes(1_000_000, 3);
    objects.put_reader("a", std::io::Cursor::new(data.clone())).await.unwrap();

    let mut reader = objects.reader("a").await.unwrap().unwrap();
    assert_eq!((reader.info().size, reader.remaining()), (1_000_000, 1_000_000));
    let mut read = Vec::new();
    reader.read_to_end(&mut read).await.unwrap();
    assert!(read == data && reader.remaining() == 0);

    let chunks: Vec<_> = objects.reader("a").await.unwrap().unwrap().try_collect().await.unwrap();
    assert_eq!(chunks.concat(), data);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    let file = tokio::fs::File::create(&path).await.unwrap();
    let info = objects.get_to("a", file).await.unwrap().unwrap();
    assert_eq!((info.size, std::fs::read(&path).unwrap()), (1_000_000, data.clone()));
    let stored = objects.put_file("b", &path).await.unwrap();
    assert_eq!(stored.digest, info.digest);
    assert_eq!(objects.get_bytes("b").await.unwrap().unwrap(), data);
    assert!(objects.get_to("none", Vec::new()).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_replaced_or_deleted_while_it_is_read_is_told() {
    let (_server, _connector, objects) = objects().await;
    let len = 12_000_000;
    for deletes in [false, true] {
        objects.put_bytes("a", bytes(len, 1)).await.unwrap();
        let mut reader = objects.reader("a").await.unwrap().unwrap();
        let mut read = reader.next().await.unwrap().unwrap().to_vec();
        if deletes {
            assert!(objects.delete("a").await.unwrap());
        } else {
            objects.put_bytes("a", bytes(len, 2)).await.unwrap();
        }
        let error = loop {
            match reader.next().await {
                Some(Ok(chunk)) => read.extend_from_slice(&chunk),
                Some(Err(error)) => break error,
                None => panic!("all of what is gone was read"),
            }
        };
        assert!(error.is_conflict(), "{error}");
        assert!(read == bytes(len, 1)[..read.len()], "a mixture");
        assert!(reader.next().await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_is_never_given_as_whole() {
    let (_server, connector, objects) = objects().await;
    let context = connector.jetstream().unwrap();
    let info = objects.put_bytes("a", bytes(5000, 1)).max_chunk_size(1000).await.unwrap();
    let stream = context.get_stream("OBJ_b").await.unwrap();
    let subject = format!("$O.b.C.{}", info.id);
    let last = stream.get_last_raw_message_by_subject(&subject).await.unwrap();

    // A chunk that was changed: one taken out, another put behind.
    stream.delete_message(last.sequence).await.unwrap();
    context.publish(subject.clone(), bytes(1000, 9).into()).await.unwrap().await.unwrap();
    let error = objects.get_bytes("a").await.unwrap_err();
    assert!(error.to_string().contains("digest"), "{error}");
    let mut reader = objects.reader("a").await.unwrap().unwrap();
    let mut read = Vec::new();
    let error = reader.read_to_end(&mut read).await.unwrap_err();
    assert!(error.to_string().contains("digest") && read.len() < 5000, "{error}");

    // One that is missing.
    let last = stream.get_last_raw_message_by_subject(&subject).await.unwrap();
    stream.delete_message(last.sequence).await.unwrap();
    let impatient = objects.clone().with_timeout(Duration::from_millis(700));
    let error = impatient.get_bytes("a").await.unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");

    // One too many.
    for _ in 0..2 {
        context.publish(subject.clone(), bytes(700, 9).into()).await.unwrap().await.unwrap();
    }
    let error = objects.get_bytes("a").await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Other), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn links_lead_to_objects_and_buckets_and_never_round() {
    let (_server, connector, objects) = objects().await;
    let other = connector.objects().bucket("other");
    other.put_bytes("x", "there").await.unwrap();
    let link = objects.link("l", "x").in_bucket("other").await.unwrap();
    assert_eq!(link.link, Some(Link::to_object("other", "x")));
    objects.link("ll", "l").await.unwrap();
    assert_eq!(objects.get_bytes("ll").await.unwrap().unwrap(), "there");
    assert_eq!(objects.reader("ll").await.unwrap().unwrap().info().bucket, "other");
    assert_eq!(objects.info("ll").await.unwrap().unwrap().link.unwrap().bucket, "b");

    let round = other.link("x2", "ll").in_bucket("b").await;
    round.unwrap();
    other.delete("x").await.unwrap();
    assert_eq!(objects.get_bytes("ll").await.unwrap(), None);
    let round = other.link("x", "x2").await.unwrap_err();
    assert_eq!(round.kind(), ErrorKind::InvalidInput, "{round}");
    let own = objects.link("me", "me").await.unwrap_err();
    assert!(own.to_string().contains("circle"), "{own}");

    objects.link_bucket("there", "other").await.unwrap();
    let bucket = objects.linked_bucket("there").await.unwrap().unwrap();
    bucket.put_bytes("y", "!").await.unwrap();
    assert_eq!(other.get_bytes("y").await.unwrap().unwrap(), "!");
    let error = objects.get_bytes("there").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert_eq!(objects.linked_bucket("l").await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(objects.linked_bucket("none").await.unwrap().is_none());

    let taken = other.link("y", "z").await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    // An object takes the place of a link, and what it led to stays.
    objects.put_bytes("l", "mine").await.unwrap();
    assert_eq!(objects.get_bytes("ll").await.unwrap().unwrap(), "mine");
    eventually(LIMIT, || async { other.exists("y").await.unwrap() }).await;
}

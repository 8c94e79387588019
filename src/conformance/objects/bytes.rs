//! Bytes of every size, whole and in part.

use std::io;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::*;

/// Bytes of any number come back as they were, in as many chunks as they need.
pub async fn sizes(objects: &Objects) {
    let raw = Raw::new(objects, "sizes");
    let small = raw.objects.clone().with_max_chunk_size(CHUNK);
    for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 10 * CHUNK, 10 * CHUNK + 7] {
        let (name, bytes) = (format!("of {size}"), pattern(size, 1));
        let put = ok("put", small.put_bytes(&name, bytes.clone()).await);
        assert_eq!((put.size, &*put.name), (size as u64, &*name), "what was put is told");
        if put.max_chunk_size.is_some() {
            assert_eq!(put.max_chunk_size, Some(CHUNK), "the size of chunks is as asked");
            assert_eq!(put.chunks, size.div_ceil(CHUNK) as u64, "the chunks of {size} bytes");
        }
        same_bytes("get", small.get_bytes(&name).await, &bytes);
        same_bytes("get from the driver", raw.get(&name).await, &bytes);
        let info = ok("info", small.info(&name).await);
        assert_eq!(info.map(timeless), Some(timeless(put)), "info tells what the put told");
    }
    // More than one message of any server holds, and no whole number of chunks.
    let bytes = pattern(5 * 1024 * 1024 + 13, 2);
    let put = ok("put much", raw.objects.put_bytes("much", bytes.clone()).await);
    assert_eq!(put.size, bytes.len() as u64, "what was put is told");
    same_bytes("get much", raw.objects.get_bytes("much").await, &bytes);
    // Uploads side by side do not mix.
    let all = (0..20).map(|n| async move { (n, pattern(5 * CHUNK + 3, n)) });
    let all: Vec<(u32, Bytes)> = future::join_all(all).await;
    let puts = all.iter().map(|(n, bytes)| small.put_bytes(format!("{n}"), bytes.clone()));
    for put in future::join_all(puts).await {
        ok("put beside others", put);
    }
    for (n, bytes) in all {
        same_bytes("get what others stood beside", raw.get(&n.to_string()).await, &bytes);
    }
}

/// The digest is `SHA-256=` and the hash in URL-safe Base64, padded.
pub async fn digests(objects: &Objects) {
    let objects = objects.bucket(unique("digests"));
    let known = [
        ("", "SHA-256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU="),
        ("abc", "SHA-256=ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0="),
    ];
    for (text, digest) in known {
        let put = ok("put", objects.put_bytes("text", text).await);
        assert_eq!(put.digest.as_deref(), Some(digest), "the digest of {text:?}");
        let info = ok("info", objects.info("text").await);
        let found = info.and_then(|info| info.digest);
        assert_eq!(found.as_deref(), Some(digest), "the digest of {text:?} is kept");
    }
    // Bytes that are not those of the digest are not given as if they were.
    let raw = Raw::new(&objects, "wrong_digest");
    let (right, wrong) = (Bytes::from("abc"), digest(b"abd"));
    let mut upload = ok("give", raw.give("text", &right).await);
    ok("put under another's digest", upload.finish(right.len() as u64, wrong).await);
    refused("get it", ErrorKind::Other, raw.objects.get_bytes("text").await);
}

/// A part of the bytes, which may go beyond their end.
pub async fn ranges(objects: &Objects) {
    let raw = Raw::new(objects, "ranges");
    let bytes = pattern(3 * CHUNK + 100, 3);
    ok("put", raw.put("some", &bytes).await);
    let (end, chunk) = (bytes.len() as u64, CHUNK as u64);
    let ranges = [
        0..0,
        0..1,
        5..5,
        7..20,
        0..chunk,
        chunk - 1..chunk,
        chunk..chunk + 1,
        chunk - 1..chunk + 1,
        10..2 * chunk + 10,
        2 * chunk..u64::MAX,
        end - 1..end,
        end - 1..end + 9,
        end..u64::MAX,
        end + 5..end + 9,
        0..end,
        1..u64::MAX,
    ];
    for range in ranges {
        let at = |n: u64| usize::try_from(n.min(end)).unwrap_or(usize::MAX);
        let expected = &bytes[at(range.start)..at(range.end)];
        let step = format!("get {range:?} of {end} bytes");
        same_bytes(&step, raw.range("some", range).await, expected);
    }
    ok("put nothing", raw.put("empty", &Bytes::new()).await);
    same_bytes("get a part of nothing", raw.range("empty", 3..9).await, b"");
    same("get a part of what is not", raw.range("none", 3..9).await, &None);
    let part = raw.objects.get_bytes("some").range(5..CHUNK as u64 + 5).await;
    same_bytes("get a part through a handle", part, &bytes[5..CHUNK + 5]);
}

/// A reader that gives a few bytes at a time, and then what it is told to.
pub(super) struct Dripping {
    pub(super) bytes: Bytes,
    pub(super) then: Then,
}

pub(super) enum Then {
    End,
    Fail,
    /// Nothing more, for ever.
    Wait,
}

impl AsyncRead for Dripping {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let piece = self.bytes.len().min(buf.remaining()).min(700);
        if piece > 0 {
            let bytes = self.bytes.split_to(piece);
            buf.put_slice(&bytes);
            return Poll::Ready(Ok(()));
        }
        match self.then {
            Then::End => Poll::Ready(Ok(())),
            Then::Fail => Poll::Ready(Err(io::Error::other("the disk is broken"))),
            Then::Wait => Poll::Pending,
        }
    }
}

/// From a reader that gives little at a time, and to one that takes little; what was done so far is
/// told.
pub async fn readers(objects: &Objects) {
    let objects = objects.bucket(unique("readers")).with_max_chunk_size(CHUNK);
    let bytes = pattern(20 * CHUNK + 11, 4);
    let told = Arc::new(Mutex::new(Vec::new()));
    let reader = Dripping { bytes: bytes.clone(), then: Then::End };
    let tell = told.clone();
    let put = objects.put_reader("dripped", reader).progress(move |so_far, _| {
        tell.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(so_far);
    });
    let put = ok("put from a reader", put.await);
    assert_eq!(put.size, bytes.len() as u64, "what was put is told");
    if put.max_chunk_size.is_some() {
        assert_eq!(put.chunks, 21, "chunks are full, however little a reader gives");
    }
    let told = told.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    assert!(told.is_sorted(), "the progress goes on: {told:?}");
    assert_eq!(told.last(), Some(&(bytes.len() as u64)), "the progress ends with all");

    let found = ok("open", objects.reader("dripped").await);
    let Some(mut reader) = found else { panic!("there is no object to read") };
    let (mut all, mut piece) = (Vec::new(), [0; 333]);
    loop {
        match reader.read(&mut piece).await {
            Ok(0) => break,
            Ok(read) => all.extend_from_slice(&piece[..read]),
            Err(error) => panic!("read: {error}"),
        }
    }
    same_bytes("read little at a time", Ok(Some(all.into())), &bytes);
    let (writer, mut reader) = tokio::io::duplex(CHUNK / 2);
    let mut written = Vec::new();
    let (got, read) =
        tokio::join!(objects.get_to("dripped", writer), reader.read_to_end(&mut written));
    let told = ok("get into a writer", got).map(|info| info.size);
    assert_eq!(told, Some(bytes.len() as u64), "what was written is told");
    assert!(read.is_ok(), "what was written can be read: {read:?}");
    same_bytes("what was written", Ok(Some(written.into())), &bytes);
}

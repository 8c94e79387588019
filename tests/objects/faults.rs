//! Servers that end, connections that are lost, processes that are killed, and the end of all.

use std::process::Command;
use std::time::Duration;

use futures::StreamExt;
use nats_connector::objects::BucketConfig;
use nats_connector::{Connector, ErrorKind};
use testkit::{Cluster, Program, Proxy, Server, eventually, size, soak};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};

use super::{bytes, chunks, connect_to, objects};

const LIMIT: Duration = Duration::from_secs(120);
const PATIENT: [(&str, &str); 2] = [("NATS.MAX_RECONNECT", "-1"), ("NATS.RECONNECT_WAIT", "50ms")];

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_and_a_download_go_on_after_lost_connections() {
    let (server, _connector, _) = objects().await;
    let proxy = Proxy::start(server.address());
    let connector = connect_to(&proxy.url(), &PATIENT).await;
    let objects = connector.objects().bucket("b").with_timeout(LIMIT);
    let data = bytes(20_000_000, 1);
    objects.put_bytes("first", "x").await.unwrap();
    proxy.set_delay(Duration::from_millis(5));
    let (progress, mut told) = tokio::sync::watch::channel(0);
    let put = objects.put_bytes("a", data.clone()).progress(move |so_far, _| {
        progress.send_replace(so_far);
    });
    let put = tokio::spawn(put);
    for at in [3_000_000, 9_000_000, 15_000_000] {
        if told.wait_for(|so_far| *so_far > at).await.is_err() {
            break;
        }
        proxy.cut();
    }
    put.await.unwrap().unwrap();
    assert_eq!(chunks(&connector, "b").await, 154);

    let mut reader = objects.reader("a").await.unwrap().unwrap();
    let mut read = Vec::new();
    let mut cuts = [3_000_000, 9_000_000, 15_000_000].into_iter().peekable();
    while let Some(chunk) = reader.next().await {
        read.extend_from_slice(&chunk.unwrap());
        if cuts.next_if(|at| *at < read.len()).is_some() {
            proxy.cut();
        }
    }
    assert!(read == data);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_and_comes_back_interrupts_nothing() {
    let mut server = Server::builder().jetstream().start().await;
    let connector = connect_to(&server.url(), &PATIENT).await;
    let objects = connector.objects().bucket("b").with_timeout(LIMIT);
    let data = bytes(12_000_000, 1);
    let (mut source, reader) = tokio::io::duplex(1024 * 1024);
    let put = tokio::spawn(objects.put_reader("a", reader));
    source.write_all(&data[..6_000_000]).await.unwrap();
    server.kill().await;
    server.restart().await;
    source.write_all(&data[6_000_000..]).await.unwrap();
    drop(source);
    // What the killed server had acknowledged and not written yet is lost, and that is told.
    match put.await.unwrap() {
        Ok(_) => {}
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            eventually(LIMIT, || async { chunks(&connector, "b").await == 0 }).await;
            objects.put_bytes("a", data.clone()).await.unwrap();
        }
    }
    let mut reader = objects.reader("a").await.unwrap().unwrap();
    let mut read = vec![0; 1_000_000];
    reader.read_exact(&mut read).await.unwrap();
    server.kill().await;
    server.restart().await;
    reader.read_to_end(&mut read).await.unwrap();
    assert!(read == data);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_an_error_and_never_a_miss() {
    let (mut server, _connector, objects) = objects().await;
    objects.put_bytes("a", bytes(10, 1)).await.unwrap();
    let objects = objects.with_timeout(Duration::from_secs(2));
    server.kill().await;
    let kinds = [ErrorKind::Unavailable, ErrorKind::Timeout];
    for error in [
        objects.get_bytes("a").await.unwrap_err(),
        objects.info("a").await.unwrap_err(),
        objects.put_bytes("a", "x").await.unwrap_err(),
        objects.delete("a").await.unwrap_err(),
        objects.list().await.map(drop).unwrap_err(),
        objects.buckets().await.unwrap_err(),
        objects.purge_orphans(Duration::ZERO).await.unwrap_err(),
    ] {
        assert!(kinds.contains(&error.kind()), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_upload_ends_and_cleans_up_when_the_server_is_back() {
    let (server, admin, _) = objects().await;
    let proxy = Proxy::start(server.address());
    let connector = connect_to(&proxy.url(), &PATIENT).await;
    let objects = connector.objects().bucket("b").with_timeout(Duration::from_secs(2));
    objects.put_bytes("a", "kept").await.unwrap();
    let (mut source, reader) = tokio::io::duplex(1024 * 1024);
    let put = tokio::spawn(objects.put_reader("a", reader));
    source.write_all(&bytes(1_000_000, 1)).await.unwrap();
    eventually(LIMIT, || async { chunks(&admin, "b").await > 5 }).await;
    proxy.black_hole();
    let more = tokio::spawn(async move {
        let _ = source.write_all(&bytes(20_000_000, 1)).await;
    });
    let error = put.await.unwrap().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{error}");
    more.await.unwrap();
    proxy.resume();
    eventually(LIMIT, || async { chunks(&admin, "b").await == 1 }).await;
    let kept = admin.objects().bucket("b").get_bytes("a").await.unwrap().unwrap();
    assert_eq!(kept, "kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replicated_bucket_survives_its_leader() {
    let mut cluster = Cluster::start(Server::builder().jetstream()).await;
    let connector = connect_to(&cluster.url(), &PATIENT).await;
    let config = BucketConfig::new("b").replicas(3);
    let objects = connector.objects().create_bucket(config).timeout(LIMIT).await.unwrap();
    let objects = objects.with_timeout(LIMIT);
    let data = bytes(10_000_000, 1);
    for round in 0..size(1_u8, 5) {
        let (mut source, reader) = tokio::io::duplex(1024 * 1024);
        let put = tokio::spawn(objects.put_reader("a", reader));
        source.write_all(&data[..5_000_000]).await.unwrap();
        let context = connector.jetstream().unwrap();
        let info = context.get_stream("OBJ_b").await.unwrap().cached_info().clone();
        let leader = info.cluster.unwrap().leader.unwrap();
        cluster.node_named(&leader).kill().await;
        let rest = data[5_000_000..].to_vec();
        tokio::spawn(async move {
            let _ = source.write_all(&rest).await;
        });
        match put.await.unwrap() {
            Ok(_) => {}
            // Chunks may be taken out of their order by two leaders; then that is told.
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "round {round}: {error}");
                objects.put_bytes("a", data.clone()).await.unwrap();
            }
        }
        let read = objects.get_bytes("a").consistent().await.unwrap().unwrap();
        assert!(read == data, "round {round}");
        cluster.node_named(&leader).restart().await;
        cluster.ready().await;
    }
    eventually(LIMIT, || async { chunks(&connector, "b").await == 77 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_uploads_and_refuses_later_ones() {
    let (server, admin, _) = objects().await;
    let connector = connect_to(&server.url(), &[]).await;
    let objects = connector.objects().bucket("b");
    let (mut source, reader) = tokio::io::duplex(64 * 1024);
    let put = tokio::spawn(objects.put_reader("a", reader));
    source.write_all(&bytes(1_000_000, 1)).await.unwrap();
    let drain = tokio::spawn(async move { connector.drain().await });
    source.write_all(&bytes(1_000_000, 1)).await.unwrap();
    drop(source);
    let info = put.await.unwrap().unwrap();
    assert_eq!(info.size, 2_000_000);
    assert!(drain.await.unwrap().proved);
    assert!(objects.put_bytes("b", "x").await.unwrap_err().is_closed());
    assert!(admin.objects().bucket("b").exists("a").await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_gives_up_what_does_not_end_and_takes_it_out() {
    let (server, admin, _) = objects().await;
    let connector = connect_to(&server.url(), &[("NATS.DRAIN_TIMEOUT", "1s")]).await;
    let objects = connector.objects().bucket("b");
    let (mut source, reader) = tokio::io::duplex(64 * 1024);
    let put = tokio::spawn(objects.put_reader("a", reader));
    source.write_all(&bytes(1_000_000, 1)).await.unwrap();
    eventually(LIMIT, || async { chunks(&admin, "b").await > 5 }).await;
    connector.drain().await;
    assert_eq!(chunks(&admin, "b").await, 0);
    let _ = source.write_all(&bytes(1_000_000, 1)).await;
    let error = put.await.unwrap().unwrap_err();
    assert!(error.is_closed(), "{error}");
    assert_eq!(admin.objects().bucket("b").info("a").await.unwrap(), None);
}

/// This test binary again, as a process that stores or reads one object.
fn child(server: &Server, task: &str, len: u64) -> Program {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "faults::child_process", "--nocapture"]);
    command.env("OBJECTS_CHILD", task).env("OBJECTS_LEN", len.to_string());
    Program::start(command.env("OBJECTS_SERVER", server.url()))
}

/// So many zeros, as fast as they are wanted.
struct Zeros(u64);

impl AsyncRead for Zeros {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let len = usize::try_from(self.0).unwrap_or(usize::MAX).min(buf.remaining());
        buf.initialize_unfilled_to(len);
        buf.advance(len);
        self.0 -= len as u64;
        std::task::Poll::Ready(Ok(()))
    }
}

/// Not a test of its own: what [`child`] starts.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the test reads it")]
async fn child_process() {
    let Ok(task) = std::env::var("OBJECTS_CHILD") else { return };
    let url = std::env::var("OBJECTS_SERVER").unwrap();
    let len: u64 = std::env::var("OBJECTS_LEN").unwrap().parse().unwrap();
    let connector: Connector = connect_to(&url, &[]).await;
    let objects = connector.objects().bucket("b").with_timeout(LIMIT);
    match task.as_str() {
        "put" => {
            let put = objects.put_reader("a", Zeros(len)).progress(|so_far, _| {
                println!("stored {so_far}");
            });
            assert_eq!(put.await.unwrap().size, len);
        }
        _ => {
            let mut reader = objects.reader("a").await.unwrap().unwrap();
            let copied = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await.unwrap();
            assert_eq!(copied, len);
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    println!("peak memory: {}", peak.trim());
}

fn peak(program: &mut Program) -> u64 {
    let line = program.wait_for("peak memory: ", LIMIT * 5);
    let kib = line.split(' ').nth_back(1).and_then(|kib| kib.parse().ok());
    assert!(program.wait(LIMIT).success());
    kib.unwrap_or_else(|| panic!("{line}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_bounded_however_large_the_object() {
    let (server, connector, objects) = objects().await;
    let len = size(128, 1024) * 1024 * 1024_u64;
    for task in ["put", "get"] {
        let peak = tokio::task::block_in_place(|| peak(&mut child(&server, task, len)));
        if soak() {
            tracing::info!(task, peak, "KiB at most");
        }
        // The window is 4 MiB; the rest is the program.
        assert!(peak < 64 * 1024, "{task}: {peak} KiB");
    }
    assert_eq!(objects.info("a").await.unwrap().unwrap().size, len);
    assert_eq!(chunks(&connector, "b").await, len / (128 * 1024));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_leaves_no_object_and_its_bytes_are_found() {
    let (server, connector, objects) = objects().await;
    objects.put_bytes("a", "kept").await.unwrap();
    let mut program = child(&server, "put", u64::MAX / 2);
    tokio::task::block_in_place(|| {
        program.wait_for("stored 10485760", LIMIT);
        program.signal("KILL");
        assert!(!program.wait(LIMIT).success());
    });
    assert_eq!(objects.get_bytes("a").await.unwrap().unwrap(), "kept");
    assert!(chunks(&connector, "b").await > 1);
    assert_eq!(objects.purge_orphans(LIMIT).await.unwrap(), 0, "it may be under way still");
    eventually(LIMIT, || async {
        objects.purge_orphans(Duration::from_millis(1)).await.unwrap() == 1
    })
    .await;
    assert_eq!(chunks(&connector, "b").await, 1);
}

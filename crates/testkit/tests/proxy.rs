//! The proxy does to TCP what it says.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use testkit::{Proxy, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_millis(200);

/// A proxy before a server that sends everything back.
async fn echo() -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reads, mut writes) = stream.split();
                let _ = tokio::io::copy(&mut reads, &mut writes).await;
            });
        }
    });
    Proxy::start(address)
}

async fn ping(stream: &mut TcpStream) -> Duration {
    let start = Instant::now();
    stream.write_all(b"ping").await.unwrap();
    let mut answer = [0; 4];
    timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"ping");
    start.elapsed()
}

#[tokio::test]
async fn it_forwards_and_counts() {
    let proxy = echo().await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    ping(&mut stream).await;
    eventually(SOON, || async { proxy.bytes_to_client() == 4 }).await;
    assert_eq!((proxy.accepted(), proxy.open(), proxy.bytes_to_server()), (1, 1, 4));
    // The end of the stream travels too.
    stream.shutdown().await.unwrap();
    assert_eq!(timeout(SOON, stream.read(&mut [0])).await.unwrap().unwrap(), 0);
    eventually(SOON, || async { proxy.open() == 0 }).await;
}

#[tokio::test]
async fn a_delay_holds_each_way_and_can_change() {
    let proxy = echo().await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    ping(&mut stream).await;
    proxy.set_delay(Duration::from_millis(150));
    assert!(ping(&mut stream).await >= Duration::from_millis(300));
    proxy.set_delays(Duration::ZERO, Duration::from_millis(150));
    assert!(ping(&mut stream).await >= Duration::from_millis(150));
}

#[tokio::test]
async fn a_delay_does_not_throttle() {
    let proxy = echo().await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    proxy.set_delay(Duration::from_millis(100));
    // One after the other these 200 pieces would need 40 s.
    let start = Instant::now();
    let (mut reads, mut writes) = stream.split();
    let send = async {
        for _ in 0..200 {
            writes.write_all(&[7; 1000]).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let mut received = vec![0; 200_000];
    let (_, read) = tokio::join!(send, timeout(SOON, reads.read_exact(&mut received)));
    read.unwrap().unwrap();
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_cut_resets_what_is_open() {
    let proxy = echo().await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    ping(&mut stream).await;
    proxy.cut();
    let error = timeout(SOON, stream.read(&mut [0])).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    ping(&mut TcpStream::connect(proxy.address()).await.unwrap()).await;
}

#[tokio::test]
async fn a_black_hole_is_silent_until_it_ends() {
    let proxy = echo().await;
    let mut old = TcpStream::connect(proxy.address()).await.unwrap();
    ping(&mut old).await;
    proxy.black_hole();
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    for stream in [&mut old, &mut new] {
        stream.write_all(b"kept").await.unwrap();
        assert!(timeout(QUIET, stream.read(&mut [0])).await.is_err());
    }
    proxy.resume();
    for stream in [&mut old, &mut new] {
        let mut answer = [0; 4];
        timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b"kept");
    }
}

#[tokio::test]
async fn refusing_concerns_new_connections() {
    let proxy = echo().await;
    let mut old = TcpStream::connect(proxy.address()).await.unwrap();
    ping(&mut old).await;
    proxy.refuse();
    let error = TcpStream::connect(proxy.address()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    ping(&mut old).await;
    proxy.resume();
    ping(&mut TcpStream::connect(proxy.address()).await.unwrap()).await;
}

#[tokio::test]
async fn a_target_that_is_gone_resets_the_client() {
    let proxy = echo().await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    proxy.set_target(gone);
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    let error = timeout(SOON, stream.read(&mut [0])).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

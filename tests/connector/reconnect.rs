//! First connects that fail, lost connections, giving up, and calls meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::join_all;
use nats_connector::connector::State;
use nats_connector::pubsub::{Message, with};
use nats_connector::{Connector, Error, ErrorKind};
use testkit::{Authority, Proxy, Server, eventually, size};

use crate::{LONG, connect, refused};

/// Where nobody listens.
fn nowhere() -> Proxy {
    let proxy = Proxy::start("127.0.0.1:1".parse().unwrap());
    proxy.refuse();
    proxy
}

fn silent(target: SocketAddr) -> Proxy {
    let proxy = Proxy::start(target);
    proxy.black_hole();
    proxy
}

fn list(urls: &[&str]) -> String {
    urls.join(",")
}

/// What went wrong with the server at `url`, cut out of the whole message.
fn part<'a>(message: &'a str, url: &str) -> &'a str {
    let (_, rest) = message.split_once(url).unwrap_or_else(|| panic!("{message} lacks {url}"));
    rest.split_once("; ").map_or(rest, |(part, _)| part)
}

#[tokio::test]
async fn a_failed_connect_tells_for_each_server_what_was_wrong() {
    let authority = Authority::new();
    let guarded = Server::builder().user("ann", "pw").start().await;
    let with_tls = Server::builder().tls(&authority.server()).start().await;
    let (nowhere, silent) = (nowhere(), silent(guarded.address()));
    let unknown = "nats://no-such-host.invalid:4222";
    let urls = [nowhere.url(), silent.url(), guarded.url(), with_tls.url(), unknown.to_owned()];
    let servers = list(&urls.each_ref().map(String::as_str));
    // Long enough for a loaded machine; the silent server takes all of it.
    let error = refused(&[("SERVER", &servers), ("CONNECT_TIMEOUT", "3s")]).await;
    let message = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{message}");
    let expected = ["refused", "timed out after 3s", "unauthorized", "TLS failed", "name lookup"];
    for (url, expected) in urls.iter().zip(expected) {
        assert!(part(&message, url).contains(expected), "{url} not {expected}: {message}");
    }

    // Each alone has its own advice.
    for (url, kind, advice) in [
        (nowhere.url(), ErrorKind::Unavailable, "start nats-server there or check NATS.SERVER"),
        (silent.url(), ErrorKind::Unavailable, "NATS.CONNECT_TIMEOUT"),
        (guarded.url(), ErrorKind::Unauthorized, "none of NATS.CREDENTIALS"),
        (with_tls.url(), ErrorKind::Unavailable, "NATS.TLS_CA"),
        (unknown.to_owned(), ErrorKind::Unavailable, "check the host names in NATS.SERVER"),
    ] {
        let error = refused(&[("SERVER", &url), ("CONNECT_TIMEOUT", "3s")]).await;
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(advice), "{error} lacks {advice}");
    }
}

#[tokio::test]
async fn servers_that_fail_keep_the_next_from_nothing() {
    let server = Server::builder().start().await;
    let (silent, nowhere) = (silent(server.address()), nowhere());
    let urls = list(&[&silent.url(), &nowhere.url(), &server.url()]);
    let base = [("SERVER", urls.as_str()), ("RANDOMIZE", "false"), ("CONNECT_TIMEOUT", "1s")];
    // Neither the pause between reconnects nor their limit counts for the first connect.
    for limit in ["0", "1", "-1"] {
        let begun = Instant::now();
        let more = [("RECONNECT_WAIT", "1h"), ("MAX_RECONNECT", limit)];
        let connector = connect(&[&base[..], &more[..]].concat()).await;
        connector.pubsub().flush().await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        assert_eq!(connector.health().await.server, Some(server.url()));
    }
    assert_eq!(silent.accepted(), 3);
}

/// What arrives at a handler and at a stream.
#[derive(Default)]
struct Heard {
    handled: AtomicU64,
    streamed: AtomicU64,
    stream_ended: AtomicBool,
}

async fn listen(connector: &Connector) -> Arc<Heard> {
    let heard = Arc::new(Heard::default());
    let count = |heard: Arc<Heard>, _: Message| async move {
        heard.handled.fetch_add(1, Ordering::Relaxed);
    };
    connector.pubsub().subscribe("news", with(heard.clone(), count)).await.unwrap();
    let mut stream = connector.pubsub().messages("news").await.unwrap();
    let reader = heard.clone();
    tokio::spawn(async move {
        while stream.next().await.is_some() {
            reader.streamed.fetch_add(1, Ordering::Relaxed);
        }
        reader.stream_ended.store(true, Ordering::Relaxed);
    });
    heard
}

/// Waits until a message arrives at both.
async fn hears(connector: &Connector, heard: &Heard) {
    let before = [&heard.handled, &heard.streamed].map(|counter| counter.load(Ordering::Relaxed));
    eventually(LONG, || async {
        // Until the connection is back this may fail.
        let _ = connector.pubsub().publish_bytes("news", "x").await;
        let _ = connector.pubsub().flush().await;
        heard.handled.load(Ordering::Relaxed) > before[0]
            && heard.streamed.load(Ordering::Relaxed) > before[1]
    })
    .await;
}

#[tokio::test]
async fn reconnects_to_the_same_server_and_to_another() {
    let mut first = Server::builder().start().await;
    let mut second = Server::builder().start().await;
    let urls = list(&[&first.url(), &second.url()]);
    let connector = connect(&[
        ("SERVER", &urls),
        ("RANDOMIZE", "false"),
        ("RECONNECT_WAIT", "50ms"),
        ("MAX_RECONNECT", "-1"),
    ])
    .await;
    let heard = listen(&connector).await;
    hears(&connector, &heard).await;
    assert_eq!(connector.health().await.server, Some(first.url()));

    first.kill().await;
    hears(&connector, &heard).await;
    let health = connector.health().await;
    assert_eq!((health.server, health.reconnects), (Some(second.url()), 1));

    second.restart().await;
    hears(&connector, &heard).await;
    second.kill().await;
    eventually(LONG, || async { connector.state() == State::Disconnected }).await;
    first.restart().await;
    hears(&connector, &heard).await;
    let health = connector.health().await;
    assert_eq!((health.server, health.reconnects >= 3), (Some(first.url()), true));
}

/// Three servers that can be lost together.
struct Three {
    _server: Server,
    proxies: [Proxy; 3],
}

impl Three {
    async fn start() -> Three {
        let server = Server::builder().start().await;
        let proxies = [(); 3].map(|()| Proxy::start(server.address()));
        Three { _server: server, proxies }
    }

    fn urls(&self) -> String {
        self.proxies.each_ref().map(Proxy::url).join(",")
    }

    fn attempts(&self) -> usize {
        self.proxies.iter().map(Proxy::accepted).sum()
    }

    /// Connections are accepted and never served.
    fn lose(&self) {
        self.proxies.iter().for_each(|proxy| proxy.set_target("127.0.0.1:1".parse().unwrap()));
        self.proxies.iter().for_each(Proxy::cut);
    }
}

#[tokio::test]
async fn max_reconnect_counts_attempts_for_each_server() {
    for (limit, attempts) in [("0", 0), ("5", 15)] {
        let three = Three::start().await;
        let connector = connect(&[
            ("SERVER", &three.urls()),
            ("MAX_RECONNECT", limit),
            ("RECONNECT_WAIT", "20ms"),
        ])
        .await;
        let heard = listen(&connector).await;
        hears(&connector, &heard).await;
        assert_eq!(three.attempts(), 1);

        three.lose();
        eventually(LONG, || async { connector.state() == State::Closed }).await;
        // The streams end with the connection, and nothing tries on.
        eventually(LONG, || async { heard.stream_ended.load(Ordering::Relaxed) }).await;
        // With no attempt at all the client's own task still takes one to end, without a word.
        let extra = usize::from(limit == "0");
        assert!(three.attempts() - 1 - attempts <= extra, "{limit}: {}", three.attempts());

        let pubsub = connector.pubsub();
        let closed = [
            pubsub.publish_bytes("news", "x").await.err(),
            pubsub.flush().await.err(),
            pubsub.request("news", "x").await.err(),
            pubsub.subscribe("news", |_: Message| async {}).await.err(),
            connector.capabilities().await.err(),
        ];
        for error in closed.map(|error: Option<Error>| error.expect("closed")) {
            assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        }
        let health = connector.health().await;
        assert!(!health.is_live() && !health.is_ready());
        assert!(health.last_error.is_some() == (limit != "0"), "{health:?}");
    }
}

#[tokio::test]
async fn without_limit_it_tries_until_a_server_is_back() {
    let three = Three::start().await;
    let connector =
        connect(&[("SERVER", &three.urls()), ("MAX_RECONNECT", "-1"), ("RECONNECT_WAIT", "5ms")])
            .await;
    let heard = listen(&connector).await;
    three.lose();
    eventually(LONG, || async { three.attempts() > 60 }).await;
    assert_eq!(connector.state(), State::Disconnected);
    let each = three.proxies.each_ref().map(Proxy::accepted);
    assert!(each.iter().all(|attempts| *attempts >= 10), "{each:?}");
    three.proxies[1].set_target(three._server.address());
    hears(&connector, &heard).await;
    assert_eq!(connector.health().await.server, Some(three.proxies[1].url()));
}

#[tokio::test]
async fn a_drain_while_disconnected_ends_and_nothing_is_tried_after_it() {
    for limit in ["1000", "-1"] {
        let three = Three::start().await;
        let connector = connect(&[
            ("SERVER", &three.urls()),
            ("MAX_RECONNECT", limit),
            ("RECONNECT_WAIT", "20ms"),
            ("DRAIN_TIMEOUT", "500ms"),
        ])
        .await;
        let heard = listen(&connector).await;
        three.lose();
        eventually(LONG, || async { three.attempts() > 9 }).await;
        let report = tokio::time::timeout(LONG, connector.drain()).await.unwrap();
        assert!(!report.proved && !report.is_clean(), "{report:?}");
        eventually(LONG, || async { heard.stream_ended.load(Ordering::Relaxed) }).await;
        let error = connector.pubsub().flush().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        // One can be under way. With the pauses of 20 ms many more would come in this time.
        let attempts = three.attempts();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(three.attempts() <= attempts + 1, "{attempts} {}", three.attempts());
    }
}

#[tokio::test]
async fn rounds_wait_with_jitter() {
    let three = Three::start().await;
    let connector =
        connect(&[("SERVER", &three.urls()), ("MAX_RECONNECT", "3"), ("RECONNECT_WAIT", "400ms")])
            .await;
    let begun = Instant::now();
    three.lose();
    eventually(LONG, || async { connector.state() == State::Closed }).await;
    // The first round begins at once, two more each after the pause.
    assert!(begun.elapsed() >= Duration::from_millis(800), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_connection_lost_again_and_again_makes_no_fast_loop() {
    let server = Server::builder().start().await;
    let proxy = Proxy::start(server.address());
    let connector = connect(&[("SERVER", &proxy.url()), ("RECONNECT_WAIT", "500ms")]).await;
    let begun = Instant::now();
    for reconnects in 1..=3 {
        proxy.cut();
        let again = || async { connector.health().await.reconnects == reconnects };
        eventually(LONG, again).await;
    }
    assert!(begun.elapsed() >= Duration::from_millis(1_000), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn retrying_the_first_connect_returns_at_once_and_subscribes_when_connected() {
    let mut server = Server::builder().start().await;
    server.kill().await;
    let connector = connect(&[
        ("SERVER", &server.url()),
        ("RETRY_ON_INITIAL_CONNECT", "true"),
        ("MAX_RECONNECT", "-1"),
        ("RECONNECT_WAIT", "50ms"),
        ("REQUEST_TIMEOUT", "1s"),
    ])
    .await;
    assert_eq!(connector.state(), State::Connecting);
    let health = connector.health().await;
    assert!(health.is_live() && !health.is_ready(), "{health:?}");
    // Made now, while there is no server, and beyond the limit of a call.
    let heard = listen(&connector).await;
    let error = connector.pubsub().flush().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");

    server.restart().await;
    hears(&connector, &heard).await;
    assert_eq!(connector.health().await.reconnects, 0);
}

#[tokio::test]
async fn retrying_the_first_connect_ends_at_the_limit() {
    let three = Three::start().await;
    three.lose();
    let connector = connect(&[
        ("SERVER", &three.urls()),
        ("RETRY_ON_INITIAL_CONNECT", "true"),
        ("MAX_RECONNECT", "2"),
        ("RECONNECT_WAIT", "20ms"),
    ])
    .await;
    eventually(LONG, || async { connector.state() == State::Closed }).await;
    // Each server once for the first connect, and twice on top.
    assert!(three.attempts() >= 9, "{}", three.attempts());
}

#[tokio::test]
async fn calls_while_disconnected_end_by_their_deadline() {
    for (mode, at_once) in [("fail", true), ("wait", false)] {
        let mut server = Server::builder().start().await;
        let connector = connect(&[
            ("SERVER", &server.url()),
            ("MAX_RECONNECT", "-1"),
            ("RECONNECT_WAIT", "50ms"),
            ("WHEN_DISCONNECTED", mode),
        ])
        .await;
        server.kill().await;
        eventually(LONG, || async { connector.state() == State::Disconnected }).await;
        let pubsub = connector.pubsub();
        let limit = Duration::from_millis(800);
        let begun = Instant::now();
        let errors = tokio::join!(
            async { pubsub.publish_bytes("a", "x").timeout(limit).await.unwrap_err() },
            async { pubsub.request("a", "x").timeout(limit).await.unwrap_err() },
            async { pubsub.flush().timeout(limit).await.unwrap_err() },
            async { pubsub.messages("a").timeout(limit).await.unwrap_err() },
        );
        let took = begun.elapsed();
        for error in [errors.0, errors.1, errors.2, errors.3] {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{mode}: {error}");
            // Advice for those who have not taken it.
            let advice = error.to_string().contains("NATS.WHEN_DISCONNECTED");
            assert_eq!(advice, mode == "fail", "{error}");
            assert!(error.is_retryable());
        }
        assert_eq!(took < limit, at_once, "{mode}: {took:?}");

        // What waits is done when the connection is back.
        if !at_once {
            let heard = tokio::spawn({
                let pubsub = pubsub.clone();
                async move { pubsub.flush().timeout(LONG).await }
            });
            server.restart().await;
            heard.await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn a_server_that_no_longer_answers_holds_no_call_beyond_its_deadline() {
    let server = Server::builder().start().await;
    let proxy = Proxy::start(server.address());
    let connector = connect(&[
        ("SERVER", &proxy.url()),
        ("PING_INTERVAL", "1s"),
        ("RECONNECT_WAIT", "50ms"),
        ("CONNECT_TIMEOUT", "1s"),
        ("MAX_RECONNECT", "-1"),
    ])
    .await;
    let heard = listen(&connector).await;
    proxy.black_hole();
    let begun = Instant::now();
    let limit = Duration::from_millis(500);
    let error = connector.pubsub().request("a", "x").timeout(limit).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{error}");
    // Many times what the connection can hold.
    let flood = vec![0; 256 * 1024];
    loop {
        let sent = connector.pubsub().publish_bytes("a", flood.clone()).timeout(limit).await;
        if let Err(error) = sent {
            assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{error}");
            break;
        }
        assert!(begun.elapsed() < LONG, "everything is taken");
    }
    // Pings find out.
    eventually(LONG, || async { connector.state() == State::Disconnected }).await;
    proxy.resume();
    hears(&connector, &heard).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_under_load_hangs_no_call_and_ends_no_subscription() {
    let mut server = Server::builder().start().await;
    let connector = connect(&[
        ("SERVER", &server.url()),
        ("MAX_RECONNECT", "-1"),
        ("RECONNECT_WAIT", "50ms"),
        ("REQUEST_TIMEOUT", "2s"),
    ])
    .await;
    let heard = listen(&connector).await;
    let echo = |message: Message| async move { message.respond("echo").await };
    connector.pubsub().subscribe("echo", echo).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let calls = (0..8).map(|number| {
        let (pubsub, stop) = (connector.pubsub(), stop.clone());
        tokio::spawn(async move {
            let mut longest = Duration::ZERO;
            let (mut good, mut bad) = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let result = match number % 4 {
                    0 => pubsub.publish_bytes("news", "x").await,
                    1 => pubsub.request("echo", "x").await.map(drop),
                    2 => pubsub.flush().await,
                    _ => pubsub.request("nobody", "x").await.map(drop).or_else(|error| {
                        if error.is_no_responders() { Ok(()) } else { Err(error) }
                    }),
                };
                longest = longest.max(begun.elapsed());
                match result {
                    Ok(()) => good += 1,
                    Err(error) => {
                        let kind = error.kind();
                        let fits = matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout);
                        assert!(fits, "{error}");
                        bad += 1;
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
                tokio::task::yield_now().await;
            }
            (number, good, bad, longest)
        })
    });
    let calls: Vec<_> = calls.collect();
    for _ in 0..size(3, 30) {
        hears(&connector, &heard).await;
        server.kill().await;
        eventually(LONG, || async { connector.state() == State::Disconnected }).await;
        server.restart().await;
        eventually(LONG, || async { connector.health().await.is_ready() }).await;
    }
    stop.store(true, Ordering::Relaxed);
    for outcome in join_all(calls).await {
        let (number, good, bad, longest) = outcome.unwrap();
        assert!(good > 0 && bad > 0, "call {number}: {good} good, {bad} bad");
        // The deadline of 2 s, and slack for a loaded machine.
        assert!(longest < Duration::from_secs(12), "call {number} took {longest:?}");
    }
    hears(&connector, &heard).await;
    assert_eq!(connector.pubsub().request("echo", "x").await.unwrap().payload(), &"\"echo\"");
}

//! A server that shuts down asks its clients to go: they move, and lose nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use nats_connector::Connector;
use nats_connector::pubsub::{Message, Messages, with};
use testkit::{Cluster, Server, ServerBuilder, eventually, size, soak};
use tokio::time::{interval, timeout};

use crate::{LONG, connect};

/// A node that gives its clients all the time they may want.
fn patient() -> ServerBuilder {
    Server::builder().lame_duck(Duration::from_secs(300), Duration::from_secs(120))
}

/// How often each numbered message was handled.
struct Seen(Vec<AtomicU32>, AtomicU64);

impl Seen {
    fn new(messages: u32) -> Arc<Seen> {
        Arc::new(Seen((0..messages).map(|_| AtomicU32::new(0)).collect(), AtomicU64::new(0)))
    }

    fn mark(&self, message: &Message) {
        let number = message.decode::<usize>().unwrap();
        self.0[number].fetch_add(1, Ordering::Relaxed);
        self.1.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages handled never, and more than once.
    fn faults(&self) -> (usize, usize) {
        let count = |test: fn(u32) -> bool| {
            self.0.iter().filter(|count| test(count.load(Ordering::Relaxed))).count()
        };
        (count(|n| n == 0), count(|n| n > 1))
    }
}

async fn member(connector: &Connector, seen: &Arc<Seen>) {
    let mark = |seen: Arc<Seen>, message: Message| async move { seen.mark(&message) };
    let subscribe = connector.pubsub().subscribe("work.items", with(seen.clone(), mark));
    subscribe.queue("workers").await.unwrap();
}

/// Publishes numbered messages until told to stop; how many there were.
async fn publish(publisher: Connector, stop: Arc<AtomicBool>, at_most: u32) -> u32 {
    let mut tick = interval(Duration::from_millis(2));
    let mut next = 0;
    while !stop.load(Ordering::Relaxed) && next < at_most {
        tick.tick().await;
        for _ in 0..4.min(at_most - next) {
            publisher.pubsub().publish("work.items", &next).await.unwrap();
            next += 1;
        }
    }
    publisher.pubsub().flush().await.unwrap();
    next
}

/// Publishes until a message arrives.
async fn hears(publisher: &Connector, stream: &mut Messages) {
    let hears = async {
        let moment = Duration::from_millis(100);
        loop {
            publisher.pubsub().publish("news", "hello").await.unwrap();
            if timeout(moment, stream.next()).await.is_ok_and(|message| message.is_some()) {
                return;
            }
        }
    };
    timeout(LONG, hears).await.expect("a message");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_group_moves_under_load_and_loses_nothing() {
    for _ in 0..size(1, 10) {
        one_move().await;
    }
}

async fn one_move() {
    let cluster = Cluster::start(patient()).await;
    let nodes = cluster.nodes();
    let mover = connect(&[("SERVER", &nodes[0].url()), ("NAME", "mover")]).await;
    let stayer = connect(&[("SERVER", &nodes[1].url())]).await;
    let publisher = connect(&[("SERVER", &nodes[2].url())]).await;
    let at_most = if soak() { 200_000 } else { 100_000 };
    let seen = Seen::new(at_most);
    member(&mover, &seen).await;
    member(&stayer, &seen).await;
    let mut stream = mover.pubsub().messages("news").await.unwrap();
    // The nodes tell each other of subscriptions a moment later.
    hears(&publisher, &mut stream).await;

    let stop = Arc::new(AtomicBool::new(false));
    let sent = tokio::spawn(publish(publisher.clone(), stop.clone(), at_most));
    eventually(LONG, || async { seen.1.load(Ordering::Relaxed) > 1_000 }).await;
    nodes[0].lame_duck();
    eventually(LONG, || async { mover.health().await.reconnects == 1 }).await;
    let moved = seen.1.load(Ordering::Relaxed);
    eventually(LONG, || async { seen.1.load(Ordering::Relaxed) > moved + 2_000 }).await;
    stop.store(true, Ordering::Relaxed);
    let sent = sent.await.unwrap();
    eventually(LONG, || async { seen.1.load(Ordering::Relaxed) >= u64::from(sent) }).await;
    let (never, twice) = seen.faults();
    assert_eq!((never - (at_most - sent) as usize, twice), (0, 0), "of {sent}");

    // It is at another node, with its subscriptions, and was there once.
    let server = mover.health().await.server.unwrap();
    assert!(!nodes[0].url().contains(server.trim_start_matches("nats://")), "{server}");
    let at = nodes.iter().find(|node| node.url() == server).unwrap();
    let page = at.connz().await;
    let connections = page["connections"].as_array().unwrap();
    let mine = connections.iter().find(|it| it["name"] == "mover").unwrap();
    let subscriptions = mine["subscriptions_list"].as_array().unwrap();
    assert!(subscriptions.iter().any(|it| it == "work.items"), "{mine}");
    hears(&publisher, &mut stream).await;
    assert_eq!(mover.health().await.reconnects, 1);
}

#[tokio::test]
async fn without_another_server_it_stays_until_the_end() {
    let server = patient().start().await;
    let connector = connect(&[("SERVER", &server.url())]).await;
    let mut heard = connector.pubsub().messages("news").await.unwrap();
    server.lame_duck();
    eventually(LONG, || async { server.log().contains("lame duck") }).await;
    for _ in 0..10 {
        connector.pubsub().publish("news", "hello").await.unwrap();
        assert!(timeout(LONG, heard.next()).await.unwrap().is_some());
    }
    assert_eq!(connector.health().await.reconnects, 0);
}

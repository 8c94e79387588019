//! What must not be in a stream, put there by a raw publisher; and what may be.

use async_nats::{Client, HeaderMap};
use futures::StreamExt as _;
use nats_connector::rpc::{Receiver, code};
use testkit::size;

use super::*;

/// A stream whose service is this test.
struct Played {
    _server: Server,
    _client: Connector,
    service: Client,
    inbox: String,
    credit: u64,
    items: Receiver<u64>,
}

impl Played {
    async fn begin() -> Played {
        let server = Server::builder().start().await;
        let client = connect(&server).await;
        let service = async_nats::connect(server.url()).await.unwrap();
        let mut requests = service.subscribe("api.v1.stream.count_up").await.unwrap();
        service.flush().await.unwrap();
        let calls = client.rpc().client(config());
        let items = calls.server_stream(&count_up(), 1).await.unwrap();
        let headers = soon(requests.next()).await.unwrap().headers.unwrap();
        let header = |name: &str| headers.get(name).unwrap().to_string();
        let credit = header("Nats-Stream-Credit").parse().unwrap();
        assert!(header("Nats-Stream-Heartbeat").parse::<u64>().unwrap() > 0);
        let inbox = header("Reply-To");
        Played { _server: server, _client: client, service, inbox, credit, items }
    }

    async fn put<const N: usize>(&self, pairs: [(&str, &str); N], body: &str) {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(name, value);
        }
        let body = body.to_owned().into();
        self.service.publish_with_headers(self.inbox.clone(), headers, body).await.unwrap();
    }

    async fn item(&self, number: u64) {
        let text = number.to_string();
        self.put([("Nats-Stream-Seq", &text)], &text).await;
    }

    /// How it goes on after the items before `seq`.
    async fn error_after(self, so_many: u64) -> (String, String) {
        let (all, error) = drained(self.items).await;
        assert_eq!(all, numbers(so_many));
        let error = error.expect("an error");
        (error.code().to_owned(), error.message().to_owned())
    }
}

#[tokio::test]
async fn a_gap_names_what_is_missing() {
    let stream = Played::begin().await;
    for number in [1, 2, 3, 7, 8] {
        stream.item(number).await;
    }
    let (code, text) = stream.error_after(3).await;
    assert_eq!(code, code::UNAVAILABLE);
    assert!(text.contains("items 4 to 6"), "{text}");
}

#[tokio::test]
async fn two_services_in_one_stream_are_noticed() {
    let stream = Played::begin().await;
    for number in [1, 1, 2, 2] {
        stream.item(number).await;
    }
    let (_, text) = stream.error_after(1).await;
    assert!(text.contains("item 1"), "{text}");
}

#[tokio::test]
async fn a_lost_tail_is_noticed_by_the_end_and_by_a_heartbeat() {
    for marks in [("Nats-Stream-End", "true"), ("Nats-Stream-Heartbeat", "5000")] {
        let stream = Played::begin().await;
        stream.item(1).await;
        stream.put([marks, ("Nats-Stream-Seq", "4")], "").await;
        let (code, text) = stream.error_after(1).await;
        assert_eq!(code, code::UNAVAILABLE);
        assert!(text.contains("items 2 to 4"), "{text}");
    }
}

#[tokio::test]
async fn the_end_with_the_right_number_is_the_end() {
    let stream = Played::begin().await;
    stream.item(1).await;
    stream.put([("Nats-Stream-End", "true"), ("Nats-Stream-Seq", "1")], "").await;
    stream.put([("Nats-Stream-End", "true"), ("Nats-Stream-Seq", "1")], "").await;
    let (all, error) = drained(stream.items).await;
    assert!(all == [1] && error.is_none(), "{error:?}");
}

#[tokio::test]
async fn what_is_no_frame_is_told() {
    for pairs in [("X", "y"), ("Nats-Stream-Seq", "one"), ("Nats-Stream-Seq", "0")] {
        let stream = Played::begin().await;
        stream.item(1).await;
        stream.put([pairs], "2").await;
        let (code, text) = stream.error_after(1).await;
        assert_eq!(code, code::INTERNAL, "{text}");
    }
}

#[tokio::test]
async fn credit_comes_as_items_are_read_and_a_cancel_when_no_more_are() {
    let mut stream = Played::begin().await;
    let own = stream.service.new_inbox();
    let mut frames = stream.service.subscribe(own.clone()).await.unwrap();
    stream.service.flush().await.unwrap();
    let greeting = [("Nats-Stream-Inbox", own.as_str()), ("Nats-Stream-Heartbeat", "5000")];
    stream.put(greeting, "").await;
    for number in 1..=stream.credit {
        stream.item(number).await;
    }
    for number in 1..=stream.credit {
        assert_eq!(soon(stream.items.next()).await.unwrap().unwrap(), number);
    }
    let credited = async {
        loop {
            let headers = frames.next().await.unwrap().headers.unwrap();
            let credit: u64 = headers.get("Nats-Stream-Credit").unwrap().as_str().parse().unwrap();
            if credit > stream.credit {
                return credit;
            }
        }
    };
    assert!(soon(credited).await <= 2 * stream.credit);
    drop(stream.items);
    let cancelled = async {
        loop {
            let headers = frames.next().await.unwrap().headers.unwrap();
            if headers.get("Nats-Stream-Cancel").is_some() {
                return;
            }
        }
    };
    soon(cancelled).await;
}

#[tokio::test]
async fn a_service_that_does_not_wait_runs_into_an_error_and_no_loss() {
    let stream = Played::begin().await;
    let limit = 65_536;
    for number in 1..=limit + 10 {
        stream.item(number).await;
    }
    stream.put([("Nats-Stream-End", "true")], "").await;
    stream.service.flush().await.unwrap();
    // Nothing is read before all has come.
    tokio::time::sleep(Duration::from_millis(size(1_500, 5_000))).await;
    let (code, text) = stream.error_after(limit).await;
    assert_eq!(code, code::RESOURCE_EXHAUSTED, "{text}");
    assert!(text.contains("item 65537"), "{text}");
}

#[tokio::test]
async fn a_service_that_falls_silent_is_given_up() {
    let stream = Played::begin().await;
    // It says that it will speak every second, which it does not.
    stream
        .put([("Nats-Stream-Heartbeat", "1000"), ("Nats-Stream-Inbox", "nobody.there")], "")
        .await;
    let (code, text) = stream.error_after(0).await;
    assert_eq!(code, code::UNAVAILABLE);
    assert!(text.contains("gone"), "{text}");
}

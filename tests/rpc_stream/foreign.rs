//! Peers of other make, as they were seen on the wire: clients and servers of the Go plugin, and
//! servers of the Python one. What they send knows none of this crate's own headers.

use async_nats::{Client, HeaderMap, Message, Subscriber};
use futures::StreamExt as _;
use nats_connector::rpc::code;

use super::*;

async fn raw(server: &Server) -> Client {
    async_nats::connect(server.url()).await.unwrap()
}

async fn subscriber(client: &Client, subject: &str) -> Subscriber {
    let subscriber = client.subscribe(subject.to_owned()).await.unwrap();
    client.flush().await.unwrap();
    subscriber
}

async fn next(subscriber: &mut Subscriber) -> Message {
    soon(subscriber.next()).await.expect("a message")
}

fn headers<const N: usize>(pairs: [(&str, &str); N]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.insert(name, value);
    }
    headers
}

/// Name and value of all headers, sorted.
fn all(message: &Message) -> Vec<(String, String)> {
    let Some(headers) = &message.headers else { return Vec::new() };
    let pairs = headers.iter().flat_map(|(name, values)| {
        values.iter().map(move |value| (name.to_string(), value.to_string()))
    });
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort();
    pairs
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn a_go_client_gets_a_server_stream() {
    let (server, service, _client) = sides().await;
    serve(&service).await;
    let client = raw(&server).await;
    let inbox = client.new_inbox();
    let mut frames = subscriber(&client, &inbox).await;
    // No reply subject.
    let subject = "api.v1.stream.count_up";
    client
        .publish_with_headers(subject, headers([("Reply-To", &inbox)]), "3".into())
        .await
        .unwrap();
    for number in 1..=3 {
        let frame = next(&mut frames).await;
        assert_eq!(frame.payload, number.to_string());
        assert_eq!(all(&frame), pairs(&[("Nats-Stream-Seq", &number.to_string())]));
    }
    let end = next(&mut frames).await;
    assert!(end.payload.is_empty());
    assert_eq!(all(&end), pairs(&[("Nats-Stream-End", "true")]));
    // An error is on the end, in both pairs.
    client
        .publish_with_headers(subject, headers([("Reply-To", &inbox)]), "\"x\"".into())
        .await
        .unwrap();
    let end = next(&mut frames).await;
    let names: Vec<_> = all(&end).into_iter().map(|(name, _)| name).collect();
    let expected = [
        "Description",
        "Nats-Service-Error",
        "Nats-Service-Error-Code",
        "Nats-Stream-End",
        "Status",
    ];
    assert_eq!(names, expected);
    assert_eq!(
        end.headers.unwrap().get("Nats-Service-Error-Code").unwrap().as_str(),
        "INVALID_ARGUMENT"
    );
}

#[tokio::test]
async fn an_error_goes_to_the_reply_subject_where_the_inbox_is_none() {
    let (server, service, _client) = sides().await;
    serve(&service).await;
    let client = raw(&server).await;
    for subject in ["api.v1.stream.count_up", "api.v1.stream.sum"] {
        let opened = headers([("Reply-To", "> >"), ("Nats-Stream-Heartbeat", "-1")]);
        let answer = soon(client.request_with_headers(subject, opened, "3".into())).await.unwrap();
        let code = answer.headers.unwrap().get("Nats-Service-Error-Code").unwrap().to_string();
        assert_eq!(code, "INVALID_ARGUMENT");
    }
}

#[tokio::test]
async fn a_go_client_sends_a_stream() {
    let (server, service, _client) = sides().await;
    serve(&service).await;
    let client = raw(&server).await;
    let inbox = client.new_inbox();
    let mut frames = subscriber(&client, &inbox).await;
    let subject = "api.v1.stream.sum";
    let opened = headers([("Reply-To", &inbox)]);
    let ack = soon(client.request_with_headers(subject, opened, "".into())).await.unwrap();
    assert!(ack.payload.is_empty());
    assert_eq!(all(&ack).len(), 1);
    let to = ack.headers.unwrap().get("Nats-Stream-Inbox").unwrap().to_string();
    for (seq, number) in [(1, "10"), (2, "20"), (3, "30")] {
        let headers = headers([("Nats-Stream-Seq", &seq.to_string())]);
        client.publish_with_headers(to.clone(), headers, number.into()).await.unwrap();
    }
    // Twice, as a second CloseSend does.
    for _ in 0..2 {
        let end = headers([("Nats-Stream-End", "true")]);
        client.publish_with_headers(to.clone(), end, "".into()).await.unwrap();
    }
    let answer = next(&mut frames).await;
    assert_eq!((answer.payload, answer.headers), ("60".into(), None));
    // Nothing follows.
    client.publish(inbox.clone(), "mark".into()).await.unwrap();
    assert_eq!(next(&mut frames).await.payload, "mark");
    // An error in place of the answer is no end.
    let opened = headers([("Reply-To", &inbox)]);
    let ack = soon(client.request_with_headers(subject, opened, "".into())).await.unwrap();
    let to = ack.headers.unwrap().get("Nats-Stream-Inbox").unwrap().to_string();
    let gap = headers([("Nats-Stream-Seq", "2")]);
    client.publish_with_headers(to, gap, "10".into()).await.unwrap();
    let failed = next(&mut frames).await;
    let told = failed.headers.unwrap();
    assert_eq!(told.get("Nats-Service-Error-Code").unwrap().as_str(), code::UNAVAILABLE);
    assert!(told.get("Nats-Stream-End").is_none() && failed.payload.is_empty());
}

#[tokio::test]
async fn a_go_client_talks_both_ways() {
    let (server, service, _client) = sides().await;
    serve(&service).await;
    let client = raw(&server).await;
    let inbox = client.new_inbox();
    let mut frames = subscriber(&client, &inbox).await;
    let opened = headers([("Reply-To", &inbox)]);
    let ack = client.request_with_headers("api.v1.stream.double", opened, "".into());
    let to =
        soon(ack).await.unwrap().headers.unwrap().get("Nats-Stream-Inbox").unwrap().to_string();
    for seq in 1..=3_u64 {
        let text = seq.to_string();
        let item = headers([("Nats-Stream-Seq", &text)]);
        client.publish_with_headers(to.clone(), item, text.clone().into()).await.unwrap();
        let frame = next(&mut frames).await;
        assert_eq!(frame.payload, (2 * seq).to_string());
        assert_eq!(all(&frame), pairs(&[("Nats-Stream-Seq", &text)]));
    }
    let end = headers([("Nats-Stream-End", "true")]);
    client.publish_with_headers(to, end, "".into()).await.unwrap();
    assert_eq!(all(&next(&mut frames).await), pairs(&[("Nats-Stream-End", "true")]));
}

#[tokio::test]
async fn a_go_client_that_has_gone_is_noticed_by_what_is_sent() {
    let (server, service, _client) = sides().await;
    let service = serve(&service).await;
    let client = raw(&server).await;
    let inbox = client.new_inbox();
    let mut frames = subscriber(&client, &inbox).await;
    let opened = headers([("Reply-To", &inbox)]);
    let endless = u64::MAX.to_string();
    client.publish_with_headers("api.v1.stream.count_up", opened, endless.into()).await.unwrap();
    next(&mut frames).await;
    assert_eq!(service.health().running, 1);
    drop(frames);
    testkit::eventually(PATIENCE, || async { service.health().running == 0 }).await;
}

/// What a service of other make gets for a stream that our client opens.
async fn opened(requests: &mut Subscriber, kind: &str) -> String {
    let request = next(requests).await;
    let headers = request.headers.unwrap();
    let inbox = headers.get("Reply-To").expect(kind).to_string();
    assert_eq!(request.reply.unwrap().as_str(), inbox, "{kind}");
    inbox
}

#[tokio::test]
async fn a_go_server_streams() {
    let (server, _service, client) = sides().await;
    let service = raw(&server).await;
    let mut requests = subscriber(&service, "api.v1.stream.count_up").await;
    let client = client.rpc().client(config());
    for error in [false, true] {
        let items = client.server_stream(&count_up(), 3).await.unwrap();
        let inbox = opened(&mut requests, "server stream").await;
        for number in 1..=3 {
            let text = number.to_string();
            let item = headers([("Nats-Stream-Seq", &text)]);
            service.publish_with_headers(inbox.clone(), item, text.clone().into()).await.unwrap();
        }
        let mut end = headers([("Nats-Stream-End", "true")]);
        if error {
            end.insert("Nats-Service-Error-Code", "INTERNAL");
            end.insert("Nats-Service-Error", "bad start");
        }
        for _ in 0..2 {
            service.publish_with_headers(inbox.clone(), end.clone(), "".into()).await.unwrap();
        }
        let (all, failed) = drained(items).await;
        assert_eq!(all, numbers(3));
        let failed = failed.map(|it| (it.code().to_owned(), it.message().to_owned()));
        assert_eq!(failed, error.then(|| ("INTERNAL".into(), "bad start".into())));
    }
}

#[tokio::test]
async fn a_python_server_streams_an_error() {
    let (server, _service, client) = sides().await;
    let service = raw(&server).await;
    let mut requests = subscriber(&service, "api.v1.stream.count_up").await;
    let client = client.rpc().client(config());
    for with_end in [true, false] {
        let items = client.server_stream(&count_up(), 3).await.unwrap();
        let inbox = opened(&mut requests, "server stream").await;
        let item = headers([("Nats-Stream-Seq", "1")]);
        service.publish_with_headers(inbox.clone(), item, "1".into()).await.unwrap();
        let mut failed = headers([("Status", "NOT_FOUND"), ("Description", "nope")]);
        if with_end {
            failed.insert("Nats-Stream-End", "true");
        }
        service.publish_with_headers(inbox, failed, "".into()).await.unwrap();
        let (all, error) = drained(items).await;
        let error = error.unwrap();
        assert_eq!((all, error.code(), error.message()), (vec![1], code::NOT_FOUND, "nope"));
    }
}

#[tokio::test]
async fn a_go_server_takes_a_stream_and_answers() {
    let (server, _service, client) = sides().await;
    let service = raw(&server).await;
    let mut requests = subscriber(&service, "api.v1.stream.sum").await;
    let client = client.rpc().client(config());
    for error in [false, true] {
        let serving = async {
            let inbox = opened(&mut requests, "client stream").await;
            let own = service.new_inbox();
            let mut frames = subscriber(&service, &own).await;
            let ack = headers([("Nats-Stream-Inbox", &own)]);
            service.publish_with_headers(inbox.clone(), ack, "".into()).await.unwrap();
            for number in 1..=3 {
                let frame = next(&mut frames).await;
                assert_eq!(frame.payload, (10 * number).to_string());
                assert_eq!(all(&frame), pairs(&[("Nats-Stream-Seq", &number.to_string())]));
            }
            let end = next(&mut frames).await;
            assert_eq!(all(&end), pairs(&[("Nats-Stream-End", "true")]));
            if error {
                let failed = headers([
                    ("Nats-Service-Error-Code", "INTERNAL"),
                    ("Nats-Service-Error", "no"),
                ]);
                service.publish_with_headers(inbox, failed, "".into()).await.unwrap();
            } else {
                service.publish(inbox, "60".into()).await.unwrap();
            }
        };
        let calling = async {
            let mut stream = soon(client.client_stream(&sum())).await.unwrap();
            for number in [10, 20, 30] {
                soon(stream.send(number)).await.unwrap();
            }
            soon(stream.finish()).await
        };
        let ((), answer) = futures::join!(serving, calling);
        match answer {
            Ok(answer) => assert_eq!((answer.into_inner(), error), (60, false)),
            Err(failed) => assert_eq!((failed.message(), error), ("no", true)),
        }
    }
}

#[tokio::test]
async fn a_go_server_is_told_when_our_stream_breaks_off() {
    let (server, _service, client) = sides().await;
    let service = raw(&server).await;
    let mut requests = subscriber(&service, "api.v1.stream.double").await;
    let client = client.rpc().client(config());
    let own = service.new_inbox();
    let mut frames = subscriber(&service, &own).await;
    let accepting = async {
        let inbox = opened(&mut requests, "bidi").await;
        let ack = headers([("Nats-Stream-Inbox", &own)]);
        service.publish_with_headers(inbox, ack, "".into()).await.unwrap();
    };
    let ((), stream) = futures::join!(accepting, soon(client.bidi(&double())));
    let (mut sender, _receiver) = stream.unwrap();
    soon(sender.send(1)).await.unwrap();
    drop(sender);
    assert_eq!(next(&mut frames).await.payload, "1");
    // No end, since that would look complete.
    let last = next(&mut frames).await.headers.unwrap();
    assert_eq!(last.get("Nats-Service-Error-Code").unwrap().as_str(), code::CANCELLED);
    assert!(last.get("Nats-Stream-End").is_none());
}

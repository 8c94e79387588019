//! Generated clients that stream, in front of our service.

use serde_json::{Value, json};

use crate::{PATIENCE, service};

fn texts(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers.into_iter().map(|number| number.to_string()).collect()
}

fn count(to: u64, then: &str) -> Value {
    let body = json!({"to": to, "then": then}).to_string();
    json!({"do": "stream", "subject": "api.v1.count_up", "body": body})
}

#[tokio::test(flavor = "multi_thread")]
async fn python_and_go_read_a_stream() {
    let Some((_server, _connector, service, mut peer)) = service().await else { return };
    for to in [0, 3, 10_000] {
        let read = peer.ask(&count(to, "end"));
        assert_eq!(read["items"], json!(texts(1..=to)));
        assert_eq!((&read["ordered"], &read["code"]), (&json!(true), &Value::Null));
        assert_eq!(read["last"], json!(["Nats-Stream-End"]));
    }
    // An error is on the end, for readers that know one pair, the other, or only the end.
    let failed = peer.ask(&count(3, "fail"));
    assert_eq!(failed["items"], json!(texts(1..=3)));
    assert_eq!((&failed["code"], &failed["text"]), (&json!("NOT_FOUND"), &json!("bad start")));
    let names = [
        "Description",
        "Nats-Service-Error",
        "Nats-Service-Error-Code",
        "Nats-Stream-End",
        "Status",
    ];
    assert_eq!(failed["last"], json!(names));
    // What cannot be decoded comes there too: there is no reply subject.
    let wish = json!({"do": "stream", "subject": "api.v1.count_up", "body": ""});
    assert_eq!(peer.ask(&wish)["code"], "INVALID_ARGUMENT");

    // One that goes away ends its handler.
    let mut leaving = count(u64::MAX, "end");
    leaving["leave_after"] = json!(5);
    assert_eq!(peer.ask(&leaving)["items"], json!(texts(1..=5)));
    testkit::eventually(PATIENCE, || async { service.health().running == 0 }).await;
}

fn go(kind: &str, method: &str, items: impl IntoIterator<Item = u64>, more: Value) -> Value {
    let subject = format!("api.v1.{method}");
    let mut wish = json!({"do": kind, "subject": subject, "items": texts(items)});
    let Value::Object(more) = more else { panic!("{more} is no object") };
    wish.as_object_mut().unwrap().extend(more);
    wish
}

#[tokio::test(flavor = "multi_thread")]
async fn go_sends_a_stream() {
    let Some((_server, _connector, service, mut peer)) = service().await else { return };
    // The subscription for the answer comes after the end; a second CloseSend ends it again.
    for (items, answer, more) in [
        (10_000, "50005000", json!({})),
        (3, "6", json!({"ends": 2})),
        (3, "6", json!({"late": 0.3})),
        (0, "0", json!({"ends": 2, "late": 0.3})),
    ] {
        let told = peer.ask(&go("client_stream_go", "sum", 1..=items, more));
        assert_eq!((&told["ack"], &told["ack_body"]), (&json!(["Nats-Stream-Inbox"]), &json!("")));
        assert_eq!((&told["body"], &told["headers"]), (&json!(answer), &json!({})), "{told}");
        assert_eq!(told["alone"], true);
    }
    // An error, also one that is there long before the end.
    for more in [json!({}), json!({"late": 0.3}), json!({"waits": 3.0})] {
        let told = peer.ask(&go("client_stream_go", "sum", [1, 0, 2], more));
        assert_eq!(told["headers"]["Nats-Service-Error-Code"], "INVALID_ARGUMENT", "{told}");
        assert_eq!(told["headers"]["Nats-Service-Error"], "zero is not added");
        assert_eq!(
            (&told["headers"]["Nats-Stream-End"], &told["body"]),
            (&Value::Null, &json!(""))
        );
        assert_eq!(told["alone"], true);
    }
    // One that has gone is waited for no longer than that.
    for items in [[1, 2], [1, 0]] {
        let told = peer.ask(&go("client_stream_go", "sum", items, json!({"gone": true})));
        assert_eq!(told["ack"], json!(["Nats-Stream-Inbox"]));
    }
    testkit::eventually(PATIENCE, || async { service.health().running == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn go_streams_both_ways() {
    let Some((_server, _connector, service, mut peer)) = service().await else { return };
    for ends in [1, 2] {
        let told = peer.ask(&go("bidi_go", "double", 1..=1_000, json!({"ends": ends})));
        assert_eq!(told["ack"], json!(["Nats-Stream-Inbox"]));
        assert_eq!(told["items"], json!(texts((1..=1_000).map(|number| 2 * number))));
        assert_eq!(told["end"], json!({"Nats-Stream-End": "true"}));
    }
    let told = peer.ask(&go("bidi_go", "double", [1, 0, 2], json!({})));
    assert_eq!(told["items"], json!(["2"]));
    assert_eq!(told["end"]["Nats-Service-Error-Code"], "INVALID_ARGUMENT");
    assert_eq!(told["end"]["Status"], "INVALID_ARGUMENT");
    testkit::eventually(PATIENCE, || async { service.health().running == 0 }).await;
}

//! Generated clients of one request and one response, and what else looks at our service.

use serde_json::{Value, json};

use crate::{ERROR_CODE, Peer, service};

fn call(peer: &mut Peer, body: &str, reads: &str) -> Value {
    let subject = "api.v1.save_profile";
    peer.ask(&json!({"do": "call", "subject": subject, "body": body, "reads": reads}))
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_every_generation_read_answers_and_errors() {
    let Some((_server, _connector, _service, mut peer)) = service().await else { return };
    for reads in [ERROR_CODE, "Status"] {
        let answer = call(&mut peer, r#"{"id":"123"}"#, reads);
        assert_eq!(answer, json!({"body": r#"{"id":"123","name":"Ann 123"}"#, "headers": {}}));
        let answer = call(&mut peer, r#"{"id":"nobody"}"#, reads);
        let expected = json!({"code": "NOT_FOUND", "text": "no such profile", "body": "why"});
        assert_eq!(answer, expected, "{reads}");
        // An empty body is no message in JSON.
        for body in ["", "{"] {
            let answer = call(&mut peer, body, reads);
            assert_eq!(
                (&answer["code"], &answer["body"]),
                (&json!("INVALID_ARGUMENT"), &json!(""))
            );
            let text = answer["text"].as_str().unwrap();
            assert!(text.starts_with("failed to decode request: "), "{text}");
        }
    }
}

/// Clients take a `Status` of 503 for the server's word that nobody listens.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_with_the_code_503_is_still_one_of_the_service() {
    let Some((_server, _connector, _service, mut peer)) = service().await else { return };
    let answer = call(&mut peer, r#"{"id":"busy"}"#, ERROR_CODE);
    assert_eq!(answer, json!({"code": "503", "text": "too busy", "body": ""}));
    let answer = call(&mut peer, r#"{"id":"busy"}"#, "Status");
    assert_eq!(answer, json!({"code": "UNAVAILABLE", "text": "too busy", "body": ""}));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_micro_protocol_is_read_by_nats_py() {
    let Some((_server, _connector, service, mut peer)) = service().await else { return };
    call(&mut peer, r#"{"id":"nobody"}"#, ERROR_CODE);
    let told = peer.ask(&json!({"do": "micro", "name": "profiles"}));
    let about = |kind: &str| {
        json!({"type": format!("io.nats.micro.v1.{kind}_response"), "name": "profiles",
               "id": service.id(), "version": "1.0.0", "metadata": {"team": "a"}})
    };
    assert_eq!(told["PING"]["raw"], about("ping"));
    assert_eq!(told["PING"]["read"], about("ping"));

    let endpoint = |name: &str, metadata: Value| {
        json!({"name": name, "subject": format!("api.v1.{name}"), "queue_group": "q",
               "metadata": metadata})
    };
    let mut info = about("info");
    info["description"] = json!("Keeps profiles");
    info["endpoints"] = json!([
        endpoint("save_profile", json!({"cost": "low"})),
        endpoint("make_report", json!({})),
        endpoint("count_up", json!({})),
        endpoint("sum", json!({})),
        endpoint("double", json!({})),
    ]);
    assert_eq!(told["INFO"]["raw"], info);
    assert_eq!(told["INFO"]["read"], info);

    let stats = &told["STATS"];
    let members = about("stats");
    for (name, value) in members.as_object().unwrap() {
        assert_eq!(&stats["raw"][name], value);
        assert_eq!(&stats["read"][name], value);
    }
    assert_eq!(stats["raw"]["endpoints"], stats["read"]["endpoints"]);
    let endpoint = &stats["read"]["endpoints"][0];
    assert_eq!(endpoint["queue_group"], "q");
    assert_eq!((&endpoint["num_requests"], &endpoint["num_errors"]), (&json!(1), &json!(1)));
    assert_eq!(endpoint["last_error"], "NOT_FOUND:no such profile");
    assert!(endpoint["processing_time"].is_u64() && endpoint["average_processing_time"].is_u64());
}

//! The micro protocol, read by other implementations.

use std::path::Path;

use futures::StreamExt;
use nats_connector::rpc::{Endpoint, ServiceConfig};
use serde_json::{Value, json};
use testkit::{NatsPy, Server, require_nats_py};

use crate::{PATIENCE, connect, find, get, get_profile, profiles, raw};

async fn ask(client: &async_nats::Client, subject: &str) -> Value {
    let answer = client.request(subject.to_owned(), "".into()).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

fn described() -> ServiceConfig {
    profiles().description("Keeps profiles").metadata("team", "a \"b\"\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_level_answers_with_every_member() {
    let server = Server::builder().start().await;
    let connector = connect(&server).await;
    let endpoint = Endpoint::unary(&get_profile().metadata("from", "method"), find);
    let endpoint = endpoint.metadata("unit", "one");
    let service = connector.rpc().service(described()).endpoint(endpoint).serve().await.unwrap();
    let calls = connector.rpc().client(profiles());
    calls.call(&get_profile(), get("1")).await.unwrap();
    calls.call(&get_profile(), get("nobody")).await.unwrap_err();

    let client = raw(&server).await;
    let id = service.id();
    let metadata = json!({"team": "a \"b\"\n"});
    for level in [String::new(), ".profiles".to_owned(), format!(".profiles.{id}")] {
        assert_eq!(
            ask(&client, &format!("$SRV.PING{level}")).await,
            json!({"type": "io.nats.micro.v1.ping_response", "name": "profiles", "id": id,
                   "version": "1.2.3", "metadata": metadata}),
        );
        assert_eq!(
            ask(&client, &format!("$SRV.INFO{level}")).await,
            json!({"type": "io.nats.micro.v1.info_response", "name": "profiles", "id": id,
                   "version": "1.2.3", "metadata": metadata, "description": "Keeps profiles",
                   "endpoints": [{"name": "get_profile", "queue_group": "q",
                                  "subject": "api.v1.profiles.get_profile",
                                  "metadata": {"from": "method", "unit": "one"}}]}),
        );
        let stats = ask(&client, &format!("$SRV.STATS{level}")).await;
        assert_eq!(stats["type"], "io.nats.micro.v1.stats_response");
        assert_eq!((&stats["id"], &stats["metadata"]), (&json!(id), &metadata));
        let started = stats["started"].as_str().unwrap();
        assert!(humantime::parse_rfc3339(started).is_ok(), "{started}");
        let endpoint = &stats["endpoints"][0];
        assert_eq!(endpoint["subject"], "api.v1.profiles.get_profile");
        assert_eq!((&endpoint["num_requests"], &endpoint["num_errors"]), (&json!(2), &json!(1)));
        assert_eq!(endpoint["last_error"], "NOT_FOUND:no such profile");
        let total = endpoint["processing_time"].as_u64().unwrap();
        assert_eq!(endpoint["average_processing_time"].as_u64().unwrap(), total / 2);
        assert!(total > 0);
        assert_eq!(endpoint["data"]["refused"], 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_sent_ends_the_service() {
    let server = Server::builder().start().await;
    let connector = connect(&server).await;
    let endpoint = Endpoint::unary(&get_profile(), find);
    let service = connector.rpc().service(profiles()).endpoint(endpoint).serve().await.unwrap();
    let client = raw(&server).await;
    let subject = "api.v1.profiles.get_profile";
    let mut odd = async_nats::HeaderMap::new();
    odd.insert("Reply-To", "a b");
    odd.insert("Nats-Service-Error", "x");
    for target in [subject, "$SRV.PING", "$SRV.INFO.profiles", "$SRV.STATS"] {
        for payload in ["", "\0", r#"{"id":"1"}"#] {
            client.publish(target, payload.into()).await.unwrap();
            client.publish_with_headers(target, odd.clone(), payload.into()).await.unwrap();
            // Answers that come back as calls.
            client.publish_with_reply(target, subject, payload.into()).await.unwrap();
            client.publish_with_reply(target, "$SRV.PING", payload.into()).await.unwrap();
        }
    }
    // One call of them that counts is the last to come.
    let calls = connect(&server).await.rpc().client(profiles());
    calls.call(&get_profile(), get("1")).await.unwrap();
    for verb in ["PING", "INFO", "STATS"] {
        ask(&client, &format!("$SRV.{verb}.profiles.{}", service.id())).await;
    }
    assert!(service.health().serving);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_instances_all_answer_to_one_ping() {
    let server = Server::builder().start().await;
    let mut ids = Vec::new();
    let mut connectors = Vec::new();
    for _ in 0..3 {
        let connector = connect(&server).await;
        ids.push(crate::serve(&connector.rpc()).await.id().to_owned());
        connectors.push(connector);
    }
    let client = raw(&server).await;
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.unwrap();
    client.publish_with_reply("$SRV.PING.profiles", inbox, "".into()).await.unwrap();
    let mut found = Vec::new();
    while found.len() < 3 {
        let answer = tokio::time::timeout(PATIENCE, answers.next()).await.unwrap().unwrap();
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        found.push(answer["id"].as_str().unwrap().to_owned());
    }
    ids.sort();
    found.sort();
    assert_eq!(found, ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_py_calls_it_and_is_called() {
    if !require_nats_py() {
        return;
    }
    let server = Server::builder().start().await;
    let connector = connect(&server).await;
    let service = crate::serve(&connector.rpc()).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rpc/partner.py");
    let url = server.url();
    tokio::task::spawn_blocking(move || {
        let mut python = NatsPy::start(&script, &[&url]);
        let subject = "api.v1.profiles.get_profile";
        let answer = python.ask(&json!({"do": "call", "subject": subject, "body": {"id": "7"}}));
        assert_eq!(answer["body"], json!({"id": "7", "name": "Ann 7"}));
        let nobody = json!({"id": "nobody"});
        let answer = python.ask(&json!({"do": "call", "subject": subject, "body": nobody}));
        assert_eq!(answer["headers"]["Nats-Service-Error-Code"], "NOT_FOUND");
        for verb in ["PING", "INFO", "STATS"] {
            let subject = format!("$SRV.{verb}.profiles");
            let answer = python.ask(&json!({"do": "call", "subject": subject, "body": null}));
            assert_eq!(answer["body"]["id"], service.id());
        }
        python.ask(&json!({"do": "serve"}));

        tokio::runtime::Handle::current().block_on(async {
            let rpc = connector.rpc();
            let client = rpc.client(ServiceConfig::new("python").prefix("py"));
            let answer = client.call(&get_profile(), get("7")).await.unwrap();
            assert_eq!(answer.get().name, "Py 7");
            let error = client.call(&get_profile(), get("nobody")).await.unwrap_err();
            assert_eq!((error.code(), error.message()), ("404", "nobody there"));
            let found = rpc.discover().name("python").stats().timeout(PATIENCE).await.unwrap();
            assert_eq!((found.len(), &*found[0].version), (1, "2.0.0"));
            let endpoint = &found[0].endpoints[0];
            assert_eq!((endpoint.num_requests, endpoint.num_errors), (2, 1));
            let infos = rpc.discover().name("python").infos().timeout(PATIENCE).await.unwrap();
            assert_eq!(infos[0].endpoints[0].subject, "py.get_profile");
        });
    })
    .await
    .unwrap();
}

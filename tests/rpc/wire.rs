//! What goes over the wire, against a client and a service that know only that.

use async_nats::HeaderMap;
use bytes::Bytes;
use futures::StreamExt;
use nats_connector::rpc::{
    Codec, Endpoint, Method, Request, Response, RpcError, ServiceConfig, code,
};
use nats_connector::{BoxError, Error};
use testkit::Server;

use crate::{
    connect, connect_with, find, get, get_profile, profiles, raw, serve, serve_with, settled,
};

const SUBJECT: &str = "api.v1.profiles.get_profile";

fn header<'a>(headers: Option<&'a HeaderMap>, name: &str) -> Option<&'a str> {
    headers?.get(name).map(async_nats::HeaderValue::as_str)
}

/// A method whose messages are bytes.
#[derive(Clone)]
struct Plain;

impl Codec<Bytes> for Plain {
    fn encode(&self, message: &Bytes) -> nats_connector::Result<Bytes> {
        Ok(message.clone())
    }

    fn decode(&self, bytes: &Bytes) -> nats_connector::Result<Bytes> {
        Ok(bytes.clone())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_client_is_answered() {
    let server = Server::builder().start().await;
    let connector = connect(&server).await;
    serve(&connector.rpc()).await;
    let client = raw(&server).await;

    let answer = client.request(SUBJECT, r#"{"id":"7"}"#.into()).await.unwrap();
    assert_eq!(answer.payload, r#"{"id":"7","name":"Ann 7"}"#);
    assert!(answer.headers.is_none(), "{:?}", answer.headers);

    let answer = client.request(SUBJECT, r#"{"id":"nobody"}"#.into()).await.unwrap();
    let headers = answer.headers.as_ref();
    assert_eq!(header(headers, "Nats-Service-Error-Code"), Some("NOT_FOUND"));
    assert_eq!(header(headers, "Nats-Service-Error"), Some("no such profile"));
    assert_eq!(header(headers, "Status"), Some("NOT_FOUND"));
    assert_eq!(header(headers, "Description"), Some("no such profile"));
    assert_eq!(answer.payload, "the body");

    for bad in ["", "{", "[]", "\u{0}\u{ff}"] {
        let answer = client.request(SUBJECT, bad.into()).await.unwrap();
        let headers = answer.headers.as_ref();
        assert_eq!(header(headers, "Nats-Service-Error-Code"), Some("INVALID_ARGUMENT"));
        let text = header(headers, "Nats-Service-Error").unwrap();
        assert!(text.starts_with("failed to decode request: "), "{text}");
        assert_eq!(answer.payload, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_go_both_ways_and_an_empty_message_is_one() {
    let server = Server::builder().start().await;
    let connector = connect(&server).await;
    let method = Method::with_codec("echo", Plain);
    let endpoint = Endpoint::unary(&method, |request: Request<Bytes>| async move {
        let trace = request.headers().get("Trace").map_or("none", |value| value.as_str());
        let response = Response::new(request.get().clone()).header("Trace", trace)?;
        let response = response.header("Many", "1")?.header("Many", "2")?;
        assert_eq!(request.subject(), "api.v1.profiles.echo");
        Ok::<_, Error>(response)
    });
    serve_with(&connector.rpc(), endpoint).await;
    let client = raw(&server).await;
    let mut headers = HeaderMap::new();
    headers.insert("Trace", "abc");
    let subject = "api.v1.profiles.echo";
    let answer = client.request_with_headers(subject, headers, "".into()).await.unwrap();
    assert_eq!(answer.payload, "");
    let headers = answer.headers.unwrap();
    assert_eq!(header(Some(&headers), "Trace"), Some("abc"));
    assert_eq!(headers.get_all("Many").count(), 2);
    assert_eq!(header(Some(&headers), "Nats-Service-Error-Code"), None);

    let ours = connector.rpc().client(profiles());
    let answer = ours.call(&method, Bytes::from_static(b"\0\xff")).header("Trace", "é").await;
    let answer = answer.unwrap();
    assert_eq!(answer.get(), &Bytes::from_static(b"\0\xff"));
    assert_eq!(header(Some(answer.headers()), "Trace"), Some("é"));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_keep_their_code_in_a_chain_and_are_safe_to_send() {
    #[derive(Debug)]
    struct Wrapped(RpcError);
    impl std::fmt::Display for Wrapped {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("while saving")
        }
    }
    impl std::error::Error for Wrapped {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    let server = Server::builder().start().await;
    let connector = connect(&server).await;
    let method = Method::<String, ()>::json("fail");
    let endpoint = Endpoint::unary(&method, |request: Request<String>| async move {
        let error: BoxError = match request.get().as_str() {
            "wrapped" => {
                let inner = RpcError::new("ORDER_EXPIRED", "too late").with_body("b");
                Box::new(Wrapped(inner.with_header("Retry-After", "5")?))
            }
            "lines" => "first\r\nNats-Service-Error-Code: OK\r\n\r\nbody".into(),
            "empty" => "".into(),
            "long" => "x".repeat(2_000_000).into(),
            "body" => Box::new(RpcError::internal("big").with_body(vec![0; 2_000_000])),
            _ => Box::new(nats_connector::Error::new(nats_connector::ErrorKind::Timeout, "slow")),
        };
        Err::<(), BoxError>(error)
    });
    serve_with(&connector.rpc(), endpoint).await;
    let client = raw(&server).await;
    let ask = async |what: &str| {
        let payload = serde_json::to_vec(what).unwrap();
        let answer = client.request("api.v1.profiles.fail", payload.into()).await.unwrap();
        let headers = answer.headers.unwrap();
        let get = |name| header(Some(&headers), name).unwrap_or_default().to_owned();
        assert_eq!(get("Status"), get("Nats-Service-Error-Code"));
        let retry = get("Retry-After");
        (get("Nats-Service-Error-Code"), get("Nats-Service-Error"), answer.payload, retry)
    };
    let told = |code: &str, text: &str, body: &'static str, retry: &str| {
        (code.to_owned(), text.to_owned(), Bytes::from_static(body.as_bytes()), retry.to_owned())
    };
    let wrapped = told("ORDER_EXPIRED", "while saving: ORDER_EXPIRED: too late", "b", "5");
    assert_eq!(ask("wrapped").await, wrapped);
    let lines = told("INTERNAL", "first  Nats-Service-Error-Code: OK    body", "", "");
    assert_eq!(ask("lines").await, lines);
    assert_eq!(ask("empty").await, told("INTERNAL", "no reason given", "", ""));
    assert_eq!(ask("timeout").await, told("DEADLINE_EXCEEDED", "slow", "", ""));
    assert_eq!(ask("long").await.0, "INTERNAL");
    assert_eq!(ask("body").await, told("INTERNAL", "big", "", ""));

    let error = connector.rpc().client(profiles()).call(&method, "wrapped".to_owned()).await;
    let error = error.unwrap_err();
    assert!(error.is("ORDER_EXPIRED") && error.is_remote() && error.body() == "b");
    assert_eq!(header(error.headers(), "Retry-After"), Some("5"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_another_kind_is_understood() {
    let server = Server::builder().start().await;
    let connector = connect(&server).await;
    let peer = raw(&server).await;
    let mut requests = peer.subscribe("other.*").await.unwrap();
    settled(&peer).await;
    let answers = tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let mut headers = HeaderMap::new();
            let body = match request.subject.as_str() {
                "other.python" => {
                    headers.insert("Status", "NOT_FOUND");
                    headers.insert("Description", "nope");
                    ""
                }
                "other.numbers" => {
                    headers.insert("Nats-Service-Error-Code", "404");
                    headers.insert("Nats-Service-Error", "gone");
                    "why"
                }
                "other.garbage" => "{",
                _ => r#"{"id":"1","name":"Bob"}"#,
            };
            let reply = request.reply.unwrap();
            peer.publish_with_headers(reply, headers, body.into()).await.unwrap();
        }
    });
    let client = connector.rpc().client(ServiceConfig::new("other"));
    let call = |name: &str| client.call(&Method::<_, crate::Profile>::json(name), get("1"));
    assert_eq!(call("go").await.unwrap().get().name, "Bob");
    let error = call("python").await.unwrap_err();
    assert_eq!((error.code(), error.message(), error.is_remote()), ("NOT_FOUND", "nope", true));
    let error = call("numbers").await.unwrap_err();
    assert_eq!((error.code(), error.message()), ("404", "gone"));
    assert_eq!(error.body(), "why");
    let error = call("garbage").await.unwrap_err();
    assert!(error.is(code::INTERNAL) && !error.is_remote());
    assert!(error.message().contains("failed to decode the response of other.garbage"), "{error}");
    answers.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_topic_prefix_is_before_methods_alone() {
    let server = Server::builder().start().await;
    let connector = connect_with(&server, &[("NATS.TOPIC_PREFIX", "test.")]).await;
    let rpc = connector.rpc();
    let service = serve(&rpc).await;
    assert_eq!(service.info().endpoints[0].subject, format!("test.{SUBJECT}"));
    let client = raw(&server).await;
    let subject = format!("test.{SUBJECT}");
    assert!(client.request(subject, r#"{"id":"7"}"#.into()).await.is_ok());
    assert!(client.request("$SRV.PING.profiles", "".into()).await.is_ok());
    rpc.client(profiles()).call(&get_profile(), get("1")).await.unwrap();
    let plain = rpc.client(profiles()).ignore_prefix();
    let error = plain.call(&get_profile(), get("1")).await.unwrap_err();
    assert!(error.is_no_responders(), "{error}");

    let endpoint = Endpoint::unary(&get_profile(), find);
    rpc.service(profiles()).endpoint(endpoint).ignore_prefix().serve().await.unwrap();
    plain.call(&get_profile(), get("1")).await.unwrap();
}

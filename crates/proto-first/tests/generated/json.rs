//! Messages in JSON, as other implementations of protobuf read and write it.

use std::collections::{BTreeMap, HashMap};

use nats_connector::rpc::protobuf::prost_types::{self, Any, FieldMask, Timestamp, value::Kind};
use nats_connector::rpc::{self, Codec, Request, Response, code};
use proto_first::proto::json::v1::everything::{Choice, Color};
use proto_first::proto::json::v1::{
    Everything, JsonService, JsonServiceClient, JsonServiceServer, json_service,
};
use serde_json::{Value, json};
use testkit::Server;

use super::{connect, raw};

struct Echo;

impl JsonService for Echo {
    async fn echo(&self, request: Request<Everything>) -> rpc::Result<Response<Everything>> {
        Ok(request.into_inner().into())
    }

    async fn nothing(&self, _request: Request<()>) -> rpc::Result<Response<()>> {
        Ok(().into())
    }

    async fn shape(
        &self,
        request: Request<prost_types::Struct>,
    ) -> rpc::Result<Response<prost_types::Struct>> {
        Ok(request.into_inner().into())
    }

    async fn text(&self, request: Request<String>) -> rpc::Result<Response<String>> {
        Ok(request.into_inner().to_uppercase().into())
    }

    async fn follow(
        &self,
        request: Request<Everything>,
        mut responses: rpc::Sender<Everything>,
    ) -> rpc::Result<()> {
        let request = request.into_inner();
        for big in 0..3 {
            responses.send(Everything { big, ..request.clone() }).await?;
        }
        Ok(())
    }
}

fn everything() -> Everything {
    let text = prost_types::Value { kind: Some(Kind::StringValue("deep".to_owned())) };
    Everything {
        id: "a".to_owned(),
        big: 9_007_199_254_740_993,
        color: Color::Red.into(),
        raw: vec![1, 255],
        long_name: "long".to_owned(),
        numbers: vec![1.5, f64::INFINITY],
        counts: HashMap::from([("one".to_owned(), 1)]),
        at: Some(Timestamp { seconds: 1, nanos: 500_000_000 }),
        lasts: Some(prost_types::Duration { seconds: 3, nanos: 0 }),
        shape: Some(prost_types::Struct { fields: BTreeMap::from([("key".to_owned(), text)]) }),
        any: Some(
            Any::from_msg(&Everything { id: "in any".to_owned(), ..Default::default() }).unwrap(),
        ),
        mask: Some(FieldMask { paths: vec!["long_name".to_owned()] }),
        maybe: Some(String::new()),
        count: Some(0),
        choice: Some(Choice::Text("chosen".to_owned())),
    }
}

fn as_json() -> Value {
    json!({
        "id": "a",
        "big": "9007199254740993",
        "color": "COLOR_RED",
        "raw": "Af8=",
        "longName": "long",
        "numbers": [1.5, "Infinity"],
        "counts": {"one": 1},
        "at": "1970-01-01T00:00:01.500Z",
        "lasts": "3s",
        "shape": {"key": "deep"},
        "any": {"@type": "type.googleapis.com/json.v1.Everything", "id": "in any"},
        "mask": "longName",
        "maybe": "",
        "count": 0,
        "text": "chosen",
    })
}

async fn ask(raw: &async_nats::Client, method: &str, body: &str) -> Result<Value, String> {
    let subject = format!("api.v1.json.{method}");
    let reply = raw.request(subject, body.to_owned().into()).await.unwrap();
    let headers = reply.headers.unwrap_or_default();
    match headers.get("Nats-Service-Error-Code") {
        Some(code) => {
            let text = headers.get("Nats-Service-Error").map(ToString::to_string);
            Err(format!("{code}: {}", text.unwrap_or_default()))
        }
        None => Ok(serde_json::from_slice(&reply.payload).unwrap()),
    }
}

#[tokio::test]
async fn bodies_are_canonical_json() {
    let server = Server::builder().jetstream().start().await;
    let nats = connect(&server).await;
    let _service = JsonServiceServer::new(Echo).service(&nats.rpc()).serve().await.unwrap();
    let client = JsonServiceClient::new(&nats.rpc());
    assert_eq!(client.echo(everything()).await.unwrap().into_inner(), everything());

    let raw = raw(&server).await;
    assert_eq!(ask(&raw, "echo", &as_json().to_string()).await, Ok(as_json()));
    // Both spellings of names, numbers as text or not, enums by number, defaults left out.
    let body = r#"{"id":"b","long_name":"x","big":5,"color":1,"count":"7","numbers":[]}"#;
    let expected =
        json!({"id": "b", "longName": "x", "big": "5", "color": "COLOR_RED", "count": 7});
    assert_eq!(ask(&raw, "echo", body).await, Ok(expected));
    assert_eq!(ask(&raw, "nothing", "{}").await, Ok(json!({})));
    let shape = json!({"a": [1.0, null, true, {"b": "c"}]});
    assert_eq!(ask(&raw, "shape", &shape.to_string()).await, Ok(shape));
    assert_eq!(ask(&raw, "text", "\"loud\"").await, Ok(json!("LOUD")));

    for body in ["", "{", r#"{"nope":1}"#, r#"{"id":1}"#, r#"{"color":"RED"}"#, "{} {}"] {
        let error = ask(&raw, "echo", body).await.unwrap_err();
        assert!(error.starts_with(code::INVALID_ARGUMENT), "{body}: {error}");
    }
    let error = ask(&raw, "echo", r#"{"nope":1}"#).await.unwrap_err();
    assert!(error.contains("nope"), "{error}");
    assert!(!error.contains('\n'), "{error}");

    // What is kept is the reply's body.
    let bucket = async_nats::jetstream::new(raw).get_key_value("json_echo").await.unwrap();
    let stored = bucket.get("echo.a").await.unwrap().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&stored).unwrap(), as_json());
    let stored = client.kv_echo().get("echo.a").await.unwrap();
    assert_eq!(stored, Some(everything()));

    let mut follow = client.follow(everything()).await.unwrap();
    for big in 0..3 {
        assert_eq!(follow.next().await.unwrap().unwrap().big, big);
    }
    assert!(follow.next().await.is_none());
}

#[test]
fn an_any_of_an_unknown_type_has_no_json() {
    let any = Any { type_url: "type.googleapis.com/no.Such".to_owned(), value: vec![1] };
    let codec = rpc::protobuf::ProtobufJson::new(&DESCRIPTORS, "json.v1.Everything");
    let error = codec.encode(&Everything { any: Some(any), ..Default::default() }).unwrap_err();
    assert_eq!(error.kind(), nats_connector::ErrorKind::Encode, "{error}");
    assert_eq!(json_service::methods::echo().name(), "echo");
}

static DESCRIPTORS: rpc::protobuf::Descriptors = rpc::protobuf::Descriptors::new(include_bytes!(
    concat!(env!("OUT_DIR"), "/nats_connector_protos.bin")
));

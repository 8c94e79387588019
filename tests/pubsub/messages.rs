//! What a message carries: headers, and payloads of every serializer.

use std::collections::BTreeMap;

use async_nats::HeaderMap;
use nats_connector::serializer::{ErasedTarget, ErasedValue, Format};
use nats_connector::{BoxError, ErrorKind, Serializer};
use serde::{Deserialize, Serialize};
use testkit::Server;

use crate::{connect, connect_with, next};

#[tokio::test(flavor = "multi_thread")]
async fn headers_arrive_with_all_their_values() {
    let server = Server::builder().start().await;
    let pubsub = connect(&server).await.pubsub();
    let mut stream = pubsub.messages("a").await.unwrap();
    let mut more = HeaderMap::new();
    more.append("Step", "three");
    more.append("Origin", "h\u{e9}re");
    pubsub
        .publish("a", &1)
        .header("Step", "one")
        .header("Step", "two")
        .headers(&more)
        .await
        .unwrap();
    pubsub.publish("a", &2).await.unwrap();

    let message = next(&mut stream).await;
    let steps: Vec<_> = message.headers().unwrap().get_all("Step").map(|v| v.as_str()).collect();
    assert_eq!(steps, ["one", "two", "three"]);
    assert_eq!(message.header("Origin"), Some("h\u{e9}re"));
    assert_eq!((message.header("step"), message.header("Content-Type")), (None, None));
    let message = next(&mut stream).await;
    assert!(message.headers().is_none() && message.header("Step").is_none());
    assert_eq!(message.decode::<u8>().unwrap(), 2);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    tags: BTreeMap<String, String>,
}

/// `application/x-hex`: JSON in hexadecimal digits.
struct Hex;

impl Format for Hex {
    fn encode(&self, value: ErasedValue<'_>) -> Result<Vec<u8>, BoxError> {
        let json = serde_json::to_vec(&value)?;
        Ok(json.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect())
    }

    fn decode(&self, bytes: &[u8], target: ErasedTarget<'_>) -> Result<(), BoxError> {
        let digits = std::str::from_utf8(bytes)?;
        let byte = |at| u8::from_str_radix(digits.get(at..at + 2).unwrap_or("?"), 16);
        let json: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect::<Result<_, _>>()?;
        target.read(&mut serde_json::Deserializer::from_slice(&json))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_obeys_the_content_type_that_it_finds() {
    let server = Server::builder().start().await;
    let json = connect(&server).await.pubsub();
    let packed = connect_with(&server, &[("NATS.SERIALIZER", "messagepack")]).await.pubsub();
    let text = json.with_serializer(Serializer::text());
    let hex = json.with_serializer(Serializer::custom("application/x-hex", Hex).unwrap());
    let order = Order { id: 7, tags: BTreeMap::from([("a".to_owned(), "b".to_owned())]) };

    // One reader of each kind; each writer is understood by each reader that knows its format.
    let mut readers = Vec::new();
    for handle in [&json, &packed, &text, &hex] {
        readers.push(handle.messages("orders").await.unwrap());
    }
    for (handle, content_type) in
        [(&json, None), (&packed, Some("application/msgpack")), (&hex, Some("application/x-hex"))]
    {
        let sent = handle.publish("orders", &order);
        // JSON writes no header, so a reader with another serializer needs to be told.
        match content_type {
            None => sent.header("Content-Type", "Application/JSON; charset=utf-8").await,
            Some(_) => sent.await,
        }
        .unwrap();
        for (at, reader) in readers.iter_mut().enumerate() {
            let message = next(reader).await;
            if content_type.is_some() {
                assert_eq!(message.header("Content-Type"), content_type);
            }
            let knows_hex = at == 3;
            match message.decode::<Order>() {
                Ok(found) => assert_eq!(found, order),
                Err(error) => {
                    assert!(!knows_hex && content_type == Some("application/x-hex"), "{error}");
                    assert_eq!(error.kind(), ErrorKind::Decode);
                    assert_eq!(error.context("content_type"), content_type);
                    assert_eq!(error.context("topic"), Some("orders"));
                }
            }
        }
    }

    text.publish("orders", "raw text").await.unwrap();
    for reader in &mut readers {
        let message = next(reader).await;
        assert_eq!(message.payload(), "raw text");
        assert_eq!(message.header("Content-Type"), Some("text/plain; charset=utf-8"));
        assert_eq!(message.decode::<String>().unwrap(), "raw text");
    }

    // Without a header each reader uses its own: these are `7`, the number 55, `7`, and half a byte.
    json.publish_bytes("orders", "7").await.unwrap();
    for (reader, expected) in readers.iter_mut().zip([Some(7), Some(55), Some(7), None]) {
        assert_eq!(next(reader).await.decode::<u32>().ok(), expected);
    }
    let error = text.publish("orders", &order).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Encode);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_read_as_its_content_type_says() {
    let server = Server::builder().start().await;
    let json = connect(&server).await.pubsub();
    let packed = json.with_serializer(Serializer::message_pack());
    packed
        .subscribe("double", |message: nats_connector::pubsub::Message| async move {
            let number: u32 = message.decode()?;
            message.respond(&(number * 2)).header("Unit", "pieces").await
        })
        .await
        .unwrap();
    let answer = json.request("double", &21).header("Content-Type", "application/json").await;
    let answer = answer.unwrap();
    assert_eq!(answer.header("Content-Type"), Some("application/msgpack"));
    assert_eq!(answer.header("Unit"), Some("pieces"));
    assert_eq!(answer.decode::<u32>().unwrap(), 42);
}

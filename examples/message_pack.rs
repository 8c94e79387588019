//! Other formats than JSON: MessagePack, and one of the application's own.
//!
//! Both write a `Content-Type` header that readers obey, so a handle with any serializer reads
//! them. `NATS.SERIALIZER=messagepack` chooses it for everything without a line of code.

#![expect(clippy::print_stdout, reason = "the output is what this example is for")]

use futures::StreamExt;
use nats_connector::serializer::{ErasedTarget, ErasedValue, Format};
use nats_connector::{BoxError, Connector, Serializer};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    sensor: String,
    celsius: f64,
}

/// JSON after a byte with the version of its schema.
struct Versioned;

const VERSION: u8 = 1;

impl Format for Versioned {
    fn encode(&self, value: ErasedValue<'_>) -> Result<Vec<u8>, BoxError> {
        let mut bytes = vec![VERSION];
        serde_json::to_writer(&mut bytes, &value)?;
        Ok(bytes)
    }

    fn decode(&self, bytes: &[u8], target: ErasedTarget<'_>) -> Result<(), BoxError> {
        match bytes.split_first() {
            Some((&VERSION, json)) => target.read(&mut serde_json::Deserializer::from_slice(json)),
            _ => Err(format!("expected version {VERSION}").into()),
        }
    }
}

#[tokio::main]
async fn main() -> nats_connector::Result<()> {
    let connector = Connector::from_settings().await?;
    let pubsub = connector.pubsub();
    let packed = pubsub.with_serializer(Serializer::message_pack());
    let custom = Serializer::custom("application/x-versioned-json", Versioned)?;
    let versioned = pubsub.with_serializer(custom);

    // Reads its own format, and MessagePack by its header.
    let mut readings = versioned.messages("readings").await?;
    let reading = Reading { sensor: "roof".into(), celsius: 21.5 };
    packed.publish("readings", &reading).await?;
    versioned.publish("readings", &reading).await?;
    for message in readings.by_ref().take(2).collect::<Vec<_>>().await {
        assert_eq!(message.decode::<Reading>()?, reading);
        let format = message.header("Content-Type").unwrap_or_default();
        println!("{} bytes of {format}", message.payload().len());
    }
    drop(readings);

    // Values of a bucket keep their format, too.
    let kv = connector.kv();
    let packed = kv.clone().with_serializer(Serializer::message_pack());
    packed.set("reading:roof", &reading).await?;
    let stored: Option<Reading> = kv.get("reading:roof").await?;
    println!("key-value: {stored:?}");

    std::process::exit(i32::from(!connector.drain().await.is_clean()));
}

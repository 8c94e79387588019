//! Values of types, and what is told beside the bytes.

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Report {
    title: String,
    pages: Vec<Option<u32>>,
}

/// Values come back through the serializer that wrote them.
pub async fn values(objects: &Objects) {
    let objects = objects.bucket(unique("values"));
    let report = Report { title: "größer".to_owned(), pages: vec![Some(1), None] };
    ok("put a value", objects.put("json", &report).await);
    same("get a value", objects.get("json").await, &Some(report.clone()));
    let text = ok("its bytes", objects.get_bytes("json").await);
    let read = text.as_deref().map(serde_json::from_slice::<Report>);
    assert!(matches!(read, Some(Ok(found)) if found == report), "it is JSON: {text:?}");
    ok("put null", objects.put("null", &None::<Report>).await);
    same("null is a value", objects.get::<Option<Report>>("null").await, &Some(None));
    refused("get another type", ErrorKind::Decode, objects.get::<Vec<u32>>("json").await);

    let packed = objects.clone().with_serializer(Serializer::message_pack());
    let put = packed.put("packed", &report).await;
    if capabilities(&objects).await.metadata {
        let put = ok("put with another serializer", put);
        assert!(put.content_type().is_some(), "its media type is kept: {put:?}");
        same("get with the default one", objects.get("packed").await, &Some(report.clone()));
        let unlike = packed.get::<Report>("json").await;
        refused("get what has no media type", ErrorKind::Decode, unlike);
    } else {
        refused("put with another serializer", ErrorKind::Unsupported, put);
    }
}

/// Description, headers and metadata are kept with an object, or refused.
pub async fn headers(objects: &Objects) {
    let objects = objects.bucket(unique("headers"));
    let put = objects
        .put_bytes("told", "bytes")
        .description("what it is: größer")
        .header("X-One", "first")
        .header("X-One", "second")
        .content_type("text/plain")
        .metadata("owner", "Ann\n\"quoted\"")
        .await;
    if !capabilities(&objects).await.metadata {
        refused("put with headers", ErrorKind::Unsupported, put);
        same("nothing is there", objects.info("told").await, &None);
        return;
    }
    let put = timeless(ok("put with headers", put));
    let info = ok("info", objects.info("told").await).map(timeless);
    assert_eq!(info.as_ref(), Some(&put), "info tells what the put told");
    assert_eq!(put.description.as_deref(), Some("what it is: größer"), "the description");
    let one = put.headers.get("X-One").cloned().unwrap_or_default();
    assert_eq!(one, ["first", "second"], "the values of a header, in order");
    assert_eq!(put.content_type(), Some("text/plain"), "the media type");
    let owner = put.metadata.get("owner").map(String::as_str);
    assert_eq!(owner, Some("Ann\n\"quoted\""), "the metadata");
    let reader = ok("open", objects.reader("told").await);
    assert_eq!(reader.map(|it| timeless(it.info().clone())), Some(put), "a reader tells the same");

    ok("put without", objects.put_bytes("told", "other").await);
    let info = ok("info", objects.info("told").await);
    let empty = info.is_some_and(|it| {
        it.description.is_none() && it.headers.is_empty() && it.metadata.is_empty()
    });
    assert!(empty, "another put of the name begins anew");
    let wrong = objects.put_bytes("wrong", "x").header("Bad\r\nName", "x").await;
    refused("a header that cannot be", ErrorKind::InvalidInput, wrong);
    let wrong = objects.put_bytes("wrong", "x").header("Name", "bad\r\nvalue").await;
    refused("a header's value that cannot be", ErrorKind::InvalidInput, wrong);
}

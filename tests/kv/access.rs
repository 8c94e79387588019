//! Users with few permissions.

use nats_connector::ErrorKind;
use testkit::{Permissions, Server};

use super::connect_with;

const READER: &[(&str, &str)] = &[("NATS.USERNAME", "reader"), ("NATS.PASSWORD", "r")];
const WRITER: &[(&str, &str)] = &[("NATS.USERNAME", "writer"), ("NATS.PASSWORD", "w")];
const ADMIN: &[(&str, &str)] = &[("NATS.USERNAME", "admin"), ("NATS.PASSWORD", "a")];

#[tokio::test(flavor = "multi_thread")]
async fn users_that_may_not_ask_for_the_stream_read_and_write() {
    let inbox = ["_INBOX.>"];
    let reader = Permissions::default().publish(&["$JS.API.DIRECT.GET.KV_b.>"]).subscribe(&inbox);
    let writes = ["$JS.API.DIRECT.GET.KV_b.>", "$JS.API.STREAM.MSG.GET.KV_b", "$KV.b.>"];
    let writer = Permissions::default().publish(&writes).subscribe(&inbox);
    let server = Server::builder()
        .jetstream()
        .user("admin", "a")
        .user_with("reader", "r", &reader)
        .user_with("writer", "w", &writer)
        .start()
        .await;
    let admin = connect_with(&server, ADMIN).await;
    let reader = connect_with(&server, READER).await;
    let writer = connect_with(&server, WRITER).await;

    // Missing or without a leader: this user cannot tell, so it is no miss.
    let error = reader.kv().bucket("b").get_raw("key").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("STREAM.INFO is not permitted"), "{error}");

    admin.kv().bucket("b").set("user:1", &1).await.unwrap();
    let kv = reader.kv().bucket("b");
    assert_eq!(kv.get::<u32>("user:1").await.unwrap(), Some(1));
    assert_eq!(kv.get::<u32>("user:2").await.unwrap(), None);
    let denied = kv.set("user:1", &2).await.unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::Unauthorized);
    assert!(denied.to_string().contains("$KV.b.user=3A1"), "{denied}");

    let kv = writer.kv().bucket("b");
    kv.set("user:1", &3).await.unwrap();
    assert!(kv.replace("user:1", &4).await.unwrap().is_some());
    assert_eq!(kv.get::<u32>("user:1").await.unwrap(), Some(4));
    kv.delete("user:1").await.unwrap();
    assert_eq!(reader.kv().bucket("b").get::<u32>("user:1").await.unwrap(), None);
}

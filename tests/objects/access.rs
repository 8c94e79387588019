//! Users that may do little, and subjects that are not the usual ones.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use nats_connector::ErrorKind;
use testkit::{Permissions, Server, ServerBuilder, eventually};

use super::{bytes, chunks, connect_to};

const LIMIT: Duration = Duration::from_secs(30);

/// A server with the user `user`, who may publish to `subjects` alone, and one who may do all.
async fn server_for(subjects: &[&str]) -> (Server, super::Connector, super::Connector) {
    let may = Permissions::default().publish(subjects).subscribe(&["_INBOX.>"]);
    let builder: ServerBuilder = Server::builder().jetstream();
    let server = builder.user("admin", "a").user_with("user", "u", &may).start().await;
    let login = |name, password| [("NATS.USERNAME", name), ("NATS.PASSWORD", password)];
    let admin = connect_to(&server.url(), &login("admin", "a")).await;
    let user = connect_to(&server.url(), &login("user", "u")).await;
    (server, user, admin)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_put_can() {
    let subjects =
        ["$O.b.C.*", "$O.b.M.*", "$JS.API.STREAM.MSG.GET.OBJ_b", "$JS.API.STREAM.PURGE.OBJ_b"];
    let (_server, user, admin) = server_for(&subjects).await;
    admin.objects().create_bucket("b").await.unwrap();
    let objects = user.objects().bucket("b").with_max_chunk_size(1000);
    for seed in 0..2 {
        objects.put_bytes("a", bytes(10_000, seed)).await.unwrap();
    }
    assert_eq!(chunks(&admin, "b").await, 10);
    let read = admin.objects().bucket("b").get_bytes("a").await.unwrap().unwrap();
    assert_eq!(read, bytes(10_000, 1));
    assert!(objects.delete("a").await.unwrap());

    let error = objects.get_bytes("a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert!(error.context("subject").unwrap().contains("DIRECT.GET.OBJ_b"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_read_can() {
    let subjects = [
        "$JS.API.DIRECT.GET.OBJ_b.>",
        "$JS.API.CONSUMER.CREATE.OBJ_b.>",
        "$JS.API.CONSUMER.MSG.NEXT.OBJ_b.*",
        "$JS.API.STREAM.INFO.OBJ_b",
    ];
    let (_server, user, admin) = server_for(&subjects).await;
    let all = admin.objects().bucket("b");
    all.put_bytes("small", "x").await.unwrap();
    all.put_bytes("large", bytes(1_000_000, 1)).await.unwrap();
    let objects = user.objects().bucket("b");
    assert_eq!(objects.get_bytes("small").await.unwrap().unwrap(), "x");
    assert_eq!(objects.get_bytes("large").await.unwrap().unwrap(), bytes(1_000_000, 1));
    let listed: Vec<_> = objects.list().await.unwrap().try_collect().await.unwrap();
    assert_eq!(listed.len(), 2);
    let watcher = objects.watch().await.unwrap();
    assert_eq!(watcher.take(3).try_collect::<Vec<_>>().await.unwrap().len(), 3);

    for error in
        [objects.put_bytes("a", "x").await.unwrap_err(), objects.delete("small").await.unwrap_err()]
    {
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_are_not_permitted_fail_the_put_at_once() {
    let subjects = ["$O.b.M.*", "$JS.API.STREAM.MSG.GET.OBJ_b", "$JS.API.STREAM.PURGE.OBJ_b"];
    let (_server, user, admin) = server_for(&subjects).await;
    admin.objects().create_bucket("b").await.unwrap();
    let put = user.objects().bucket("b").put_bytes("a", "x").timeout(LIMIT);
    let error = put.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert!(error.context("subject").unwrap().starts_with("$O.b.C."), "{error}");
    assert_eq!(admin.objects().bucket("b").info("a").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_in_another_domain_is_used_over_a_leaf_node() {
    let hub = Server::builder().jetstream_domain("hub").leaf_nodes().start().await;
    let leaf = Server::builder().leaf_of(&hub).start().await;
    let connector = connect_to(&leaf.url(), &[("NATS.JETSTREAM_DOMAIN", "hub")]).await;
    let at_hub = connect_to(&hub.url(), &[]).await;
    // The leaf learns of the hub's JetStream when their connection is up.
    eventually(LIMIT, || async { connector.objects().create_bucket("b").await.is_ok() }).await;
    let objects = connector.objects().bucket("b").with_timeout(LIMIT);
    let data = bytes(1_000_000, 7);
    objects.put_bytes("a", data.clone()).await.unwrap();
    objects.put_bytes("a", data.clone()).await.unwrap();
    assert_eq!(objects.get_bytes("a").await.unwrap().unwrap(), data);
    let there = at_hub.objects().bucket("b");
    assert_eq!(there.get_bytes("a").await.unwrap().unwrap(), data);
    assert_eq!(chunks(&at_hub, "b").await, 8);
    assert!(objects.delete("a").await.unwrap());
    assert!(!there.exists("a").await.unwrap());
}

//! What is stored is what was replied, as other clients see it.

use futures::TryStreamExt;
use nats_connector::rpc::{KeyText, Method, Persist, Policy, Receipt};

use crate::{Ask, Profile, ask, config, in_users, jetstream, kept, save, serve, stored, user_key};

#[tokio::test(flavor = "multi_thread")]
async fn other_clients_find_the_bytes_of_the_reply_under_the_plain_key() {
    let (_server, nats) = jetstream().await;
    let method = save().persist(in_users());
    let service = serve(&nats.rpc(), std::slice::from_ref(&method)).await.unwrap();
    let client = nats.client().unwrap();
    let request = r#"{"id":"u=3A1","name":"Ada"}"#;
    let reply = client.request("profiles.save_profile", request.into()).await.unwrap();
    stored(&service, "save_profile", 1).await;

    let context = async_nats::jetstream::new(client.clone());
    let bucket = context.get_key_value("users").await.unwrap();
    let value = bucket.get("user.u=3A1").await.unwrap().unwrap();
    assert_eq!(value, reply.payload);
    let keys: Vec<String> = bucket.keys().await.unwrap().try_collect().await.unwrap();
    assert_eq!(keys, ["user.u=3A1"]);
    let stream = context.get_stream("KV_users").await.unwrap();
    let message = stream.direct_get_last_for_subject("$KV.users.user.u=3A1").await.unwrap();
    // What the server adds to an answer, and nothing else.
    let of_the_server = ["Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp"];
    let headers = message.headers.iter().map(|(name, _)| name.to_string());
    let own: Vec<String> = headers.filter(|name| !of_the_server.contains(&&**name)).collect();
    assert!(own.is_empty() || own == ["Nats-Num-Pending"], "{own:?}");
    assert_eq!(stream.cached_info().config.max_messages_per_subject, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_escaped_where_asked_and_refused_else() {
    let (_server, nats) = jetstream().await;
    let escaped =
        |ask: &Ask| KeyText::new().escaping().text("user.").field("id", &ask.id)?.finish();
    let strict = save().persist(in_users());
    let escaping = Method::json("escape").persist(Persist::kv("users", escaped));
    let methods = [strict.clone(), escaping.clone()];
    let service = serve(&nats.rpc(), &methods).await.unwrap();
    let client = nats.rpc().client(config());

    let hostile = ask("*.> ä", "Eve");
    client.call(&escaping, hostile.clone()).await.unwrap();
    stored(&service, "escape", 1).await;
    let found: Option<Profile> = client.kv(&escaping).get_for(&hostile).await.unwrap();
    assert_eq!(found.unwrap().id, "*.> ä");
    assert_eq!(client.key(&escaping, &hostile).unwrap(), "user.=2A=2E=3E=20=C3=A4");

    // The call is right; that it was not kept is told.
    client.call(&strict, hostile.clone()).await.unwrap();
    client.call(&strict, ask("", "Nobody")).await.unwrap();
    let kept = kept(&service, "save_profile");
    assert_eq!((&kept["failed"], &kept["stored"]), (&2.into(), &0.into()));
    assert!(kept["last_error"].as_str().unwrap().contains("field=id"), "{kept}");
    let error = client.key(&strict, &hostile).unwrap_err();
    assert_eq!(error.context("field"), Some("id"));
    assert_eq!(error.context("method"), Some("save_profile"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_tells_where_a_response_was_stored() {
    let (_server, nats) = jetstream().await;
    let method = save().persist(in_users().policy(Policy::BeforeReply).receipt());
    let other = Persist::kv("copies", user_key).policy(Policy::Required).receipt();
    let method = method.persist(other);
    let _service = serve(&nats.rpc(), std::slice::from_ref(&method)).await.unwrap();
    let client = nats.rpc().client(config());
    client.call(&method, ask("1", "Ada")).await.unwrap();
    let response = client.call(&method, ask("1", "Grace")).await.unwrap();
    let mut receipts = Receipt::of(response.headers());
    receipts.sort_by(|a, b| a.bucket.cmp(&b.bucket));
    let told: Vec<_> = receipts
        .iter()
        .map(|it| (it.store.as_str(), it.bucket.as_str(), it.key.as_str(), it.revision))
        .collect();
    assert_eq!(told, [("kv", "copies", "user.1", 2), ("kv", "users", "user.1", 2)]);
    let entry = client.kv(&method).entry("user.1").await.unwrap().unwrap();
    assert_eq!((entry.revision, entry.value.name.as_str()), (2, "Grace"));
}

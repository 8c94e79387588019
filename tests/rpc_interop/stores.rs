//! Responses that are kept, read and written by nats-py.

use serde_json::{Value, json};
use testkit::eventually;

use crate::{ERROR_CODE, PATIENCE, Profile, make_report, ours, save, save_profile, service};

#[tokio::test(flavor = "multi_thread")]
async fn what_we_keep_is_read_by_nats_py() {
    let Some((_server, _connector, service, mut peer)) = service().await else { return };
    let mut call = |subject: &str| {
        let body = r#"{"id":"123"}"#;
        peer.ask(&json!({"do": "call", "subject": subject, "body": body, "reads": ERROR_CODE}))
    };
    let profile = call("api.v1.save_profile")["body"].clone();
    let report = call("api.v1.make_report")["body"].clone();
    eventually(PATIENCE, || async {
        let stats = service.stats();
        stats.endpoints[..2].iter().all(|endpoint| endpoint.data["kept"]["stored"] == 1)
    })
    .await;
    // The very bytes of the reply, by the key that the template makes.
    let found = peer.ask(&json!({"do": "kv_get", "bucket": "users", "key": "user.123"}));
    assert_eq!(found, json!({"value": profile, "revision": 1}));
    let found = peer.ask(&json!({"do": "object_get", "bucket": "reports", "key": "report.123"}));
    let report = report.as_str().unwrap();
    assert_eq!((&found["size"], found["chunks"].as_u64()), (&json!(report.len()), Some(3)));
    assert_eq!(report.len(), 300_002);
    assert_eq!(found["name"], "report.123");
    assert!(found["digest"].as_str().unwrap().starts_with("SHA-256="), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nats_py_keeps_is_read_by_us() {
    let Some((_server, connector, mut peer)) = crate::alone().await else { return };
    let client = connector.rpc().client(ours());
    let put = |kind: &str, bucket: &str, key: &str, value: &str| -> Value {
        json!({"do": kind, "bucket": bucket, "key": key, "value": value})
    };
    let value = r#"{
  "id": "123",
  "name": "Py"
}"#;
    let told = peer.ask(&put("kv_put", "users", "user.123", value));
    assert_eq!(told, json!({"revision": 1}));
    let users = client.kv(&save_profile());
    let entry = users.entry("user.123").await.unwrap().unwrap();
    let expected = Profile { id: "123".into(), name: "Py".into() };
    assert_eq!((entry.revision, &entry.value), (1, &expected));
    assert_eq!(users.get_for(&save("123")).await.unwrap(), Some(expected));
    // And changed by us, read by it again.
    users.put("user.123", &Profile { id: "123".into(), name: "Ann".into() }).await.unwrap();
    let found = peer.ask(&json!({"do": "kv_get", "bucket": "users", "key": "user.123"}));
    assert_eq!(found, json!({"value": r#"{"id":"123","name":"Ann"}"#, "revision": 2}));

    let text = "p".repeat(300_000);
    let told = peer.ask(&put("object_put", "reports", "report.1", &format!("\"{text}\"")));
    assert!(told["digest"].is_string(), "{told}");
    let reports = client.objects(&make_report());
    assert_eq!(reports.get_for(&save("1")).await.unwrap(), Some(text));
    reports.put("report.1", &"ours".to_owned()).await.unwrap();
    let found = peer.ask(&json!({"do": "object_get", "bucket": "reports", "key": "report.1"}));
    assert_eq!(found["size"], 6, "{found}");
}

//! The list of metrics: its names, its page, and what its labels never tell.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use nats_connector::kv::NearCacheConfig;
use nats_connector::metrics::{Kind, all};
use nats_connector::{Connector, Settings};
use testkit::Server;

use super::Recorded;

const BEGIN: &str = "<!-- metrics: made from the list of metrics; write it anew with UPDATE=1 cargo test --features metrics --test metrics -->\n";
const END: &str = "<!-- end of metrics -->";

fn table() -> String {
    let rows = all().iter().map(|it| {
        let labels: Vec<String> = it.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, unit) = (it.name, it.kind.as_str(), it.unit);
        format!("| `{name}` | {kind} | {unit} | {} | {} |\n", labels.join(" "), it.meaning)
    });
    let head = "| name | kind | unit | labels | meaning |\n|---|---|---|---|---|\n";
    head.to_owned() + &rows.collect::<String>()
}

#[test]
fn the_page_lists_the_metrics() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("docs/metrics.md has the line before");
    let (listed, after) = rest.split_once(END).expect("docs/metrics.md has the line after");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", table())).unwrap();
    } else {
        assert!(
            listed == table(),
            "docs/metrics.md does not list the metrics as they are; write it anew with \
             UPDATE=1 cargo test --features metrics --test metrics"
        );
    }
    // Each label is explained.
    let labels: HashSet<&str> = all().iter().flat_map(|it| it.labels).copied().collect();
    for label in labels {
        assert!(after.contains(&format!("| `{label}` |")), "docs/metrics.md: {label}");
    }
}

#[test]
fn names_are_as_prometheus_wants_them() {
    let mut names = HashSet::new();
    for metric in all() {
        let name = metric.name.strip_prefix("nats_connector_").unwrap();
        assert!(names.insert(name), "{name} is there twice");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
        assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
        assert_eq!(name.ends_with("_seconds"), metric.unit == "seconds", "{name}");
        assert_eq!(name.ends_with("_bytes"), metric.unit == "bytes", "{name}");
        assert!(["seconds", "bytes", "count"].contains(&metric.unit), "{name}");
    }
}

#[tokio::test]
async fn no_label_tells_a_secret_a_key_a_value_or_a_subject_of_a_message() {
    let recorded = Recorded::begin();
    let server = Server::builder().jetstream().user("ada", "hunter2").start().await;
    let settings = Settings::builder()
        .set("NATS.SERVER", server.url())
        .set("NATS.NAME", "secret-name")
        .set("NATS.USERNAME", "ada")
        .set("NATS.PASSWORD", "hunter2")
        .build()
        .unwrap();
    for connector in [Connector::memory(), Connector::connect(&settings).await.unwrap()] {
        let pubsub = connector.pubsub();
        pubsub.subscribe("orders.*", |_| async {}).await.unwrap();
        pubsub.publish("orders.secret-subject", "secret-payload").await.unwrap();
        pubsub.request("secret-subject", &1).await.unwrap_err();
        let kv = connector.kv().with_prefix("secret-prefix");
        let near = kv.near_cache(NearCacheConfig::new()).await.unwrap();
        near.set("secret-key", "secret-value").await.unwrap();
        near.get::<u32>("secret-key").await.unwrap_err();
        kv.set("secret-key", &1).if_revision(99).await.unwrap_err();
        let lock = kv.lock("secret-lock").await.unwrap();
        lock.release().await.unwrap();
        connector.health().await;
        connector.drain().await;
        near.get::<u32>("secret-key-2").await.unwrap_err();
    }
    let keys = recorded.keys();
    assert!(keys.len() > 50, "{keys:?}");
    for key in keys {
        let port = server.port().to_string();
        for secret in ["secret", "hunter2", "ada", "127.0.0.1", &port] {
            assert!(!key.contains(secret), "{key}");
        }
    }
}

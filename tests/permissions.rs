//! Each feature works with the permissions of docs/permissions.md, and with none of the needed ones
//! missing.

use std::fs;
use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::stream;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use nats_connector::kv::{BucketConfig, NearCacheConfig};
use nats_connector::pubsub::Message;
use nats_connector::{Connector, Error, ErrorKind, Result, Settings};
use testkit::{Permissions, Server, ServerBuilder, Version, require};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Whoever is in the way of a feature is told within this time.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a feature does, as the user under test and as one that may do everything.
type Feature = fn(user: Connector, admin: Connector) -> BoxFuture<'static, Result<()>>;

const FEATURES: [(&str, Feature); 27] = [
    ("Every connection: flush, health, drain", |user, _| {
        async move {
            user.pubsub().flush().await?;
            let health = user.health().await;
            let ready = health.is_ready() && user.drain().await.is_clean();
            told(ready.then_some(()))
        }
        .boxed()
    }),
    ("Publish", |user, _| {
        async move {
            user.pubsub().publish("orders.created", &1).await?;
            user.pubsub().flush().await
        }
        .boxed()
    }),
    ("Publish into a stream", |user, _| {
        async move { user.pubsub().publish("orders.created", &1).jetstream().await.map(drop) }
            .boxed()
    }),
    ("Subscribe", |user, admin| {
        async move {
            let (sender, mut heard) = mpsc::unbounded_channel();
            let handler = move |_: Message| {
                let sender = sender.clone();
                async move { sender.send(()) }
            };
            user.pubsub().subscribe("orders.*", handler).await?;
            admin.pubsub().publish("orders.created", &1).await?;
            told(timeout(PATIENCE, heard.recv()).await.ok().flatten())
        }
        .boxed()
    }),
    ("Subscribe in a queue group", |user, admin| {
        async move {
            let mut heard = user.pubsub().messages("orders.*").queue("workers").await?;
            admin.pubsub().publish("orders.created", &1).await?;
            told(timeout(PATIENCE, heard.next()).await.ok().flatten())
        }
        .boxed()
    }),
    ("Request", |user, admin| {
        async move {
            let answer = |message: Message| async move { message.respond(&1).await };
            let service = admin.pubsub().subscribe("price.get", answer).await?;
            let answer = user.pubsub().request("price.get", &1).await;
            service.unsubscribe().await?;
            answer.map(drop)
        }
        .boxed()
    }),
    ("Respond", |user, admin| {
        async move {
            let answer = |message: Message| async move { message.respond(&1).await };
            user.pubsub().subscribe("price.get", answer).await?;
            admin.pubsub().request("price.get", &1).timeout(PATIENCE).await.map(drop)
        }
        .boxed()
    }),
    ("Capabilities, JetStream in health", |user, _| {
        async move {
            let asked = user.capabilities().await?.jetstream();
            told((asked && user.health().await.jetstream == Some(true)).then_some(()))
        }
        .boxed()
    }),
    ("KV: get, exists", |user, admin| {
        async move {
            admin.kv().bucket("users").set("user:1", &1).await?;
            let users = user.kv().bucket("users");
            let there = users.exists("user:1").await? && users.get("user:1").await? == Some(1);
            told(there.then_some(()))
        }
        .boxed()
    }),
    ("KV: set", |user, admin| {
        async move {
            make(&admin).await?;
            user.kv().bucket("users").set("user:1", &2).await?;
            stored(&admin, Some(2)).await
        }
        .boxed()
    }),
    ("KV: replace", |user, admin| {
        async move {
            make(&admin).await?;
            told(user.kv().bucket("users").replace("user:1", &2).await?)?;
            stored(&admin, Some(2)).await
        }
        .boxed()
    }),
    ("KV: delete, purge", |user, admin| {
        async move {
            make(&admin).await?;
            let users = user.kv().bucket("users");
            users.delete("user:1").await?;
            users.purge("user:1").await?;
            stored(&admin, None).await
        }
        .boxed()
    }),
    ("KV: create, set with a lifetime", |user, admin| {
        async move {
            admin.kv().bucket("users").set("other", &1).await?;
            let users = user.kv().bucket("users");
            users.create("user:1", &2).ttl(PATIENCE * 12).await?;
            stored(&admin, Some(2)).await
        }
        .boxed()
    }),
    ("KV: take, update, increment", |user, admin| {
        async move {
            make(&admin).await?;
            let users = user.kv().bucket("users");
            told((users.increment("user:1", 1).await? == 2).then_some(()))?;
            users.update("user:1", |value: Option<u32>| value.map(|value| value + 1)).await?;
            told((users.take("user:1").await? == Some(3)).then_some(()))
        }
        .boxed()
    }),
    ("KV: get_many", |user, admin| {
        async move {
            make(&admin).await?;
            let users = user.kv().bucket("users");
            let values: Vec<Option<u32>> = users.get_many(["user:1", "none"]).await?.all()?;
            told((values == [Some(1), None]).then_some(()))
        }
        .boxed()
    }),
    ("KV: keys, history", |user, admin| {
        async move {
            make(&admin).await?;
            let users = user.kv().bucket("users");
            let keys = users.keys().await?;
            let history = users.history("user:1").await?;
            told((keys == ["user:1"] && history.len() == 1).then_some(()))
        }
        .boxed()
    }),
    ("KV: watch", |user, admin| {
        async move {
            make(&admin).await?;
            let mut watch = user.kv().bucket("users").watch("user:*").await?;
            for expected in ["user:1", "Current", "user:2"] {
                let event = timeout(PATIENCE, watch.next()).await.ok().flatten();
                let event = told_value(event)??;
                told((event.key().unwrap_or("Current") == expected).then_some(()))?;
                if expected == "Current" {
                    admin.kv().bucket("users").set("user:2", &1).await?;
                }
            }
            Ok(())
        }
        .boxed()
    }),
    ("KV: near cache", |user, admin| {
        async move {
            make(&admin).await?;
            let users = user.kv().bucket("users");
            let near = users.near_cache(NearCacheConfig::new().max_entries(1)).await?;
            let current = async {
                while !near.near_cache_stats().is_some_and(|stats| stats.current) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            told(timeout(PATIENCE, current).await.ok())?;
            told((near.get("user:1").await? == Some(1)).then_some(()))?;
            told((near.get::<u32>("none").await?.is_none()).then_some(()))
        }
        .boxed()
    }),
    ("KV: lock, guarded write", |user, admin| {
        async move {
            make(&admin).await?;
            let lock = user.kv().bucket("users").lock("one").await?;
            lock.set("user:1", &2).await?;
            lock.release().await?;
            stored(&admin, Some(2)).await
        }
        .boxed()
    }),
    ("KV: transaction", |user, admin| {
        async move {
            make(&admin).await?;
            let users = user.kv().bucket("users");
            users.transaction().set("user:1", &2).set("user:2", &2).await?;
            stored(&admin, Some(2)).await
        }
        .boxed()
    }),
    ("KV: bind_bucket, bucket_status", |user, admin| {
        async move {
            make(&admin).await?;
            let users = user.kv().bind_bucket("users").await?;
            told(users.bucket_status().await?)
        }
        .boxed()
    }),
    ("KV: buckets", |user, admin| {
        async move {
            make(&admin).await?;
            told((user.kv().buckets().await? == ["users"]).then_some(()))
        }
        .boxed()
    }),
    ("KV: delete_bucket", |user, admin| {
        async move {
            make(&admin).await?;
            told(user.kv().delete_bucket("users").await?.then_some(()))
        }
        .boxed()
    }),
    ("Counters", |user, _| {
        async move {
            let hits = user.counters("hits");
            let sum = hits.increment("page", 2).await?;
            told((hits.get("page").await? == Some(sum)).then_some(()))
        }
        .boxed()
    }),
    ("KV: a first write that makes the bucket", |user, admin| {
        async move {
            user.kv().bucket("users").set("user:1", &2).await?;
            stored(&admin, Some(2)).await
        }
        .boxed()
    }),
    ("KV: create_bucket, new", |user, _| {
        async move { user.kv().create_bucket(BucketConfig::new("users").history(3)).await.map(drop) }
            .boxed()
    }),
    ("KV: create_bucket, change", |user, admin| {
        async move {
            make(&admin).await?;
            user.kv().create_bucket(BucketConfig::new("users").history(3)).await.map(drop)
        }
        .boxed()
    }),
];

/// A missing answer as an error.
fn told<T>(answer: Option<T>) -> Result<()> {
    answer.map(drop).ok_or_else(|| Error::new(ErrorKind::Other, "not what was expected"))
}

fn told_value<T>(answer: Option<T>) -> Result<T> {
    answer.ok_or_else(|| Error::new(ErrorKind::Other, "nothing was told"))
}

async fn make(admin: &Connector) -> Result<()> {
    admin.kv().bucket("users").set("user:1", &1).await.map(drop)
}

async fn stored(admin: &Connector, value: Option<u32>) -> Result<()> {
    told((admin.kv().bucket("users").get("user:1").await? == value).then_some(()))
}

/// A row of the table.
#[derive(Debug, Clone)]
struct Row {
    feature: String,
    publish: Vec<String>,
    better: Vec<String>,
    subscribe: Vec<String>,
}

/// The table of docs/permissions.md.
fn table() -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/permissions.md");
    let text = fs::read_to_string(path).unwrap();
    let subjects =
        |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let rows = text.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [feature, publish, better, subscribe] = cells[..] else { panic!("{line}") };
        Row {
            feature: feature.to_owned(),
            publish: subjects(publish),
            better: subjects(better),
            subscribe: subjects(subscribe),
        }
    })
    .collect()
}

/// A user of the server and what it is to find.
struct User {
    name: String,
    row: Row,
    missing: Option<String>,
    feature: Feature,
}

/// What every user has, from the table's first row, with what `row` says.
fn permissions(base: &Row, row: &Row) -> Permissions {
    let all = |one: &[String], other: &[String]| [one, other].concat();
    let publish = all(&row.publish, &row.better);
    let subscribe = all(&base.subscribe, &row.subscribe);
    let refs =
        |list: &[String]| list.iter().map(|it| it.clone().leak() as &str).collect::<Vec<_>>();
    let may = match publish.is_empty() {
        true => Permissions::default().deny_publish(&[">"]),
        false => Permissions::default().publish(&refs(&publish)),
    };
    match subscribe.is_empty() {
        true => may.deny_subscribe(&[">"]),
        false => may.subscribe(&refs(&subscribe)),
    }
}

/// Three kinds of users for each feature: with what is better too, with what it needs, and with one
/// of these missing.
fn users() -> (Vec<User>, ServerBuilder) {
    let rows = table();
    let (base, _) = rows.split_first().unwrap();
    let mut builder = Server::builder().jetstream().user("admin", "secret");
    let mut users = Vec::new();
    for (name, feature) in FEATURES {
        let row = rows.iter().find(|row| row.feature == name);
        let row = row.unwrap_or_else(|| panic!("docs/permissions.md has no row for {name}"));
        let mut add = |base: &Row, row: Row, missing: Option<&String>| {
            let user = format!("user-{}", users.len());
            builder = builder.clone().user_with(&user, "secret", &permissions(base, &row));
            users.push(User { name: user, row, missing: missing.cloned(), feature });
        };
        let mut comfortable = row.clone();
        comfortable.better.extend(base.better.clone());
        add(base, comfortable, None);
        add(base, Row { better: Vec::new(), ..row.clone() }, None);
        for missing in row.publish.iter().chain(&row.subscribe) {
            let without = |list: &[String]| {
                list.iter().filter(|it| *it != missing).cloned().collect::<Vec<_>>()
            };
            let mut less = row.clone();
            less.better.clone_from(&base.better);
            less.better.retain(|subject| subject != missing);
            (less.publish, less.subscribe) = (without(&row.publish), without(&row.subscribe));
            let base = Row { subscribe: without(&base.subscribe), ..base.clone() };
            add(&base, less, Some(missing));
        }
    }
    assert_eq!(rows.len(), FEATURES.len(), "a row of docs/permissions.md has no test");
    (users, builder)
}

async fn connect(server: &Server, user: &str) -> Connector {
    let settings = Settings::builder()
        .set("NATS.SERVER", server.url())
        .set("NATS.USERNAME", user)
        .set("NATS.PASSWORD", "secret")
        .set("NATS.REQUEST_TIMEOUT", "2s")
        .build()
        .unwrap();
    Connector::connect(&settings).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_feature_needs_what_the_table_says_and_no_more() {
    if !require(Version::V2_15) {
        return;
    }
    let (users, builder) = users();
    let server = builder.start().await;
    let raw = connect(&server, "admin").await.jetstream().unwrap();
    let orders = stream::Config {
        name: "ORDERS".to_owned(),
        subjects: vec!["orders.created".to_owned()],
        ..Default::default()
    };
    raw.create_stream(orders).await.unwrap();

    let mut refusals = 0;
    for User { name, row, missing, feature } in users {
        // A bucket of the run before would hide who may make one.
        for stream in ["KV_users", "COUNTERS_hits"] {
            // Emptied first: the server removes files later, and would find them again.
            if let Ok(stream) = raw.get_stream(stream).await {
                stream.purge().await.unwrap();
            }
            let _ = raw.delete_stream(stream).await;
        }
        let admin = connect(&server, "admin").await;
        let user = connect(&server, &name).await;
        let outcome = feature(user.clone(), admin).await;
        // A service of this user must not answer for the next one.
        user.drain().await;
        match (&outcome, &missing) {
            (Ok(()), None) | (Err(_), Some(_)) => {}
            (Err(error), None) => panic!("{row:?} does not suffice: {error}"),
            (Ok(()), Some(missing)) => panic!("{}: {missing} is not needed", row.feature),
        }
        let log = server.log();
        let user = format!(":{name}\"");
        let refused = log.lines().find(|line| line.contains("Violation") && line.contains(&user));
        match (refused, row.better.is_empty()) {
            (Some(line), false) if missing.is_none() => {
                panic!("{row:?} is refused something: {line}")
            }
            (Some(_), true) => refusals += 1,
            _ => {}
        }
    }
    // The log does tell of refusals.
    assert!(refusals > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_may_be_allowed_without_the_inbox() {
    if !require(Version::V2_15) {
        return;
    }
    let may = Permissions::default().subscribe(&["_INBOX.>", "price.get"]).responses();
    let server = Server::builder().user("admin", "secret").user_with("service", "secret", &may);
    let server = server.start().await;
    let service = connect(&server, "service").await;
    let answer = |message: Message| async move { message.respond(&7).await };
    service.pubsub().subscribe("price.get", answer).await.unwrap();
    let admin = connect(&server, "admin").await;
    let answer = admin.pubsub().request("price.get", &1).await.unwrap();
    assert_eq!(answer.decode::<u32>().unwrap(), 7);
    assert_eq!(
        service.pubsub().request("price.other", &1).await.unwrap_err().kind(),
        ErrorKind::Unauthorized
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_once_by_the_call_that_met_it() {
    if !require(Version::V2_15) {
        return;
    }
    let may = Permissions::default().subscribe(&["_INBOX.>"]).publish(&["_INBOX.>"]);
    let server = Server::builder().jetstream().user_with("user", "secret", &may).start().await;
    let user = connect(&server, "user").await;
    let refused = |error: Error, subject: &str| {
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
        assert_eq!(error.context("subject"), Some(subject), "{error}");
    };

    refused(user.pubsub().request("price.get", &1).await.unwrap_err(), "price.get");
    user.pubsub().flush().await.unwrap();

    user.pubsub().publish("orders.created", &1).await.unwrap();
    let told = timeout(PATIENCE, async {
        loop {
            // On a busy machine the refusal may come in later than the first round trips.
            if let Err(error) = user.pubsub().flush().await {
                return error;
            }
        }
    });
    refused(told.await.unwrap(), "orders.created");
    user.pubsub().flush().await.unwrap();

    match user.pubsub().messages("orders.*").await {
        Err(error) => refused(error, "orders.*"),
        Ok(mut late) => {
            assert!(timeout(PATIENCE, late.next()).await.unwrap().is_none());
        }
    }
    user.pubsub().flush().await.unwrap();
}

//! Each feature works with the permissions of docs/permissions.md, and with none of the needed ones
//! missing.

mod durable;
mod kv;
mod later;
mod many;
mod objects;
mod pubsub;
mod refusals;
mod rpc;
mod streams;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use futures::future::BoxFuture;
use nats_connector::streams::StreamConfig;
use nats_connector::{Connector, Error, ErrorKind, Result, Settings};
use testkit::{Permissions, Server, ServerBuilder, Version, require};

/// Whoever is in the way of a feature is told within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is not permitted is told within this time, also on a busy machine.
const BOUND: Duration = Duration::from_secs(40);

/// Nobody tells this user that there is no bucket.
const CANNOT_ASK: (&str, &str) =
    ("KV: a first write that makes the bucket", "$JS.API.STREAM.INFO.KV_users");

/// What a feature does, as the user under test and as one that may do everything.
type Feature = fn(user: Connector, admin: Connector) -> BoxFuture<'static, Result<()>>;

/// All of them, by area.
const AREAS: [&[(&str, Feature)]; 8] = [
    pubsub::FEATURES,
    streams::FEATURES,
    durable::FEATURES,
    later::FEATURES,
    many::FEATURES,
    kv::FEATURES,
    objects::FEATURES,
    rpc::FEATURES,
];

/// The stream of the table, made by who may.
async fn orders(admin: &Connector) -> Result<()> {
    make(admin, StreamConfig::new("ORDERS", ["orders.*"])).await
}

async fn make(admin: &Connector, config: StreamConfig) -> Result<()> {
    admin.pubsub().stream(config).await.map(drop)
}

/// A missing answer as an error.
fn told<T>(answer: Option<T>) -> Result<()> {
    answer.map(drop).ok_or_else(|| Error::new(ErrorKind::Other, "not what was expected"))
}

fn told_value<T>(answer: Option<T>) -> Result<T> {
    answer.ok_or_else(|| Error::new(ErrorKind::Other, "nothing was told"))
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

/// Whether an error tells what is missing: it is a refusal of that subject, or the feature's own word
/// that nothing came of it.
fn tells(error: &Error, missing: &str) -> bool {
    let subject = match (error.kind(), error.context("subject")) {
        (ErrorKind::Unauthorized, Some(subject)) => subject,
        (kind, _) => return kind == ErrorKind::Other,
    };
    let (pattern, _) = missing.split_once(' ').unwrap_or((missing, ""));
    let mut tokens = subject.split('.');
    pattern.split('.').all(|wanted| match tokens.next() {
        Some(token) => wanted == ">" || wanted == "*" || wanted == token,
        None => false,
    })
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
    for &(name, feature) in AREAS.iter().copied().flatten() {
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
    assert_eq!(rows.len(), AREAS.concat().len(), "a row of docs/permissions.md has no test");
    (users, builder)
}

async fn connect(server: &Server, user: &str) -> Connector {
    let settings = Settings::builder()
        .set("NATS.SERVER", server.url())
        .set("NATS.USERNAME", user)
        .set("NATS.PASSWORD", "secret")
        .set("NATS.REQUEST_TIMEOUT", "6s")
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

    let mut refusals = 0;
    for User { name, row, missing, feature } in users {
        // What is there from the run before would hide who may make it.
        for stream in raw.stream_names().try_collect::<Vec<_>>().await.unwrap() {
            // Emptied first: the server removes files later, and would find them again.
            raw.get_stream(&stream).await.unwrap().purge().await.unwrap();
            raw.delete_stream(&stream).await.unwrap();
        }
        let admin = connect(&server, "admin").await;
        let user = connect(&server, &name).await;
        let begun = Instant::now();
        let outcome = feature(user.clone(), admin).await;
        // A service of this user must not answer for the next one.
        user.drain().await;
        match (&outcome, &missing) {
            (Ok(()), None) => {}
            (Err(error), Some(missing)) => {
                assert!(begun.elapsed() < BOUND, "{} without {missing}: {error}", row.feature);
                let unasked = (&*row.feature, &**missing) == CANNOT_ASK
                    && error.kind() == ErrorKind::Unavailable;
                assert!(
                    unasked || tells(error, missing),
                    "{} without {missing}: {error}",
                    row.feature
                );
            }
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

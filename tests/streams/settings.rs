//! Streams in settings: every source, every mistake, and what is made of them.

use std::time::Duration;

use nats_connector::streams::{Discard, Retention, Storage, StreamConfig, Streams};
use nats_connector::{ErrorKind, Format, Settings, SettingsBuilder};
use testkit::Server;

use crate::connect;

const YAML: &str = "\
streams:
  orders:
    subjects: [orders.>, 'invoices.*']
    description: ${WHAT:all of them}
    retention: workqueue
    storage: memory
    replicas: 3
    max_age: 7d
    max_bytes: 64MiB
    max_messages: 1000
    max_messages_per_subject: 10
    max_message_size: 64KiB
    discard: new
    duplicate_window: 1m
    compression: true
    message-ttl: on
    schedules: yes
    fast_ingest: true
    atomic_publish: false
  dead-letters:
    subjects: dead.>
";
const TOML: &str = "\
[streams.orders]
subjects = ['orders.>', 'invoices.*']
description = '${WHAT:all of them}'
retention = 'workqueue'
storage = 'memory'
replicas = 3
max_age = '7d'
max_bytes = '64MiB'
max_messages = 1000
max_messages_per_subject = 10
max_message_size = '64KiB'
discard = 'new'
duplicate_window = '1m'
compression = true
message_ttl = true
schedules = true
fast_ingest = true
atomic_publish = false
[streams.dead-letters]
subjects = 'dead.>'
";
const JSON: &str = r#"{"streams": {
    "orders": {"subjects": ["orders.>", "invoices.*"], "description": "${WHAT:all of them}",
        "retention": "workqueue", "storage": "memory", "replicas": 3, "max_age": "7d",
        "max_bytes": "64MiB", "max_messages": 1000, "max_messages_per_subject": 10,
        "max_message_size": "64KiB", "discard": "new", "duplicate_window": "1m",
        "compression": true, "message_ttl": true, "schedules": true, "fast_ingest": true,
        "atomic_publish": false},
    "DEAD_LETTERS": {"subjects": "dead.>"}
}}"#;
const LINES: &str = "\
STREAMS.ORDERS.SUBJECTS=orders.>, invoices.*
streams.orders.description=${WHAT:all of them}
STREAMS_ORDERS_RETENTION=WorkQueue
STREAMS.ORDERS.STORAGE=memory
STREAMS.ORDERS.REPLICAS=3
STREAMS.ORDERS.MAX-AGE=7d
STREAMS.ORDERS.MAX.BYTES=64 MiB
STREAMS_ORDERS_MAX_MESSAGES=1000
STREAMS_ORDERS_MAX_MESSAGES_PER_SUBJECT=10
STREAMS_ORDERS_MAX_MESSAGE_SIZE=65536
STREAMS.ORDERS.DISCARD=new
STREAMS.ORDERS.DUPLICATE_WINDOW=60s
STREAMS.ORDERS.COMPRESSION=true
STREAMS.ORDERS.MESSAGE_TTL=true
STREAMS.ORDERS.SCHEDULES=true
STREAMS.ORDERS.FAST_INGEST=true
STREAMS.ORDERS.ATOMIC_PUBLISH=false
streams.dead-letters.subjects=dead.>
";

fn lines(text: &str) -> SettingsBuilder {
    Settings::builder().text("settings.conf", Format::Lines, text)
}

fn orders() -> StreamConfig {
    StreamConfig::new("ORDERS", ["orders.>", "invoices.*"])
        .description("all of them")
        .retention(Retention::WorkQueue)
        .storage(Storage::Memory)
        .replicas(3)
        .max_age(Duration::from_secs(7 * 86_400))
        .max_bytes(64 << 20)
        .max_messages(1000)
        .max_messages_per_subject(10)
        .max_message_size(64 << 10)
        .discard(Discard::New)
        .duplicate_window(Duration::from_secs(60))
        .compression(true)
        .message_ttl(true)
        .schedules(true)
        .fast_ingest(true)
        .atomic_publish(false)
}

#[test]
fn every_format_says_the_same() {
    let expected = [StreamConfig::new("DEAD_LETTERS", ["dead.>"]), orders()];
    for (format, text) in
        [(Format::Yaml, YAML), (Format::Toml, TOML), (Format::Json, JSON), (Format::Lines, LINES)]
    {
        let settings = Settings::builder().text("settings", format, text).build().unwrap();
        assert_eq!(settings.streams(), expected, "{format:?}");
        assert_eq!(settings.warnings(), [""; 0], "{format:?}");
    }
    // All of them are there.
    let described = LINES.lines().filter(|line| line.to_uppercase().contains("ORDERS"));
    assert_eq!(described.count(), Streams::keys().len());
    assert_eq!(Settings::builder().build().unwrap().streams(), []);
}

#[test]
fn later_sources_win() {
    let settings = lines("STREAMS.A.SUBJECTS=a\nSTREAMS.A.MAX_AGE=1s\nSTREAMS.A.REPLICAS=1")
        .text("more.conf", Format::Lines, "STREAMS.A.REPLICAS=2\nSTREAMS.A.MAX_BYTES=2")
        .env_from([
            ("STREAMS_A_MAX_BYTES", "3"),
            ("STREAMS_A_MAX_MESSAGES", "3"),
            ("STREAMS_B_SUBJECTS", "b"),
            ("STREAMS_B_MAX_BYTES", "1"),
        ])
        .args_from(["--STREAMS.A.MAX_MESSAGES=4", "--STREAMS.A.DISCARD", "new"])
        .set("STREAMS.A.DISCARD", "old")
        .set("STREAMS.C.SUBJECTS", "c")
        .set("STREAMS.A.MAX_AGE", "")
        .build()
        .unwrap();
    let a = StreamConfig::new("A", ["a"]).replicas(2).max_bytes(3).max_messages(4);
    let b = StreamConfig::new("B", ["b"]).max_bytes(1);
    let expected = [a.discard(Discard::Old), b, StreamConfig::new("C", ["c"])];
    assert_eq!(settings.streams(), expected);
    assert_eq!(settings.warnings(), [""; 0]);

    // Others' variables may begin alike.
    let settings = lines("STREAMS.A.SUBJECTS=a").env_from([
        ("STREAMS_HOME", "/opt"),
        ("STREAMS_A_MAX_AGEE", "1s"),
        ("STREAMS_D_MAX_AGE", "1s"),
    ]);
    let settings = settings.build().unwrap();
    assert_eq!(settings.streams(), [StreamConfig::new("A", ["a"])]);
    let [warning] = settings.warnings() else { panic!("{:?}", settings.warnings()) };
    for part in [
        "STREAMS_HOME",
        "STREAMS_A_MAX_AGEE (did you mean STREAMS_A_MAX_AGE?)",
        "STREAMS_D_MAX_AGE",
        "needs its STREAMS_<NAME>_SUBJECTS",
    ] {
        assert!(warning.contains(part), "{part}: {warning}");
    }
}

#[test]
fn mistakes_are_named() {
    for (text, expected) in [
        ("STREAMS.S.MAX_AGE=1s", "STREAMS.S.SUBJECTS is not set; every stream needs it"),
        ("STREAMS.S=", "STREAMS.S.SUBJECTS is not set"),
        ("STREAMS.S.SUBJECTS=a..b", r#"STREAMS.S.SUBJECTS: "a..b" from settings.conf:1 is not a"#),
        ("STREAMS.S.SUBJECTS=a,,b", "is not a list of subjects"),
        ("STREAMS.S.SUBJECTS=a.>.b", "expected for example orders.>"),
        ("STREAMS.S.SUBJECTS=a.*, a.b", "STREAMS.S: the subjects a.* and a.b have messages in"),
        ("STREAMS.S.SUBJECTS=a\nSTREAMS.S.MAX_AGE=soon", "expected 0 for ever, or at least 100ms"),
        ("STREAMS.S.SUBJECTS=a\nSTREAMS.S.MAX_AGE=5", "is not a duration"),
        ("STREAMS.S.SUBJECTS=a\nSTREAMS.S.DUPLICATE_WINDOW=0", "expected at least 100ms"),
        (
            "STREAMS.S.SUBJECTS=a\nSTREAMS.S.DUPLICATE_WINDOW=2m\nSTREAMS.S.MAX_AGE=1m",
            "STREAMS.S: duplicate_window must be no longer than max_age",
        ),
        ("STREAMS.S.SUBJECTS=a\nSTREAMS.S.REPLICAS=6", "expected 1 to 5"),
        ("STREAMS.S.SUBJECTS=a\nSTREAMS.S.STORAGE=disk", "expected one of file, memory"),
        ("STREAMS.S.SUBJECTS=a\nSTREAMS.S.RETENTION=queue", "limits, workqueue, interest"),
        ("STREAMS.S.SUBJECTS=a\nSTREAMS.S.DISCARD=none", "expected one of old, new"),
        ("STREAMS.S.SUBJECTS=a\nSTREAMS.S.MAX_BYTES=10GB", "expected a number of bytes"),
        ("STREAMS.S.SUBJECTS=a\nSTREAMS.S.MAX_MESSAGES=-1", "expected for example 1000, and 0"),
        ("STREAMS.S.SUBJECTS=a\nSTREAMS.S.MAX_MESSAGE_SIZE=2GiB", "a size below 2GiB"),
        ("STREAMS.S.SUBJECTS=a\nSTREAMS.S.COMPRESSION=s2", "expected true or false"),
        (
            "STREAMS.S.SUBJECTS=a\nSTREAMS.S.MAX_AGEE=1s",
            "STREAMS.S.MAX_AGEE from settings.conf:2: a stream has no field MAX_AGEE; did you mean \
             STREAMS.S.MAX_AGE?",
        ),
        ("STREAMS.S.SUBJECTS=a\nSTREAMS.S.COLOUR=red", "no field COLOUR; reference.conf lists all"),
        ("STREAMS.S.SUBJECTS=a\nSTREAMS_S_SUBJECTS=b", "given twice, by settings.conf:1 and"),
        ("STREAMS.S.SUBJECTS=${NONE}", "environment variable NONE, which is not set"),
        ("STREAMS=x", "is where streams are named"),
        ("STREAMS.S=x", "is not a setting of a stream; expected STREAMS.<NAME>.<FIELD>"),
        ("STREAMS._S.SUBJECTS=a", "does not name a stream; expected letters, digits, _ and -"),
    ] {
        let error = lines(text).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSettings);
        assert!(error.to_string().contains(expected), "{text}: {error}");
    }
    // Together with all other mistakes, and in code and arguments too.
    let error = lines("NATS.SERVR=a\nSTREAMS.S.SUBJECTS=a b")
        .args_from(["--STREAMS.T.SUBJECT=a"])
        .set("STREAMS.U.SUBJECTS", "u.>.x")
        .build()
        .unwrap_err()
        .to_string();
    for part in [
        "settings are wrong",
        "NATS.SERVR",
        r#""a b""#,
        "argument --STREAMS.T.SUBJECT: a stream has no field SUBJECT; did you mean",
        r#""u.>.x" from code"#,
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let domain = Settings::builder().domain("STREAMS").build().unwrap_err().to_string();
    assert!(domain.contains("since its keys would be keys of STREAMS"), "{domain}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_streams_of_settings_are_made_and_checked() {
    let server = Server::builder().jetstream().start().await;
    let streams = connect(&server).await.streams();
    let text = |age: &str| {
        let many: String = (0..20).map(|n| format!("STREAMS.S{n}.SUBJECTS=s{n}.>\n")).collect();
        lines(&format!("{many}STREAMS.A.SUBJECTS=a.>\nSTREAMS.A.MAX_AGE={age}")).build().unwrap()
    };
    let made = streams.apply(&text("1h")).await.unwrap();
    assert_eq!(made.len(), 21);
    assert!(made.iter().all(|stream| stream.created && stream.differences.is_empty()));
    assert_eq!(made[0].status.config.name(), "A");
    let found = streams.apply(&text("2h")).await.unwrap();
    assert!(found.iter().all(|stream| !stream.created));
    assert_eq!(found[0].differences[0].to_string(), "max_age is 1h, not 2h");
    let updated = streams.apply(&text("2h")).update().await.unwrap();
    assert!(updated.iter().all(|stream| stream.differences.is_empty()));
    assert_eq!(streams.names().await.unwrap().len(), 21);

    let clash = lines("STREAMS.OTHER.SUBJECTS=a.b").build().unwrap();
    let error = streams.apply(&clash).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(error.context("stream"), Some("OTHER"), "{error}");
    assert!(error.to_string().contains("take other subjects"), "{error}");
}

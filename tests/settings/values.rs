//! Defaults, types and what each value means.

use std::path::Path;
use std::time::Duration;

use nats_connector::{Auth, KeyCodec, MaxReconnect, Secret, Settings, WhenDisconnected};

use crate::lines;

#[test]
fn every_default() {
    let settings = Settings::builder().build().unwrap();
    assert_eq!(settings.servers(), ["nats://127.0.0.1:4222"]);
    assert!(!settings.is_memory());
    assert_eq!(*settings.auth(), Auth::None);
    assert_eq!(settings.tls().cert, None);
    assert_eq!(settings.tls().key, None);
    assert_eq!(settings.tls().ca, None);
    assert!(!settings.tls().required);
    assert!(!settings.tls().first);
    assert_eq!(settings.name(), None);
    assert_eq!(settings.connect_timeout(), Duration::from_secs(5));
    assert!(!settings.retry_on_initial_connect());
    assert_eq!(settings.max_reconnect(), MaxReconnect::Attempts(5));
    assert_eq!(settings.reconnect_wait(), Duration::from_secs(2));
    assert!(settings.randomize());
    assert_eq!(settings.ping_interval(), Duration::from_secs(20));
    assert_eq!(settings.request_timeout(), Duration::from_secs(10));
    assert_eq!(settings.when_disconnected(), WhenDisconnected::Fail);
    assert_eq!(settings.drain_timeout(), Duration::from_secs(30));
    assert_eq!(settings.hook_timeout(), Duration::from_secs(10));
    assert_eq!(settings.subscription_capacity(), 65536);
    assert_eq!(settings.inbox_prefix(), None);
    assert_eq!(settings.jetstream_domain(), None);
    assert_eq!(settings.jetstream_prefix(), None);
    assert_eq!(settings.topic_prefix(), "");
    assert_eq!(settings.key_prefix(), "");
    assert_eq!(settings.bucket_prefix(), "");
    assert_eq!(settings.default_bucket(), "default");
    assert_eq!(settings.key_codec(), KeyCodec::Escape);
    assert_eq!(settings.serializer(), "json");
    assert_eq!(settings.context(), None);
    assert_eq!(settings.domain_name(), "NATS");
    assert!(settings.warnings().is_empty());
}

#[test]
fn every_setting_reaches_its_accessor() {
    let settings = lines(
        "NATS.SERVER=tls://a.example:1,b
         NATS.NAME=app one
         NATS.CREDENTIALS=user.creds
         NATS.TLS_CERT=cert.pem
         NATS.TLS_KEY=key.pem
         NATS.TLS_CA=ca.pem
         NATS.TLS_REQUIRED=yes
         NATS.TLS_FIRST=on
         NATS.CONNECT_TIMEOUT=1s
         NATS.RETRY_ON_INITIAL_CONNECT=1
         NATS.MAX_RECONNECT=7
         NATS.RECONNECT_WAIT=500ms
         NATS.RANDOMIZE=off
         NATS.PING_INTERVAL=1m30s
         NATS.REQUEST_TIMEOUT=2s
         NATS.WHEN_DISCONNECTED=Wait
         NATS.DRAIN_TIMEOUT=3s
         NATS.HOOK_TIMEOUT=4s
         NATS.SUBSCRIPTION_CAPACITY=1
         NATS.INBOX_PREFIX=_INBOX.app
         NATS.JETSTREAM_DOMAIN=hub
         NATS.TOPIC_PREFIX=app.eu
         NATS.KEY_PREFIX=app:1
         NATS.BUCKET_PREFIX=app_
         NATS.DEFAULT_BUCKET=things
         NATS.KEY_CODEC=path
         NATS.SERIALIZER=MessagePack",
    );
    assert_eq!(settings.servers(), ["tls://a.example:1", "nats://b:4222"]);
    assert_eq!(settings.name(), Some("app one"));
    assert_eq!(*settings.auth(), Auth::Credentials("user.creds".into()));
    assert_eq!(settings.tls().cert.as_deref(), Some(Path::new("cert.pem")));
    assert_eq!(settings.tls().key.as_deref(), Some(Path::new("key.pem")));
    assert_eq!(settings.tls().ca.as_deref(), Some(Path::new("ca.pem")));
    assert!(settings.tls().required);
    assert!(settings.tls().first);
    assert_eq!(settings.connect_timeout(), Duration::from_secs(1));
    assert!(settings.retry_on_initial_connect());
    assert_eq!(settings.max_reconnect(), MaxReconnect::Attempts(7));
    assert_eq!(settings.reconnect_wait(), Duration::from_millis(500));
    assert!(!settings.randomize());
    assert_eq!(settings.ping_interval(), Duration::from_secs(90));
    assert_eq!(settings.request_timeout(), Duration::from_secs(2));
    assert_eq!(settings.when_disconnected(), WhenDisconnected::Wait);
    assert_eq!(settings.drain_timeout(), Duration::from_secs(3));
    assert_eq!(settings.hook_timeout(), Duration::from_secs(4));
    assert_eq!(settings.subscription_capacity(), 1);
    assert_eq!(settings.inbox_prefix(), Some("_INBOX.app"));
    assert_eq!(settings.jetstream_domain(), Some("hub"));
    assert_eq!(settings.jetstream_prefix(), None);
    assert_eq!(settings.topic_prefix(), "app.eu");
    assert_eq!(settings.key_prefix(), "app:1");
    assert_eq!(settings.bucket_prefix(), "app_");
    assert_eq!(settings.default_bucket(), "things");
    assert_eq!(settings.key_codec(), KeyCodec::Path);
    assert_eq!(settings.serializer(), "messagepack");
    assert!(settings.warnings().is_empty());

    let settings =
        lines("NATS.JETSTREAM_PREFIX=$JS.other.API\nNATS.MAX_RECONNECT=-1\nNATS.KEY_CODEC=raw");
    assert_eq!(settings.jetstream_prefix(), Some("$JS.other.API"));
    assert_eq!(settings.max_reconnect(), MaxReconnect::Unlimited);
    assert_eq!(settings.key_codec(), KeyCodec::Raw);
    assert_eq!(lines("NATS.MAX_RECONNECT=0").max_reconnect(), MaxReconnect::Never);
    assert!(lines("NATS.SERVER=memory:").is_memory());
    assert!(lines("NATS.SERVER=memory:").servers().is_empty());
    assert_eq!(lines("NATS.SERIALIZER=text").serializer(), "text");
}

#[test]
fn servers_are_written_in_one_form() {
    for (text, expected) in [
        ("localhost", "nats://localhost:4222"),
        ("10.0.0.1:5", "nats://10.0.0.1:5"),
        ("[::1]", "nats://[::1]:4222"),
        ("[::1]:5", "nats://[::1]:5"),
        ("nats://[fe80::1]:5", "nats://[fe80::1]:5"),
        ("nats://host/", "nats://host:4222"),
        ("tls://host", "tls://host:4222"),
        ("TLS://host:443", "tls://host:443"),
        ("ws://host", "ws://host/"),
        ("wss://host:8443/nats", "wss://host:8443/nats"),
        ("wss://token@host/", "wss://host/"),
        (" a:1 , b:2 ", "nats://a:1,nats://b:2"),
    ] {
        let settings = Settings::builder().set("NATS.SERVER", text).build().unwrap();
        assert_eq!(settings.servers().join(","), expected, "{text}");
    }
}

#[test]
fn userinfo_is_taken_out_of_servers_and_decoded() {
    let user = |username: &str, password: &str| Auth::UserPassword {
        username: username.into(),
        password: Secret::new(password),
    };
    for (text, expected) in [
        ("nats://u:p@a", user("u", "p")),
        ("u:p@a:4222", user("u", "p")),
        ("nats://u%40x:p%3A%2F%C3%BC@a", user("u@x", "p:/ü")),
        ("nats://u:p:@a", user("u", "p:")),
        ("nats://a, nats://u:p@b", user("u", "p")),
        ("nats://u:p@a, nats://u:p@b, c", user("u", "p")),
        ("nats://t%20k@a", Auth::Token(Secret::new("t k"))),
        ("wss://u:p@a/path", user("u", "p")),
    ] {
        let settings = Settings::builder().set("NATS.SERVER", text).build().expect(text);
        assert_eq!(*settings.auth(), expected, "{text}");
        assert!(settings.servers().iter().all(|server| !server.contains('@')), "{text}");
        assert!(settings.warnings().is_empty());
    }
}

/// Every set of ways to authenticate: the first wins, and one warning names all others.
#[test]
fn the_first_way_to_authenticate_wins() {
    let ways = [
        ("NATS.CREDENTIALS", Auth::Credentials("c".into())),
        ("NATS.NKEY_FILE", Auth::NkeyFile("n".into())),
        ("NATS.TOKEN", Auth::Token(Secret::new("t"))),
        ("NATS.USERNAME", Auth::UserPassword { username: "u".into(), password: Secret::new("p") }),
        (
            "the user in NATS.SERVER",
            Auth::UserPassword { username: "x".into(), password: Secret::new("y") },
        ),
    ];
    for set in 0..1_u32 << ways.len() {
        let chosen: Vec<_> =
            ways.iter().enumerate().filter(|(i, _)| set & (1 << i) != 0).map(|(_, w)| w).collect();
        let mut builder = Settings::builder();
        for (name, _) in &chosen {
            builder = match *name {
                "NATS.CREDENTIALS" => builder.set(*name, "c"),
                "NATS.NKEY_FILE" => builder.set(*name, "n"),
                "NATS.TOKEN" => builder.set(*name, "t"),
                "NATS.USERNAME" => builder.set(*name, "u").set("NATS.PASSWORD", "p"),
                _ => builder.set("NATS.SERVER", "nats://x:y@host"),
            };
        }
        let settings = builder.build().unwrap();
        let expected = chosen.first().map_or(&Auth::None, |(_, auth)| auth);
        assert_eq!(settings.auth(), expected);
        if chosen.len() < 2 {
            assert!(settings.warnings().is_empty(), "{:?}", settings.warnings());
            continue;
        }
        let [warning] = settings.warnings() else { panic!("{:?}", settings.warnings()) };
        let (used, ignored) = warning.split_once("ignored beside it:").unwrap();
        assert!(used.contains(chosen[0].0), "{warning}");
        for (name, _) in &chosen[1..] {
            assert!(ignored.contains(&format!("{name} (code)")), "{warning}");
        }
    }
}

#[test]
fn settings_are_equal_when_they_say_the_same() {
    let code = Settings::builder().set("NATS.RECONNECT_WAIT", "1000ms").build().unwrap();
    assert_eq!(code, lines("NATS.RECONNECT_WAIT=1s"));
    assert_ne!(code, Settings::builder().build().unwrap());
    assert_eq!(lines("NATS.TOKEN=a"), lines("NATS.TOKEN=a"));
    assert_ne!(lines("NATS.TOKEN=a"), lines("NATS.TOKEN=b"));
}

//! Settings from code: defaults, types and precedence of authentication.

use std::time::Duration;

use nats_connector::{Auth, ErrorKind, KeyCodec, MaxReconnect, Secret, Settings, WhenDisconnected};

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
fn userinfo_leaves_the_address() {
    let settings =
        Settings::builder().set("NATS.SERVER", "nats://u:p%40ss@a, tls://[::1]:5").build().unwrap();
    assert_eq!(settings.servers(), ["nats://a:4222", "tls://[::1]:5"]);
    let expected = Auth::UserPassword { username: "u".into(), password: Secret::new("p@ss") };
    assert_eq!(*settings.auth(), expected);
    assert!(!format!("{settings:?}").contains("p@ss"));
}

#[test]
fn a_bad_value_names_key_source_and_expectation() {
    let error = Settings::builder().set("NATS.RECONNECT_WAIT", "fast").build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidSettings);
    assert_eq!(
        error.to_string(),
        "NATS.RECONNECT_WAIT: \"fast\" from code is not a duration above zero and up to a year; \
         expected for example 2s, 500ms, 1m30s"
    );
}

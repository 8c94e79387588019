//! Any text is read or refused, without a panic.

use nats_connector::{Format, Settings, Stores};
use proptest::prelude::*;

/// Keys that look like those of stores.
fn key() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("STORES"),
        Just("stores"),
        Just("."),
        Just("_"),
        Just("-"),
        Just("USER"),
        Just("cache"),
        Just("TTL"),
        Just("TLS_KEY"),
        Just("DRIVER"),
        Just("é"),
        Just(""),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn value() -> impl Strategy<Value = String> {
    let known = prop_oneof![Just("memory"), Just("1h"), Just("${X:1s}"), Just("${"), Just("")];
    prop_oneof![known.prop_map(str::to_owned), "\\PC*"]
}

proptest! {
    #[test]
    fn any_keys_are_read_or_refused(
        file in prop::collection::vec((key(), value()), 0..6),
        environment in prop::collection::vec((key(), value()), 0..3),
        arguments in prop::collection::vec((key(), value()), 0..3),
    ) {
        let map: serde_json::Map<_, _> =
            file.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
        let text = serde_json::Value::from(map).to_string();
        let variables = environment.into_iter().filter(|(key, _)| !key.is_empty());
        let arguments = arguments.iter().map(|(key, value)| format!("--STORES.{key}={value}"));
        let sources = Settings::builder()
            .text("settings.json", Format::Json, text)
            .env_from(variables)
            .args_from(arguments);
        match Stores::from_settings(sources) {
            Ok(stores) => {
                for name in stores.names() {
                    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
                    prop_assert!(name.chars().all(legal), "{name}");
                    prop_assert!(stores.get(name).is_ok() && stores.get(name.to_uppercase()).is_ok());
                }
            }
            Err(error) => prop_assert!(!error.to_string().contains('\n'), "{error}"),
        }
    }
}

//! Properties of the settings as a whole, for any text.

use nats_connector::{Format, Settings};
use proptest::prelude::*;

fn format() -> impl Strategy<Value = Format> {
    prop_oneof![Just(Format::Lines), Just(Format::Yaml), Just(Format::Toml), Just(Format::Json)]
}

/// Text that looks enough like a settings file to get past its first character.
fn file_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("nats"),
        Just("NATS."),
        Just("server"),
        Just("name"),
        Just("token"),
        Just("nats://u:p@h:1"),
        Just("${X:"),
        Just("$${"),
        Just("&a "),
        Just("*a"),
        Just("- "),
        Just("  "),
        Just("\n"),
        Just("\r\n"),
        Just(": "),
        Just("= "),
        Just("="),
        Just(","),
        Just("\""),
        Just("'"),
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just("#"),
        Just("\\u00"),
        Just("|"),
        Just("---\n"),
        Just("\u{feff}"),
        Just("ü"),
        Just("1"),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_panics(format in format(), text in prop_oneof![file_like(), ".*".boxed()]) {
        if let Err(error) = Settings::builder().text("a", format, text).build() {
            prop_assert!(error.kind() == nats_connector::ErrorKind::InvalidSettings);
            prop_assert!(!error.to_string().contains('\n'));
        }
    }

    #[test]
    fn no_argument_or_variable_panics(
        arguments in prop::collection::vec("(--)?(NATS[._-]?)?[A-Z.]{0,6}=?.{0,10}", 0..5),
        value in ".*",
    ) {
        let value = value.replace('\0', "");
        let _ = Settings::builder()
            .args_from(arguments)
            .env_from([("NATS_SERVER", value.clone()), ("NATS_CONTEXT", value)])
            .build();
    }

    #[test]
    fn no_server_list_panics_or_shows_userinfo(list in "(nats://|tls://|wss://|)(s3cr3t:|)(s3cr3t|)[@:/?#,%a-c0-9\\[\\] .]{0,12}") {
        let secret = list.contains('@');
        match Settings::builder().set("NATS.SERVER", &list).build() {
            Ok(settings) => {
                let shown = format!("{settings:?} {}", settings.table());
                let in_userinfo = *settings.auth() != nats_connector::Auth::None;
                prop_assert!(!in_userinfo || !shown.contains('@'), "{}", shown);
            }
            Err(error) => {
                prop_assert!(!secret || !error.to_string().contains("s3cr3t"), "{}", error);
            }
        }
    }

    /// What is written comes back from every format and source, to the letter.
    #[test]
    fn values_round_trip(value in "[^\0\r\n\u{85}\u{2028}\u{2029}\u{feff}]*", literal in any::<bool>()) {
        let settings = |builder: nats_connector::SettingsBuilder| {
            builder.build().map(|settings| settings.key_prefix().to_owned())
        };
        let new = Settings::builder;
        prop_assert_eq!(settings(new().set("NATS.KEY_PREFIX", &value)).unwrap(), value.clone());
        prop_assert_eq!(settings(new().env_from([("NATS_KEY_PREFIX", &value)])).unwrap(), value.clone());

        let escaped = value.replace("${", "$${");
        let argument = format!("--NATS.KEY_PREFIX={escaped}");
        prop_assert_eq!(settings(new().args_from([argument])).unwrap(), value.clone());
        let quote = if literal { "'" } else { "\"" };
        let line = format!("NATS.KEY_PREFIX={quote}{}{quote}", escaped.replace(quote, &quote.repeat(2)));
        prop_assert_eq!(settings(new().text("a", Format::Lines, line)).unwrap(), value.clone());
        let json = serde_json::json!({ "nats": { "key_prefix": escaped } }).to_string();
        prop_assert_eq!(settings(new().text("a", Format::Json, json)).unwrap(), value.clone());
        if cfg!(feature = "yaml") && !value.contains(|c: char| c.is_control()) {
            let yaml = format!("nats:\n  key_prefix: '{}'", escaped.replace('\'', "''"));
            prop_assert_eq!(settings(new().text("a", Format::Yaml, yaml)).unwrap(), value.clone());
        }
        if cfg!(feature = "toml") && !value.contains(|c: char| c.is_control()) {
            let toml = format!("nats.key_prefix = {}", toml_string(&escaped));
            prop_assert_eq!(settings(new().text("a", Format::Toml, toml)).unwrap(), value.clone());
        }
    }
}

/// A TOML basic string of text without control characters.
fn toml_string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

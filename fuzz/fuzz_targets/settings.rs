//! Any text as a settings file of any format, as an argument, a variable and a value in code: it is
//! read or refused, without a panic, and no userinfo of a server list is shown.
//!
//! `cargo +nightly fuzz run settings`
#![no_main]

use libfuzzer_sys::fuzz_target;
use nats_connector::{Format, Settings, Stores};

fuzz_target!(|text: &str| {
    for format in [Format::Lines, Format::Json, Format::Yaml, Format::Toml] {
        let sources = Settings::builder().text("fuzz", format, text).env_from([("X", "x")]);
        if let Err(error) = Stores::from_settings(sources.clone()) {
            assert!(!error.to_string().contains('\n'));
        }
        if let Err(error) = sources.build() {
            assert!(!error.to_string().contains('\n'));
        }
    }
    let _ = Settings::builder().args_from(text.split(' ')).build();

    // One setting at a time, chosen by the input. A context would be looked for in the file system;
    // everything else is only parsed.
    let key = &Settings::keys()[text.len() % Settings::keys().len()];
    if key.name() != "NATS.CONTEXT" {
        let literal = Settings::builder().set(key.name(), text).build();
        let expanded = Settings::builder()
            .text("fuzz", Format::Lines, format!("{}='{}'", key.name(), text.replace('\'', "''")))
            .env_from([("X", "x")])
            .build();
        // Without a placeholder and a line break, both say the same.
        if !text.contains(['$', '\n']) {
            assert_eq!(literal.is_ok(), expanded.is_ok(), "{}", key.name());
        }
        if let Ok(settings) = literal
            && *settings.auth() != nats_connector::Auth::None
        {
            assert!(settings.servers().iter().all(|server| !server.contains('@')));
        }
    }
});

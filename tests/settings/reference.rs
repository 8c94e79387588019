//! The list of settings and the texts made from it. `UPDATE=1` writes reference.conf anew.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use nats_connector::{Format, Settings};

#[test]
fn reference_conf_is_the_list_of_settings() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/settings/reference.conf");
    let expected = Settings::reference_conf();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text == expected,
        "src/settings/reference.conf is not what the list of settings says; write it anew with \
         UPDATE=1 cargo test --test settings"
    );
    for line in text.lines() {
        assert!(line.len() <= 100, "too wide: {line}");
    }
}

#[test]
fn reference_conf_says_the_defaults() {
    let defaults = Settings::builder().build().unwrap();
    let reference = Settings::reference_conf();
    let parsed =
        Settings::builder().text("reference.conf", Format::Lines, &reference).build().unwrap();
    assert_eq!(parsed, defaults);

    // The settings themselves, without the # before them.
    let active: Vec<&str> =
        reference.lines().filter_map(|line| line.strip_prefix("#NATS.")).collect();
    assert_eq!(active.len(), Settings::keys().len());
    let active = format!("NATS.{}", active.join("\nNATS."));
    let parsed =
        Settings::builder().text("reference.conf", Format::Lines, &active).build().unwrap();
    assert_eq!(parsed, defaults);
    assert!(parsed.warnings().is_empty());

    // They are read: another value would make a difference.
    let other = active.replace("NATS.RECONNECT_WAIT=2s", "NATS.RECONNECT_WAIT=3s");
    let parsed = Settings::builder().text("reference.conf", Format::Lines, other).build().unwrap();
    assert_ne!(parsed, defaults);
}

#[test]
fn every_setting_is_described_once() {
    let mut names = HashSet::new();
    let markdown = Settings::keys_markdown();
    let table = Settings::builder().build().unwrap().table().to_string();
    for key in Settings::keys() {
        assert!(names.insert(key.name()), "{} is listed twice", key.name());
        assert!(key.meaning().ends_with('.'), "{}: {}", key.name(), key.meaning());
        assert!(markdown.contains(&format!("| `{}` |", key.name())), "{}", key.name());
        let row = format!("{} = ", key.name());
        assert!(table.lines().any(|line| line.starts_with(&row)), "{}", key.name());
        if key.kind() == "duration" {
            assert!(key.unit().is_some(), "{} has no unit", key.name());
        }
    }
    for secret in ["NATS.TOKEN", "NATS.PASSWORD"] {
        assert!(Settings::keys().iter().any(|key| key.name() == secret && key.is_secret()));
    }
    assert_eq!(markdown.lines().count(), Settings::keys().len() + 2);
    assert_eq!(table.lines().count(), Settings::keys().len());
    assert!(markdown.lines().all(|line| line.matches('|').count() == 5), "{markdown}");
}

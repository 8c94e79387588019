//! Named stores: settings, connections, buckets, and the data of other libraries.

mod bad;
mod buckets;
mod conformance;
mod kryten;
mod lokstra;
mod nats_py;
mod opening;
mod own;
mod properties;
mod secrets;
mod sources;

use nats_connector::{Format, Settings, SettingsBuilder, Stores};

/// Sources of a text of lines.
fn lines(text: &str) -> SettingsBuilder {
    Settings::builder().text("settings.conf", Format::Lines, text)
}

fn stores(text: &str) -> Stores {
    Stores::from_settings(lines(text)).expect(text)
}

fn error_of(sources: SettingsBuilder) -> String {
    let error = Stores::from_settings(sources).expect_err("the stores are wrong");
    assert_eq!(error.kind(), nats_connector::ErrorKind::InvalidSettings, "{error}");
    error.to_string()
}

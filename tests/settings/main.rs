//! Settings: sources, formats, precedence, errors and secrets. No test touches the environment,
//! arguments or working directory of the process.

mod bad;
mod context;
mod properties;
mod reference;
mod secrets;
mod sources;
mod values;

use nats_connector::{Format, Settings};

/// The error of a text of lines named `settings.conf`.
fn error_of_lines(text: &str) -> String {
    let builder = Settings::builder().text("settings.conf", Format::Lines, text);
    builder.build().expect_err(text).to_string()
}

/// Settings from a text of lines.
fn lines(text: &str) -> Settings {
    Settings::builder().text("settings.conf", Format::Lines, text).build().expect(text)
}

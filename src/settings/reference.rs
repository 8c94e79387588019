//! The list of settings as text: reference.conf and the table of the README.

use std::fmt::Write as _;

use super::keys::{KEYS, Key};
use super::{stores, streams};

/// How wide reference.conf is.
const WIDTH: usize = 100;

const HEAD: &str = "\
# Every setting of nats-connector, with its default. Copy what you change to settings.conf and
# remove the # before it. A later source wins: defaults, a nats context, this file, the environment
# (NATS_SERVER), arguments (--NATS.SERVER=x), code. Keys compare without case; `.`, `_` and `-` are
# alike.
#
# A # at the start of a line or after white space starts a comment. Quotes, 'single' or \"double\",
# keep everything between them; the quote itself is written twice. ${VAR} and ${VAR:default} stand
# for environment variables, $${ for a literal ${.
";

const STORES_HEAD: &str = "
# Named stores, here one called user_cache: what is set for a name makes that store. A field is
# known by its name at the end, so the variable is STORES_USER_CACHE_TTL; names are letters, digits,
# _ and -, without case. A store that only the environment names needs its STORES_<NAME>_DRIVER.
";

const STREAMS_HEAD: &str = "
# Streams, here one called ORDERS: register().apply_streams() makes those that are not there and
# checks the others. What is not set has the server's default in a new stream, and its present value
# in one that is there. Names are letters, digits, _ and -; a stream is called by its name in upper
# case, with _ for -. The variable is STREAMS_ORDERS_MAX_AGE; a stream that only the environment
# names needs its STREAMS_<NAME>_SUBJECTS.
";

/// The text of `reference.conf`.
pub(super) fn conf() -> String {
    let mut out = HEAD.to_owned();
    describe(KEYS, "", &mut out);
    out.push_str(STORES_HEAD);
    describe(stores::FIELDS, "USER_CACHE", &mut out);
    out.push_str(STREAMS_HEAD);
    describe(streams::FIELDS, "ORDERS", &mut out);
    out
}

/// `example` stands for the name of a store or stream.
fn describe(keys: &[Key], example: &str, out: &mut String) {
    for key in keys {
        out.push('\n');
        for line in wrap(key.meaning(), WIDTH - 2) {
            let _ = writeln!(out, "# {line}");
        }
        let default = key.default().unwrap_or_default();
        let _ = writeln!(out, "# {}", facts(key).join("; "));
        let _ = writeln!(out, "#{}={default}", key.name().replace("<NAME>", example));
    }
}

/// A table of the README.
pub(super) fn markdown(keys: &[Key]) -> String {
    let mut out = "| Setting | Type | Default | Meaning |\n|---|---|---|---|\n".to_owned();
    for key in keys {
        let kind = key.kind().replace(" | ", ", ");
        let default = key.default().map_or("".to_owned(), |default| format!("`{default}`"));
        let unit = key.unit().map_or("".to_owned(), |unit| format!(" ({unit})"));
        let secret = if key.is_secret() { " Secret." } else { "" };
        let _ = writeln!(
            out,
            "| `{}` | {kind}{unit} | {default} | {}{secret} |",
            key.name(),
            key.meaning()
        );
    }
    out
}

/// Type, unit, default and secrecy, each in words.
fn facts(key: &Key) -> Vec<String> {
    let mut facts = vec![key.kind().to_owned()];
    facts.extend(key.unit().map(str::to_owned));
    facts.push(match key.default() {
        Some(default) => format!("default {default}"),
        None => "not set by default".to_owned(),
    });
    if key.is_secret() {
        facts.push("secret".to_owned());
    }
    facts
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        let full = lines.last().is_some_and(|l| !l.is_empty() && l.len() + 1 + word.len() > width);
        if full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

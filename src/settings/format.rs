//! Settings files: their formats, and one shape for what they hold.

mod json;
mod lines;
#[cfg(feature = "toml")]
mod toml;
#[cfg(feature = "yaml")]
mod yaml;

use std::path::Path;

use super::source::{Entry, Origin};

/// The format of a settings file or text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// `NATS.KEY=value` lines.
    ///
    /// `#` starts a comment at the start of a line or after white space. White space around key and
    /// value is dropped. In single or double quotes everything is kept, and the quote itself is
    /// written twice; there are no other escapes.
    Lines,
    /// YAML, with the feature `yaml`. Plain values keep the text that is written: `0123` and `yes`
    /// are no numbers or booleans.
    Yaml,
    /// TOML, with the feature `toml`.
    Toml,
    /// JSON.
    Json,
}

impl Format {
    /// By extension: `.yml`, `.yaml`, `.toml` and `.json`; lines for all others.
    pub(super) fn of(path: &Path) -> Self {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("");
        match extension.to_ascii_lowercase().as_str() {
            "yml" | "yaml" => Format::Yaml,
            "toml" => Format::Toml,
            "json" => Format::Json,
            _ => Format::Lines,
        }
    }
}

/// Nested deeper than this, nothing is a setting.
const DEEPEST: usize = 32;

/// What the structured formats have in common.
enum Node {
    Null,
    /// The text as it is written, or what the quoted text stands for.
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<Member>),
    /// Something that no setting can be; the text completes "the value".
    Unusable(&'static str),
}

struct Member {
    key: String,
    line: usize,
    value: Node,
}

/// Everything in a text, nested maps flattened to dotted keys. The error names `name` and the line,
/// and never quotes the text.
pub(super) fn entries(name: &str, format: Format, text: &str) -> Result<Vec<Entry>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let root = match format {
        Format::Lines => return lines::entries(name, text),
        Format::Json => json::parse(text),
        #[cfg(feature = "yaml")]
        Format::Yaml => yaml::parse(text),
        #[cfg(not(feature = "yaml"))]
        Format::Yaml => return Err(without_feature(name, "YAML", "yaml")),
        #[cfg(feature = "toml")]
        Format::Toml => toml::parse(text),
        #[cfg(not(feature = "toml"))]
        Format::Toml => return Err(without_feature(name, "TOML", "toml")),
    };
    let mut out = Vec::new();
    match root.map_err(|Fault { line, why }| format!("{name}:{line}: {why}"))? {
        Node::Null => {}
        Node::Map(members) => flatten(name, "", members, &mut out),
        _ => return Err(format!("{name}: the top level is not a map of settings")),
    }
    Ok(out)
}

#[cfg(not(all(feature = "yaml", feature = "toml")))]
fn without_feature(name: &str, format: &str, feature: &str) -> String {
    format!("{name}: to read {format}, build nats-connector with its feature `{feature}`")
}

/// Why a text is not of its format.
struct Fault {
    line: usize,
    why: String,
}

/// The line, from 1, of a byte of the text.
fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

fn flatten(name: &str, prefix: &str, members: Vec<Member>, out: &mut Vec<Entry>) {
    for Member { key, line, value } in members {
        let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        let text = match value {
            // Named and left as it is, as a store may be.
            Node::Map(members) if members.is_empty() => Ok(String::new()),
            Node::Map(members) => {
                flatten(name, &key, members, out);
                continue;
            }
            Node::Null => Ok(String::new()),
            Node::Scalar(text) => Ok(text),
            Node::List(items) => join(items),
            Node::Unusable(why) => Err(why),
        };
        let origin = Origin::File { name: name.to_owned(), line };
        out.push(Entry { key, text, origin });
    }
}

/// A list of plain values is their comma list.
fn join(items: Vec<Node>) -> Result<String, &'static str> {
    let mut texts = Vec::with_capacity(items.len());
    for item in items {
        match item {
            Node::Scalar(text) => texts.push(text),
            Node::Unusable(why) => return Err(why),
            Node::Null | Node::List(_) | Node::Map(_) => {
                return Err("is a list of more than plain values");
            }
        }
    }
    Ok(texts.join(","))
}

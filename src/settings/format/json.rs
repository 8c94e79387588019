//! JSON, with numbers kept as they are written.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{DEEPEST, Fault, Member, Node, line_at};

pub(super) fn parse(text: &str) -> Result<Node, Fault> {
    if text.trim().is_empty() {
        return Ok(Node::Null);
    }
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| fault(&error, 0))?;
    node(raw, text, 0)
}

/// The message of serde_json tells what it expected; line and column follow it.
fn fault(error: &serde_json::Error, lines_before: usize) -> Fault {
    let why = error.to_string();
    let why = why.split(" at line ").next().unwrap_or_default();
    Fault { line: lines_before + error.line(), why: format!("not JSON: {why}") }
}

fn node(raw: &RawValue, text: &str, depth: usize) -> Result<Node, Fault> {
    let value = raw.get();
    let line = || line_of(value, text);
    let fault = |error: serde_json::Error| fault(&error, line() - 1);
    if depth > DEEPEST {
        return Ok(Node::Unusable("is nested too deeply"));
    }
    Ok(match value.as_bytes().first() {
        Some(b'{') => {
            let Members(members) = serde_json::from_str(value).map_err(fault)?;
            let members = members.into_iter().map(|(key, raw)| {
                let line = line_of(raw.get(), text);
                Ok(Member { key, line, value: node(raw, text, depth + 1)? })
            });
            Node::Map(members.collect::<Result<_, Fault>>()?)
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(value).map_err(fault)?;
            let items = items.into_iter().map(|raw| node(raw, text, depth + 1));
            Node::List(items.collect::<Result<_, Fault>>()?)
        }
        Some(b'"') => Node::Scalar(serde_json::from_str(value).map_err(fault)?),
        Some(b'n') => Node::Null,
        _ => Node::Scalar(value.to_owned()),
    })
}

/// The line of a part of the text: where it stands in memory tells where it stands in the text.
fn line_of(part: &str, text: &str) -> usize {
    line_at(text, part.as_ptr().addr().saturating_sub(text.as_ptr().addr()))
}

/// A map in its order, with the text of its values.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

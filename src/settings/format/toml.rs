//! TOML, with numbers and dates kept as they are written.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{DEEPEST, Fault, Member, Node, line_at};

pub(super) fn parse(text: &str) -> Result<Node, Fault> {
    let table = DeTable::parse(text).map_err(|error| Fault {
        line: line_at(text, error.span().map_or(0, |span| span.start)),
        why: format!("not TOML: {}", error.message()),
    })?;
    Ok(map(table.get_ref(), text, 0))
}

fn map(table: &DeTable<'_>, text: &str, depth: usize) -> Node {
    let members = table.iter().map(|(key, value)| Member {
        key: key.get_ref().to_string(),
        line: line_at(text, key.span().start),
        value: node(value, text, depth + 1),
    });
    Node::Map(members.collect())
}

fn node(value: &Spanned<DeValue<'_>>, text: &str, depth: usize) -> Node {
    if depth > DEEPEST {
        return Node::Unusable("is nested too deeply");
    }
    match value.get_ref() {
        DeValue::String(value) => Node::Scalar(value.to_string()),
        DeValue::Array(items) => {
            Node::List(items.iter().map(|item| node(item, text, depth + 1)).collect())
        }
        DeValue::Table(table) => map(table, text, depth),
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            Node::Scalar(text.get(value.span()).unwrap_or_default().to_owned())
        }
    }
}

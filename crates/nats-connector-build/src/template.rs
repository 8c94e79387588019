//! Key templates: text, and fields of the request in braces.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

/// A template whose fields exist and can stand in a key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template(pub(crate) Vec<Part>);

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Part {
    Text(String),
    /// From the request down to the value.
    Field(Vec<FieldDescriptor>),
}

impl Template {
    /// `user.{id}`, `order.{customer.id}`; `{{` and `}}` are braces.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(crate) fn parse(template: &str, request: &MessageDescriptor) -> Result<Self, String> {
        if template.is_empty() {
            return Err("key_template is empty; say under which key a response is kept, as in \
                        \"user.{id}\""
                .to_owned());
        }
        let (mut parts, mut text) = (Vec::new(), String::new());
        let mut rest = template;
        while let Some(at) = rest.find(['{', '}']) {
            text.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                text.push_str(brace);
                rest = after;
                continue;
            }
            let end = if brace == "{" { rest.find('}') } else { None };
            let Some(end) = end else {
                return Err(format!(
                    "key_template \"{template}\": a single {brace} that belongs to no field; close \
                     it, or write {brace}{brace} for the character"
                ));
            };
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            let field = field(&rest[..end], request)
                .map_err(|problem| format!("key_template \"{template}\": {problem}"))?;
            parts.push(Part::Field(field));
            rest = &rest[end + 1..];
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Template(parts))
    }

    /// Whether its keys are ones that buckets take, whatever the values.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(crate) fn check(&self) -> Result<(), String> {
        // A value is at least one character that can stand anywhere.
        let shape: String = self.0.iter().map(|it| it.text().unwrap_or("x")).collect();
        let legal = |c: char| c.is_ascii_alphanumeric() || "-/_=.".contains(c);
        if let Some(bad) = shape.chars().find(|c| !legal(*c)) {
            return Err(format!(
                "key_template: {bad:?} cannot stand in a key; use letters, digits and - / _ = ."
            ));
        }
        if shape.starts_with('.') || shape.ends_with('.') || shape.contains("..") {
            return Err("key_template: a dot is at an end, or next to another; a key is made of \
                        tokens with single dots between them"
                .to_owned());
        }
        Ok(())
    }
}

impl Part {
    fn text(&self) -> Option<&str> {
        match self {
            Part::Text(text) => Some(text),
            Part::Field(_) => None,
        }
    }
}

/// The fields that `path` names, one in the other.
fn field(path: &str, request: &MessageDescriptor) -> Result<Vec<FieldDescriptor>, String> {
    let mut fields: Vec<FieldDescriptor> = Vec::new();
    let mut message = request.clone();
    let mut names = path.split('.').peekable();
    while let Some(name) = names.next() {
        let field = message.get_field_by_name(name).ok_or_else(|| no_field(name, &message))?;
        if field.is_map() || field.is_list() {
            return Err(cannot(path, if field.is_map() { "a map" } else { "repeated" }));
        }
        let kind = field.kind();
        match (&kind, names.peek()) {
            (Kind::Message(inner), Some(_)) => message = inner.clone(),
            (Kind::Message(inner), None) => {
                let inner = inner.full_name();
                return Err(cannot(path, &format!("a message ({inner}); name a field of it")));
            }
            (_, Some(_)) => return Err(format!("{name} is no message, so it has no fields")),
            (Kind::Float | Kind::Double, None) => return Err(cannot(path, "a float")),
            (Kind::Bytes, None) => return Err(cannot(path, "bytes")),
            _ => {}
        }
        fields.push(field);
    }
    Ok(fields)
}

fn no_field(name: &str, message: &MessageDescriptor) -> String {
    let fields: Vec<_> = message.fields().map(|it| it.name().to_owned()).collect();
    let has = if fields.is_empty() { "no fields".to_owned() } else { fields.join(", ") };
    let name = if name.is_empty() { "\"\"" } else { name };
    format!("{name} is not a field of {}, which has: {has}", message.full_name())
}

fn cannot(path: &str, what: &str) -> String {
    format!("{path} is {what}; a key is made of strings, integers, booleans and enums")
}

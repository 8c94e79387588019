//! The expressions that read a template's fields from a request.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use crate::names::{rust_snake, rust_type};
use crate::template::{Part, Template};
use crate::types::{Types, from_within};

/// Writes key expressions for a module at `depth` in the module of `package`.
#[derive(Debug)]
pub(crate) struct Keys<'a> {
    pub(crate) types: &'a Types,
    pub(crate) package: &'a str,
    pub(crate) depth: usize,
}

/// Rust that gives a value, or maybe one.
struct Expression {
    text: String,
    option: bool,
}

impl Keys<'_> {
    /// The body of a function that makes the key of `request`.
    pub(crate) fn body(&self, template: &Template, escape: bool) -> String {
        let mut body = "rpc::KeyText::new()".to_owned();
        if escape {
            body.push_str(".escaping()");
        }
        for part in &template.0 {
            match part {
                Part::Text(text) => body.push_str(&format!(".text({text:?})")),
                Part::Field(fields) => {
                    let names: Vec<_> = fields.iter().map(FieldDescriptor::name).collect();
                    let value = self.value(fields);
                    body.push_str(&format!(".field({:?}, &{value})?", names.join(".")));
                }
            }
        }
        body + ".finish()"
    }

    fn value(&self, fields: &[FieldDescriptor]) -> String {
        let mut at = Expression { text: "request".to_owned(), option: false };
        for (index, field) in fields.iter().enumerate() {
            // prost has the bare value in place of a wrapper.
            if is_wrapper(field.parent_message()) {
                continue;
            }
            at = match field.kind() {
                _ if oneof(field).is_some() => self.of_oneof(at, field),
                _ if index + 1 < fields.len() => inner(at, field),
                _ => scalar(at, field),
            };
            if let Kind::Enum(kind) = field.kind() {
                at = self.name_of(at, field, kind.full_name());
            }
        }
        at.text
    }

    /// A member of a group of which one is set.
    fn of_oneof(&self, at: Expression, field: &FieldDescriptor) -> Expression {
        let Some(group) = oneof(field) else { return at };
        let message = field.parent_message();
        // Beside what is nested in the message.
        let within = format!("{}.{}", message.full_name(), type_of(&group, message));
        let path = from_within(&self.types.path(self.package, &within), self.depth);
        let (name, variant) = (rust_snake(&group), rust_type(field.name()));
        let choose = |of: &str| {
            format!("match &{of}.{name} {{ Some({path}::{variant}(it)) => Some(it), _ => None }}")
        };
        if at.option {
            at.and_then(&choose("it"))
        } else {
            Expression { text: format!("({})", choose(&at.text)), option: true }
        }
    }

    /// An enum's value by its name; a number without one is no value.
    fn name_of(&self, at: Expression, field: &FieldDescriptor, kind: &str) -> Expression {
        if has_default(field) {
            // The getter gave the enum itself.
            return match at.option {
                true => at.map("it.as_str_name()"),
                false => Expression { text: format!("{}.as_str_name()", at.text), option: false },
            };
        }
        let path = from_within(&self.types.path(self.package, kind), self.depth);
        let known = match at.option {
            // Some of these are references: `Option<&i32>`, where what is before gave one.
            true => {
                let copied = Expression { text: format!("{}{}", at.text, copied(&at.text)), ..at };
                copied.and_then(&format!("{path}::try_from(it).ok()"))
            }
            false => {
                Expression { text: format!("{path}::try_from({}).ok()", at.text), option: true }
            }
        };
        known.map("it.as_str_name()")
    }
}

/// Into a message.
fn inner(at: Expression, field: &FieldDescriptor) -> Expression {
    let name = rust_snake(field.name());
    match (at.option, field.is_required()) {
        (false, true) => Expression { text: format!("{}.{name}", at.text), option: false },
        (true, true) => at.map(&format!("&it.{name}")),
        (false, false) => Expression { text: format!("{}.{name}.as_ref()", at.text), option: true },
        (true, false) => at.and_then(&format!("it.{name}.as_ref()")),
    }
}

fn scalar(at: Expression, field: &FieldDescriptor) -> Expression {
    let name = rust_snake(field.name());
    if has_default(field) {
        // The getter knows the default.
        return match at.option {
            true => at.map(&format!("it.{name}()")),
            false => Expression { text: format!("{}.{name}()", at.text), option: false },
        };
    }
    let option = field.supports_presence() && !field.is_required();
    match (at.option, option) {
        (true, true) => at.and_then(&format!("it.{name}.as_ref()")),
        (true, false) => at.map(&format!("&it.{name}")),
        (false, option) => Expression { text: format!("{}.{name}", at.text), option },
    }
}

/// What makes an option of a reference one of a value; all but a field itself are.
fn copied(text: &str) -> &'static str {
    if text.ends_with(')') { ".copied()" } else { "" }
}

impl Expression {
    fn map(self, to: &str) -> Self {
        Expression { text: format!("{}.map(|it| {to})", self.text), option: true }
    }

    fn and_then(self, to: &str) -> Self {
        Expression { text: format!("{}.and_then(|it| {to})", self.text), option: true }
    }
}

/// The real group that a field is of: an optional field is the only one of a group of its own.
fn oneof(field: &FieldDescriptor) -> Option<String> {
    let group = field.containing_oneof()?;
    (!group.is_synthetic()).then(|| group.name().to_owned())
}

/// How prost calls the group's type: not as a nested type is called.
fn type_of(group: &str, message: &MessageDescriptor) -> String {
    let name = rust_type(group);
    let taken = message.child_messages().any(|it| rust_type(it.name()) == name)
        || message.child_enums().any(|it| rust_type(it.name()) == name);
    if taken { name + "OneOf" } else { name }
}

/// Whether its file says what it is when it is not set.
fn has_default(field: &FieldDescriptor) -> bool {
    !field.is_required() && field.field_descriptor_proto().default_value.is_some()
}

fn is_wrapper(message: &MessageDescriptor) -> bool {
    message.full_name().strip_prefix("google.protobuf.").is_some_and(|name| {
        matches!(
            name,
            "StringValue"
                | "BoolValue"
                | "Int32Value"
                | "Int64Value"
                | "UInt32Value"
                | "UInt64Value"
        )
    })
}

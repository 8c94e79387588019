//! Where settings come from: files, environment, arguments, code.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

/// The source of one value, as errors and the table name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// A context of the `nats` command line.
    Context { path: String, field: &'static str },
    /// A settings file or text.
    File { name: String, line: usize },
    /// A variable.
    Environment(String),
    /// The name of a command-line argument.
    Argument(String),
    /// `SettingsBuilder::set`.
    Code,
}

impl Origin {
    /// Whether `${VAR}` has a meaning there: in what is written for this library, but neither in a
    /// variable's own text nor in values that code computes.
    pub(super) fn expands(&self) -> bool {
        matches!(self, Origin::File { .. } | Origin::Argument(_))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Context { path, field } => write!(f, "{field} in context {path}"),
            Origin::File { name, line } => write!(f, "{name}:{line}"),
            Origin::Environment(name) => write!(f, "environment variable {name}"),
            Origin::Argument(name) => write!(f, "argument {name}"),
            Origin::Code => f.write_str("code"),
        }
    }
}

/// A key and its value as a source has them; or why the value cannot be one, to follow "the value".
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) text: Result<String, &'static str>,
    pub(super) origin: Origin,
}

/// A key in the form in which keys compare: without case, and `.`, `_` and `-` alike.
pub(crate) fn normal(key: &str) -> String {
    key.chars().map(|c| if matches!(c, '.' | '-') { '_' } else { c.to_ascii_uppercase() }).collect()
}

/// The key without its domain, in its normal form; `None` for another domain's.
pub(super) fn in_domain(key: &str, domain: &str) -> Option<String> {
    normal(key).strip_prefix(domain)?.strip_prefix('_').map(str::to_owned)
}

const NOT_UTF8: &str = "is not UTF-8";

/// A copy of the environment, or of what stands for it in tests.
#[derive(Clone, Default)]
pub(super) struct Environment(BTreeMap<String, OsString>);

impl Environment {
    pub(super) fn add(&mut self, name: OsString, value: OsString) {
        // No setting has a name that is not UTF-8.
        if let Ok(name) = name.into_string() {
            self.0.insert(name, value);
        }
    }

    /// The value of a variable that is set, not empty and UTF-8.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.0
            .get(name)
            .and_then(|value| value.to_str())
            .filter(|v| !v.is_empty())
            .map(str::to_owned)
    }

    /// Every variable of a domain; empty ones count as not set.
    pub(super) fn entries(&self, domain: &str) -> Vec<Entry> {
        let entries = self
            .0
            .iter()
            .filter(|(name, value)| in_domain(name, domain).is_some() && !value.is_empty());
        entries
            .map(|(name, value)| Entry {
                key: name.clone(),
                text: value.to_str().map(str::to_owned).ok_or(NOT_UTF8),
                origin: Origin::Environment(name.clone()),
            })
            .collect()
    }
}

/// The arguments of a domain: `--KEY=value`, `--KEY value` and `KEY=value`, up to a `--`. All others
/// belong to the application.
pub(super) fn arguments(args: &[OsString], domain: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut args = args.iter().take_while(|arg| *arg != "--").peekable();
    while let Some(arg) = args.next() {
        let shown = arg.to_string_lossy();
        let (name, value) = match shown.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (&*shown, None),
        };
        let key = name.strip_prefix("--").or(name.strip_prefix('-')).unwrap_or(name);
        // A word without dashes and equals sign is a word of the application.
        if in_domain(key, domain).is_none() || (value.is_none() && key == name) {
            continue;
        }
        let text = match value {
            Some(value) if arg.to_str().is_some() => Ok(value.to_owned()),
            Some(_) => Err(NOT_UTF8),
            None => match args.next_if(|next| !next.to_string_lossy().starts_with("--")) {
                Some(next) => next.to_str().map(str::to_owned).ok_or(NOT_UTF8),
                None => Err("is missing; expected --KEY=value or --KEY value"),
            },
        };
        let origin = Origin::Argument(name.to_owned());
        entries.push(Entry { key: key.to_owned(), text, origin });
    }
    entries
}

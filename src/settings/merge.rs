//! Lays the sources over each other.

use std::collections::HashMap;

use super::context;
use super::keys::DEFAULT_DOMAIN;
use super::parse::{Value, Values};
use super::source::{Entry, Environment, Origin, in_domain, normal};

/// The variable that names the settings file; no setting of its own.
pub(super) const FILE_VARIABLE: &str = "NATS_SETTINGS_FILE";

/// Settings of which a context fills all or none, so that it never mixes with what is given.
const GROUPS: &[&[&str]] = &[
    &["CREDENTIALS", "NKEY_FILE", "TOKEN", "USERNAME", "PASSWORD"],
    &["TLS_CERT", "TLS_KEY"],
    &["JETSTREAM_DOMAIN", "JETSTREAM_PREFIX"],
];

/// Lays one file over what is there. A key that it has twice is a problem.
pub(super) fn file(values: &mut Values, entries: Vec<Entry>) {
    let mut seen = HashMap::new();
    for entry in entries {
        if normal(&entry.key) == values.domain() && entry.text.as_deref() != Ok("") {
            values.problem(format!(
                "{} from {} is the domain of settings, not one of them; expected for example {}",
                entry.key,
                entry.origin,
                values.full_name("SERVER")
            ));
        }
        once(values, &mut seen, &entry);
        lay(values, entry);
    }
}

/// Lays the environment over what is there. Unknown variables give one warning: others use the
/// prefix too.
pub(super) fn environment(values: &mut Values, environment: &Environment) -> Option<String> {
    let mut seen = HashMap::new();
    let mut unknown = Vec::new();
    for entry in environment.entries(values.domain()) {
        let short_name = in_domain(&entry.key, values.domain()).unwrap_or_default();
        if values.find(&short_name).is_some() {
            once(values, &mut seen, &entry);
            lay(values, entry);
        } else if entry.key != FILE_VARIABLE {
            let meant = values
                .nearest(&short_name)
                .map(|key| format!(" (did you mean {}_{}?)", values.domain(), key.short_name()));
            unknown.push(entry.key + &meant.unwrap_or_default());
        }
    }
    (!unknown.is_empty()).then(|| {
        format!("environment variables that are no settings are ignored: {}", unknown.join(", "))
    })
}

/// Lays arguments over what is there; among them, later ones win.
pub(super) fn arguments(values: &mut Values, entries: Vec<Entry>) {
    for entry in entries {
        lay(values, entry);
    }
}

/// Lays values of code over what is there. A key of another domain than `others` is a slip there.
pub(super) fn code(values: &mut Values, entries: &[Entry], others: &[&str]) {
    for entry in entries.iter().cloned() {
        let foreign = others.iter().any(|domain| in_domain(&entry.key, domain).is_some());
        if !foreign && in_domain(&entry.key, values.domain()).is_none() {
            let problem = unknown(values, &entry.key, &normal(&entry.key), &entry.origin);
            values.problem(problem);
        }
        lay(values, entry);
    }
}

/// Fills what nothing else gives from the context that the settings name.
pub(super) fn context(values: &mut Values, environment: &Environment) {
    let Some(Value { text, origin }) = values.get("CONTEXT") else { return };
    let found = match context::load(text, environment) {
        Ok(found) => found,
        Err(why) => {
            let name = values.full_name("CONTEXT");
            values.problem(format!("{name}: {text:?} from {origin}: {why}"));
            return;
        }
    };
    // A user in the server list authenticates as well as any other setting.
    let user_in_server = values.get("SERVER").is_some_and(|value| value.text.contains('@'));
    let given = |name: &str| values.is_given(name) || (name == "TOKEN" && user_in_server);
    let fillable = |name: &str| {
        let group = GROUPS.iter().find(|group| group.contains(&name));
        !given(name) && !group.is_some_and(|group| group.iter().any(|other| given(other)))
    };
    let found: Vec<_> = found.into_iter().filter(|(name, _)| fillable(name)).collect();
    for (short_name, value) in found {
        values.insert(short_name, value);
    }
}

/// A key of the domain is given once by one file or environment.
fn once(values: &mut Values, seen: &mut HashMap<String, Origin>, entry: &Entry) {
    let Some(short_name) = in_domain(&entry.key, values.domain()) else { return };
    let name = values.full_name(&short_name);
    if let Some(first) = seen.insert(short_name, entry.origin.clone()) {
        values
            .problem(format!("{name} is given twice, by {first} and {}; remove one", entry.origin));
    }
}

/// Lays one value over what is there; keys of other domains are not looked at.
fn lay(values: &mut Values, entry: Entry) {
    let Entry { key, text, origin } = entry;
    let Some(short_name) = in_domain(&key, values.domain()) else { return };
    match (values.find(&short_name), text) {
        (Some(known), Ok(text)) => values.insert(known.short_name(), Value { text, origin }),
        (Some(_), Err(why)) => {
            let name = values.full_name(&short_name);
            values.problem(format!("{name}: the value from {origin} {why}"));
        }
        (None, _) => values.problem(unknown(values, &key, &short_name, &origin)),
    }
}

/// The error of a key that no setting has.
fn unknown(values: &Values, key: &str, short_name: &str, origin: &Origin) -> String {
    let advice = match values.nearest(short_name) {
        Some(meant) => format!("did you mean {}?", values.full_name(meant.short_name())),
        None if normal(&format!("{DEFAULT_DOMAIN}.{short_name}")) == FILE_VARIABLE => {
            format!("the file is named by the environment variable {FILE_VARIABLE} only")
        }
        None => "reference.conf lists all".to_owned(),
    };
    format!("{key} from {origin} is not a setting; {advice}")
}

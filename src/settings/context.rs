//! Contexts of the `nats` command line: JSON files that say how to connect.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use super::parse::Value;
use super::source::{Environment, Origin};

/// What a field of a context becomes, and how its text is read.
const FIELDS: &[(&str, &str, Read)] = &[
    ("url", "SERVER", Read::Text),
    ("user", "USERNAME", Read::Secret),
    ("password", "PASSWORD", Read::Secret),
    ("token", "TOKEN", Read::Secret),
    ("creds", "CREDENTIALS", Read::Path),
    ("nkey", "NKEY_FILE", Read::Path),
    ("cert", "TLS_CERT", Read::Path),
    ("key", "TLS_KEY", Read::Path),
    ("ca", "TLS_CA", Read::Path),
    ("tls_first", "TLS_FIRST", Read::Boolean),
    ("inbox_prefix", "INBOX_PREFIX", Read::Text),
    ("jetstream_domain", "JETSTREAM_DOMAIN", Read::Text),
    ("jetstream_api_prefix", "JETSTREAM_PREFIX", Read::Text),
];

/// Fields without which the context would connect elsewhere or as somebody else.
const UNSUPPORTED: &[&str] = &[
    "socks_proxy",
    "user_jwt",
    "user_seed",
    "nsc",
    "windows_cert_store",
    "windows_cert_match_by",
    "windows_cert_match",
    "windows_ca_certs_match",
];

#[derive(Clone, Copy)]
enum Read {
    Text,
    Boolean,
    /// A text, or `env://NAME` or `file://path` that has it.
    Secret,
    /// A path with `~`, `$VAR` or `file://`.
    Path,
}

/// The settings in a context, by short name. The error never has a part of a value.
pub(super) fn load(
    name: &str,
    environment: &Environment,
) -> Result<Vec<(&'static str, Value)>, String> {
    let path = locate(name, environment)?;
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(&path)
        .map_err(|error| format!("context file {shown} cannot be read: {error}"))?;
    let fields: Map<String, Json> = serde_json::from_str(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("context file {shown} is not a JSON map (line {line}, column {column})")
    })?;
    for field in UNSUPPORTED {
        if fields.get(*field).is_some_and(|value| !is_unset(value)) {
            return Err(format!(
                "context file {shown} sets {field}, which is not supported; remove it from the \
                 context, or set servers and authentication here instead of a context"
            ));
        }
    }
    let mut found = Vec::new();
    for (field, short_name, read) in FIELDS {
        let Some(value) = fields.get(*field).filter(|value| !is_unset(value)) else { continue };
        let text = match (read, value) {
            (Read::Boolean, Json::Bool(value)) => Ok(value.to_string()),
            (Read::Text, Json::String(text)) => Ok(text.clone()),
            (Read::Secret, Json::String(text)) => secret(text, environment),
            (Read::Path, Json::String(text)) => expand_path(text, environment),
            (Read::Boolean, _) => Err("is not a boolean; expected true or false".to_owned()),
            _ => Err("is not a text".to_owned()),
        };
        let text = text.map_err(|why| format!("{field} in context file {shown} {why}"))?;
        let origin = Origin::Context { path: shown.clone(), field };
        found.push((*short_name, Value { text, origin }));
    }
    Ok(found)
}

fn is_unset(value: &Json) -> bool {
    match value {
        Json::Null | Json::Bool(false) => true,
        Json::String(text) => text.is_empty(),
        _ => false,
    }
}

/// The file of a context: an absolute path, or a name in the directory of the command line.
fn locate(name: &str, environment: &Environment) -> Result<PathBuf, String> {
    if Path::new(name).is_absolute() {
        return Ok(PathBuf::from(name));
    }
    if name.contains("..") || name.contains(['/', '\\']) {
        return Err("not the name of a context; expected a name or an absolute path".to_owned());
    }
    let config = match environment.get("XDG_CONFIG_HOME") {
        Some(config) => PathBuf::from(config),
        None => home(environment)?.join(".config"),
    };
    Ok(config.join("nats").join("context").join(format!("{name}.json")))
}

fn home(environment: &Environment) -> Result<PathBuf, String> {
    environment
        .get("HOME")
        .or_else(|| environment.get("USERPROFILE"))
        .map(PathBuf::from)
        .ok_or_else(|| "needs a home directory, and the variable HOME is not set".to_owned())
}

/// What a secret field says, or where it says that the secret is.
fn secret(text: &str, environment: &Environment) -> Result<String, String> {
    if let Some(name) = text.strip_prefix("env://") {
        return environment
            .get(name)
            .ok_or_else(|| format!("needs the environment variable {name}, which is not set"));
    }
    if let Some(path) = text.strip_prefix("file://") {
        let path = expand_path(path, environment)?;
        return std::fs::read_to_string(&path)
            .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|error| format!("names the file {path}, which cannot be read: {error}"));
    }
    refuse_reference(text)?;
    Ok(text.to_owned())
}

/// References that the command line resolves with other programs, or that hold the secret encoded.
fn refuse_reference(text: &str) -> Result<(), String> {
    match ["op://", "nsc://", "data:", "env://"].iter().find(|scheme| text.starts_with(**scheme)) {
        Some(scheme) => Err(format!(
            "is a {scheme} reference, which is not followed here; put the value or the path of a \
             file there"
        )),
        None => Ok(()),
    }
}

/// A path as a shell would read it: `~` at the start, `$VAR` and `${VAR}` anywhere.
fn expand_path(text: &str, environment: &Environment) -> Result<String, String> {
    refuse_reference(text)?;
    let text = text.strip_prefix("file://").unwrap_or(text);
    let mut out = String::new();
    let mut rest = text;
    if let Some(after) = text.strip_prefix('~')
        && (after.is_empty() || after.starts_with(['/', '\\']))
    {
        out.push_str(&home(environment)?.to_string_lossy());
        rest = after;
    }
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (name, after) = match after.strip_prefix('{') {
            Some(inner) => inner.split_once('}').ok_or("has a ${ without its closing }")?,
            None => {
                let end = after
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .unwrap_or(after.len());
                after.split_at(end)
            }
        };
        if name.is_empty() {
            out.push('$');
        } else {
            out.push_str(&environment.get(name).ok_or_else(|| {
                format!("needs the environment variable {name}, which is not set")
            })?);
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

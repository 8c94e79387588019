//! Which of the ways to authenticate counts, and what is ignored beside it.

use std::path::PathBuf;

use super::parse::{Value, Values};
use super::{Auth, Secret};

/// The first way that is set, and one warning when others are set beside it.
pub(super) fn resolve(values: &mut Values, from_url: Auth) -> (Auth, Option<String>) {
    let in_url = (from_url != Auth::None).then(|| {
        let source = values.get("SERVER").map(|value| format!(" ({})", value.origin));
        format!("the user in {}{}", values.full_name("SERVER"), source.unwrap_or_default())
    });
    values.pair("USERNAME", "PASSWORD");
    let mut found: Vec<(Auth, String)> = Vec::new();
    let mut add = |short_name, auth: fn(&Values, &Value) -> Auth| {
        if let Some(value) = values.get(short_name) {
            let name = format!("{} ({})", values.full_name(short_name), value.origin);
            found.push((auth(values, value), name));
        }
    };
    add("CREDENTIALS", |_, value| Auth::Credentials(PathBuf::from(&value.text)));
    add("NKEY_FILE", |_, value| Auth::NkeyFile(PathBuf::from(&value.text)));
    add("TOKEN", |_, value| Auth::Token(Secret::new(&value.text)));
    add("USERNAME", |values, value| Auth::UserPassword {
        username: value.text.clone(),
        password: Secret::new(values.get("PASSWORD").map_or("", |password| &password.text)),
    });
    found.extend(in_url.map(|name| (from_url, name)));

    let mut found = found.into_iter();
    let Some((auth, used)) = found.next() else { return (Auth::None, None) };
    let ignored: Vec<String> = found.map(|(_, name)| name).collect();
    let warning = (!ignored.is_empty())
        .then(|| format!("{used} authenticates; ignored beside it: {}", ignored.join(", ")));
    (auth, warning)
}

//! `${VAR}` and `${VAR:default}` in values.

/// How deep defaults may nest. No file needs it; it keeps hostile text from deep recursion.
const DEEPEST: usize = 16;

/// Replaces the placeholders of a value. A variable's own text is taken literally, an empty one
/// counts as not set, and `$${` is a literal `${`.
///
/// The error names the variable, never the value.
pub(super) fn expand(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<String, String> {
    expand_at(text, variable, 0)
}

fn expand_at(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    depth: usize,
) -> Result<String, String> {
    if depth > DEEPEST {
        return Err(format!("nests more than {DEEPEST} placeholders"));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar..];
        if let Some(after) = rest.strip_prefix("$${") {
            out.push_str("${");
            rest = after;
        } else if let Some(inner) = rest.strip_prefix("${") {
            let end = closing_brace(inner)
                .ok_or("has a ${ without its closing }; write $${ for a literal ${")?;
            out.push_str(&resolve(&inner[..end], variable, depth)?);
            rest = &inner[end + 1..];
        } else {
            out.push('$');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// The `}` that ends a placeholder whose `${` is already read; those of nested ones do not count.
fn closing_brace(inner: &str) -> Option<usize> {
    let mut open = 1;
    let mut at = 0;
    while at < inner.len() {
        let rest = &inner[at..];
        if rest.starts_with("$${") {
            at += 3;
        } else if rest.starts_with("${") {
            open += 1;
            at += 2;
        } else {
            if rest.starts_with('}') {
                open -= 1;
                if open == 0 {
                    return Some(at);
                }
            }
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    None
}

/// What stands for `NAME` or `NAME:default`.
fn resolve(
    placeholder: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    depth: usize,
) -> Result<String, String> {
    let (name, default) = match placeholder.split_once(':') {
        Some((name, default)) => (name, Some(default)),
        None => (placeholder, None),
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if name.is_empty() || !name.chars().all(legal) {
        // The name is not shown: it may be a part of a password with `${` in it.
        return Err("has a ${ that no variable name follows; expected ${VAR} or ${VAR:default}, \
                    and $${ for a literal ${"
            .to_owned());
    }
    match (variable(name).filter(|value| !value.is_empty()), default) {
        (Some(value), _) => Ok(value),
        (None, Some(default)) => expand_at(default, variable, depth + 1),
        (None, None) => Err(format!(
            "needs the environment variable {name}, which is not set; set it, or write ${{{name}:}} \
             if it may be missing"
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expand_with(text: &str) -> Result<String, String> {
        expand(text, &|name| match name {
            "HOST" => Some("db".to_owned()),
            "TRICKY" => Some("a${HOST}:}$${".to_owned()),
            "EMPTY" => Some(String::new()),
            "app.port-1" => Some("1".to_owned()),
            _ => None,
        })
    }

    #[test]
    fn table() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("${HOST}", "db"),
            ("x${HOST}y${HOST}", "xdbydb"),
            ("${app.port-1}", "1"),
            ("${NONE:}", ""),
            ("${NONE:fallback}", "fallback"),
            ("${HOST:fallback}", "db"),
            ("${EMPTY:fallback}", "fallback"),
            ("${NONE:a:b}", "a:b"),
            ("${NONE:nats://h:4222}", "nats://h:4222"),
            ("${NONE:${HOST}}", "db"),
            ("${NONE:${NEITHER:x}-${HOST}}", "x-db"),
            ("${TRICKY}", "a${HOST}:}$${"),
            ("$${HOST}", "${HOST}"),
            ("$$${HOST}", "$${HOST}"),
            ("$HOST $ $$ {x} }", "$HOST $ $$ {x} }"),
            ("${NONE:$${HOST}", "${HOST"),
            ("${NONE:ü}ß", "üß"),
            ("a$", "a$"),
            ("${HOST}}", "db}"),
        ] {
            assert_eq!(expand_with(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn errors_say_what_to_do() {
        for (text, expected) in [
            ("${NONE}", "write ${NONE:} if it may be missing"),
            ("${EMPTY}", "environment variable EMPTY, which is not set"),
            ("${NONE:${NEITHER}}", "environment variable NEITHER"),
            ("x${HOST", "without its closing }"),
            ("${NONE:${HOST}", "without its closing }"),
            ("${}", "no variable name follows"),
            ("${:x}", "no variable name follows"),
            ("${a b}", "no variable name follows"),
            ("${@cfg:KEY}", "no variable name follows"),
        ] {
            let error = expand_with(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let deep = "${N:".repeat(DEEPEST + 1) + &"}".repeat(DEEPEST + 1);
        assert!(expand_with(&deep).unwrap_err().contains("nests more than 16"));
        let allowed = "${N:".repeat(DEEPEST) + &"}".repeat(DEEPEST);
        assert_eq!(expand_with(&allowed).as_deref(), Ok(""));
        assert!(!expand_with("p4ss${w rd}").unwrap_err().contains("w rd"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[$({}:)A-Z\\PC]*") {
            let _ = expand_with(&text);
        }

        #[test]
        fn text_without_dollar_stays(text in "[^$]*") {
            prop_assert_eq!(expand_with(&text), Ok(text));
        }

        #[test]
        fn escaped_text_stays(text in "[${}a-z]*") {
            let escaped = text.replace("${", "$${");
            prop_assert_eq!(expand_with(&escaped), Ok(text));
        }
    }
}

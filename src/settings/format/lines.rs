//! `NATS.KEY=value` lines.

use super::super::source::{Entry, Origin};

pub(super) fn entries(name: &str, text: &str) -> Result<Vec<Entry>, String> {
    let mut out = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let parsed = parse(line).map_err(|why| format!("{name}:{}: {why}", i + 1))?;
        if let Some((key, value)) = parsed {
            out.push(Entry {
                key: key.to_owned(),
                text: Ok(value),
                origin: Origin::File { name: name.to_owned(), line: i + 1 },
            });
        }
    }
    Ok(out)
}

/// Key and value of a line, or nothing for an empty line or comment.
fn parse(line: &str) -> Result<Option<(&str, String)>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (key, value) = line.split_once('=').ok_or("expected KEY=value, a # comment or nothing")?;
    let key = key.trim_end();
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if key.is_empty() || !key.chars().all(legal) {
        return Err("a key is made of letters, digits, dots, _ and -; expected KEY=value");
    }
    let trimmed = value.trim_start();
    let value = match trimmed.chars().next() {
        Some(quote @ ('"' | '\'')) => quoted(&trimmed[1..], quote)?,
        _ => unquoted(value).to_owned(),
    };
    Ok(Some((key, value)))
}

/// The value up to a `#` after white space.
fn unquoted(value: &str) -> &str {
    let comment = value
        .match_indices('#')
        .find(|(at, _)| value[..*at].ends_with(char::is_whitespace))
        .map_or(value.len(), |(at, _)| at);
    value[..comment].trim()
}

/// The text up to the closing quote; a doubled quote is one quote.
fn quoted(text: &str, quote: char) -> Result<String, &'static str> {
    let mut out = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next() {
            None => return Err("the closing quote is missing; write a quote in quotes twice"),
            Some(c) if c != quote => out.push(c),
            Some(_) if chars.as_str().starts_with(quote) => {
                out.push(quote);
                chars.next();
            }
            Some(_) => break,
        }
    }
    let rest = chars.as_str();
    let comment = rest.trim_start();
    if comment.is_empty() || (comment.starts_with('#') && rest.len() > comment.len()) {
        Ok(out)
    } else {
        Err("there is text after the closing quote; write a quote in quotes twice")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn table() {
        for (line, expected) in [
            ("", None),
            ("  # comment", None),
            ("A=b", Some("b")),
            ("A = b ", Some("b")),
            ("A=", Some("")),
            ("A=b c", Some("b c")),
            ("A=b#c", Some("b#c")),
            ("A=b #c", Some("b")),
            ("A=b\t# c # d", Some("b")),
            ("A=#b", Some("#b")),
            ("A=#b # c", Some("#b")),
            ("A= #b", Some("")),
            ("A=b=c", Some("b=c")),
            ("A=a\"b'c", Some("a\"b'c")),
            ("A=\" b # c \"", Some(" b # c ")),
            ("A='b' # c", Some("b")),
            ("A='it''s' ", Some("it's")),
            ("A=\"say \"\"hi\"\"\"", Some("say \"hi\"")),
            ("A='C:\\new'", Some("C:\\new")),
            ("A=''", Some("")),
            ("A=ü", Some("ü")),
            ("A=b\r", Some("b")),
        ] {
            let value = parse(line).unwrap().map(|(_, value)| value);
            assert_eq!(value.as_deref(), expected, "{line}");
        }
        assert_eq!(parse("nats-server.x_1=b").unwrap().unwrap().0, "nats-server.x_1");
    }

    #[test]
    fn errors() {
        for (line, expected) in [
            ("A", "expected KEY=value"),
            ("=b", "a key is made of"),
            ("export A=b", "a key is made of"),
            ("A='b", "closing quote is missing"),
            ("A='b''", "closing quote is missing"),
            ("A='b'c", "text after the closing quote"),
            ("A='b'#c", "text after the closing quote"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(?s).*") {
            let _ = entries("x", &text);
        }

        #[test]
        fn quoting_keeps_everything(value in "[^\n]*", double: bool) {
            let quote = if double { "\"" } else { "'" };
            let line = format!("A={quote}{}{quote}", value.replace(quote, &quote.repeat(2)));
            prop_assert_eq!(parse(&line).unwrap().unwrap().1, value);
        }

        #[test]
        fn words_need_no_quotes(value in "[a-zA-Z0-9:/.@$_=-][a-zA-Z0-9:/.@$_=#-]*") {
            prop_assert_eq!(parse(&format!("A={value} # c")).unwrap().unwrap().1, value);
        }
    }
}

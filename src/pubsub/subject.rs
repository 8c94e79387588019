//! What may be published and subscribed to, and which pattern matches which subject.
//!
//! The checks run on every publish: one pass over the bytes, no allocation unless they fail.

use crate::error::{Error, ErrorKind, Result};

/// The longest subject, in bytes. The server closes the connection when a protocol line has more
/// than 4,096: subject, reply subject (or queue group) and numbers must fit into it together.
const MAX_SUBJECT: usize = 2_048;

/// The longest name of a queue group, in bytes, for the same reason.
const MAX_QUEUE: usize = 1_024;

/// Checks a subject to publish to.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] for an empty or too long subject, an empty token, white space, a
/// control character or a wildcard.
#[inline]
pub(crate) fn check_publish(subject: &str) -> Result<()> {
    if is_plain(subject) {
        return Ok(());
    }
    match fault(subject, false) {
        None => Ok(()),
        Some(fault) => Err(refuse(fault, "topic", subject)),
    }
}

/// The quick look that every publish takes, without a branch per byte; what it does not accept is
/// looked at closely.
fn is_plain(subject: &str) -> bool {
    const BAD: u8 = 1;
    const DOT: u8 = 2;
    const CLASS: [u8; 256] = {
        let mut class = [0; 256];
        let mut byte = 0;
        while byte <= b' ' as usize {
            class[byte] = BAD;
            byte += 1;
        }
        class[0x7f] = BAD;
        class[b'*' as usize] = BAD;
        class[b'>' as usize] = BAD;
        class[b'.' as usize] = DOT;
        class
    };
    let (mut bad, mut previous) = (0, DOT);
    for &byte in subject.as_bytes() {
        let class = CLASS[byte as usize];
        // A dot after a dot, or at the start, makes an empty token.
        bad |= (class & BAD) | (class & previous);
        previous = class & DOT;
    }
    (bad | previous) == 0 && subject.len() <= MAX_SUBJECT
}

/// Checks a subject to subscribe to, which may have wildcards: `*` for one token, `>` for one or
/// more tokens at the end.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] as for [`check_publish`], and for a wildcard that is only a part of
/// a token or a `>` that is not the last one.
pub(crate) fn check_subscribe(subject: &str) -> Result<()> {
    match fault(subject, true) {
        None => Ok(()),
        Some(fault) => Err(refuse(fault, "topic", subject)),
    }
}

/// Checks the name of a queue group.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] for an empty or too long name, white space or a control character.
pub(crate) fn check_queue(queue: &str) -> Result<()> {
    let fault = if queue.is_empty() {
        "the name of a queue group is empty; give one, or leave the queue group out"
    } else if queue.len() > MAX_QUEUE {
        "the name of a queue group is longer than 1,024 bytes; shorten it"
    } else if queue.bytes().any(is_blank) {
        "the name of a queue group has white space or a control character; remove it"
    } else {
        return Ok(());
    };
    Err(refuse(fault, "queue", queue))
}

/// Whether a subscription to `pattern` gets what is published to `subject`.
pub(crate) fn matches(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

/// Whether some subject is matched by both patterns.
pub(crate) fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
            _ => return false,
        }
    }
}

/// Whether a subject to subscribe to, checked before, is a pattern.
pub(crate) fn has_wildcard(subject: &str) -> bool {
    subject.contains(['*', '>'])
}

fn is_blank(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7f
}

/// What is wrong with a subject, and what to do about it.
fn fault(subject: &str, wildcards: bool) -> Option<&'static str> {
    if subject.len() > MAX_SUBJECT {
        return Some("a subject is longer than 2,048 bytes; shorten the topic or its prefix");
    }
    let mut previous = b'.';
    for byte in subject.bytes() {
        match byte {
            b'.' if previous == b'.' => return Some(EMPTY_TOKEN),
            _ if is_blank(byte) => {
                return Some("a topic has white space or a control character; remove it");
            }
            b'*' | b'>' if !wildcards => {
                return Some(
                    "a topic to publish to has a wildcard; publish to one topic at a time, without \
                     `*` and `>`",
                );
            }
            b'*' | b'>' if previous != b'.' => return Some(PARTIAL_WILDCARD),
            _ if previous == b'>' => {
                return Some("`>` is not the last token; use `*` before the end");
            }
            _ if previous == b'*' && byte != b'.' => return Some(PARTIAL_WILDCARD),
            _ => {}
        }
        previous = byte;
    }
    (previous == b'.').then_some(EMPTY_TOKEN)
}

const EMPTY_TOKEN: &str =
    "a topic is empty or has an empty token; use tokens with one dot between them, as in `a.b`";
const PARTIAL_WILDCARD: &str =
    "a wildcard is only a part of a token; `*` and `>` stand for whole tokens, as in `a.*`";

#[cold]
fn refuse(fault: &'static str, what: &'static str, name: &str) -> Error {
    // A name of any length may come in; the error repeats enough to find it.
    let shown: String = name.chars().take(200).collect();
    Error::new(ErrorKind::InvalidInput, fault).with(what, shown)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> impl Strategy<Value = String> {
        "[a-zA-Z0-9_$:=/é-]{1,8}"
    }

    fn subject() -> impl Strategy<Value = String> {
        proptest::collection::vec(token(), 1..6).prop_map(|tokens| tokens.join("."))
    }

    proptest! {
        #[test]
        fn plain_subjects_are_accepted_and_match_themselves_alone(
            one in subject(), other in subject(),
        ) {
            prop_assert!(check_publish(&one).is_ok());
            prop_assert!(check_subscribe(&one).is_ok());
            prop_assert!(!has_wildcard(&one));
            prop_assert!(matches(&one, &one));
            prop_assert_eq!(matches(&one, &other), one == other);
        }

        #[test]
        fn wildcards_match_by_token(subject in subject(), at in any::<prop::sample::Index>()) {
            let longer = format!("{subject}.more");
            let below = format!("{subject}.>");
            let tokens: Vec<_> = subject.split('.').collect();
            let at = at.index(tokens.len());

            let mut starred = tokens.clone();
            starred[at] = "*";
            let starred = starred.join(".");
            prop_assert!(check_subscribe(&starred).is_ok() && has_wildcard(&starred));
            prop_assert!(matches(&starred, &subject));
            prop_assert!(!matches(&starred, &longer));
            prop_assert!(check_publish(&starred).is_err());

            let tail = [&tokens[..at], &[">"]].concat().join(".");
            prop_assert!(check_subscribe(&tail).is_ok());
            prop_assert!(matches(&tail, &subject));
            prop_assert!(matches(&tail, &longer));
            prop_assert!(!matches(&below, &subject));
        }

        #[test]
        fn patterns_overlap_when_a_subject_is_in_both(
            one in "(a|b|\\*)(\\.(a|b|\\*)){0,2}(\\.>)?", other in "(a|b|\\*)(\\.(a|b|\\*)){0,2}(\\.>)?",
        ) {
            let tokens = ["a", "b"];
            let mut subjects: Vec<String> = tokens.map(str::to_owned).to_vec();
            let mut longer = subjects.clone();
            for _ in 0..4 {
                let next = longer.iter().flat_map(|it| tokens.map(|t| format!("{it}.{t}")));
                longer = next.collect();
                subjects.extend_from_slice(&longer);
            }
            let both = subjects.iter().any(|it| matches(&one, it) && matches(&other, it));
            prop_assert_eq!(overlap(&one, &other), both);
            prop_assert_eq!(overlap(&other, &one), both);
        }

        #[test]
        fn what_is_accepted_has_the_shape_promised(text in "[ab.*> \\t\\n]{0,12}") {
            let tokens: Vec<_> = text.split('.').collect();
            let whole = |t: &&str| !t.is_empty() && !t.contains([' ', '\t', '\n']);
            let plain = |t: &&str| whole(t) && !t.contains(['*', '>']);
            let last = tokens.len() - 1;
            let pattern = tokens.iter().enumerate().all(|(i, t)| {
                plain(t) || *t == "*" || (*t == ">" && i == last)
            });
            prop_assert_eq!(check_publish(&text).is_ok(), tokens.iter().all(plain));
            prop_assert_eq!(check_subscribe(&text).is_ok(), pattern);
        }

        #[test]
        fn no_text_panics(text in ".*", other in ".*") {
            let _ = (check_publish(&text), check_subscribe(&text), check_queue(&text));
            matches(&text, &other);
        }
    }

    #[test]
    fn errors_name_the_topic_and_what_to_do() {
        for (topic, words) in [
            ("", "empty token"),
            ("a..b", "empty token"),
            (".a", "empty token"),
            ("a.", "empty token"),
            ("a b", "white space"),
            ("a\r\nPUB x", "white space"),
            ("a.*", "wildcard"),
            ("a*", "wildcard"),
            (">", "wildcard"),
        ] {
            let error = check_publish(topic).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.message().contains(words), "{topic:?}: {error}");
            assert_eq!(error.context("topic"), Some(topic));
        }
        for (topic, words) in [
            ("a.>.b", "not the last"),
            (">a", "not the last"),
            ("a*", "part"),
            ("*a", "part"),
            ("a.b>", "part"),
        ] {
            let error = check_subscribe(topic).unwrap_err();
            assert!(error.message().contains(words), "{topic:?}: {error}");
        }
    }

    #[test]
    fn lengths_are_bounded() {
        assert!(check_publish(&"x".repeat(MAX_SUBJECT)).is_ok());
        let error = check_publish(&"x".repeat(MAX_SUBJECT + 1)).unwrap_err();
        assert!(error.message().contains("2,048 bytes"));
        assert!(error.to_string().len() < 400);
        assert!(check_queue("workers").is_ok());
        for bad in ["", "a b", "a\n", &"q".repeat(MAX_QUEUE + 1)] {
            assert_eq!(check_queue(bad).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    }
}

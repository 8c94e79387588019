//! Which buckets a service needs, and with which options: those of all its methods together.

use super::Place;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Difference, KeyCodec};

/// A bucket with what all methods that use it ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) place: Place,
    /// The methods that use it, in their order.
    pub(crate) methods: Vec<String>,
}

/// The buckets of a service's methods, each once. What only one method says of a bucket holds for
/// all of them.
///
/// # Errors
/// `InvalidInput` where two methods want one bucket otherwise, and for options that cannot be.
pub(crate) fn plan<'a>(
    methods: impl IntoIterator<Item = (&'a str, &'a Place)>,
) -> Result<Vec<Planned>> {
    let mut plan: Vec<Planned> = Vec::new();
    for (method, place) in methods {
        place.check().map_err(|error| error.with("method", method))?;
        match plan.iter_mut().find(|known| known.place.is_same_bucket(place)) {
            Some(known) => {
                known.place = join(known, method, place)?;
                known.methods.push(method.to_owned());
            }
            None => plan.push(Planned { place: place.clone(), methods: vec![method.to_owned()] }),
        }
    }
    for planned in &mut plan {
        // What other clients of the service read and write has its keys as they are.
        if let Place::Kv(config) = &mut planned.place {
            config.key_codec.get_or_insert(KeyCodec::Raw);
        }
    }
    Ok(plan)
}

/// The options of both, which must agree where both say something.
fn join(known: &Planned, method: &str, place: &Place) -> Result<Place> {
    let (joined, differences) = match (&known.place, place) {
        (Place::Kv(before), Place::Kv(now)) => {
            let joined = before.merged(now);
            let differences = before.differences(&joined);
            (Place::Kv(joined), differences)
        }
        (Place::Objects(before), Place::Objects(now)) => {
            let joined = before.merged(now);
            let mut differences = before.differences(&joined);
            if before.max_chunk_size.is_some() && before.max_chunk_size != joined.max_chunk_size {
                let text = |size: Option<usize>| format!("{} bytes", size.unwrap_or_default());
                differences.push(Difference {
                    option: "max_chunk_size",
                    wanted: text(before.max_chunk_size),
                    found: text(joined.max_chunk_size),
                });
            }
            (Place::Objects(joined), differences)
        }
        (before, _) => (before.clone(), Vec::new()),
    };
    let Some(Difference { option, wanted, found }) = differences.into_iter().next() else {
        return Ok(joined);
    };
    let others = known.methods.join(", ");
    Err(Error::new(
        ErrorKind::InvalidInput,
        format!(
            "two methods keep their responses in one bucket and want it otherwise: {option} is \
             {wanted} for {others} and {found} for {method}; give it the same, or let one say it"
        ),
    )
    .with("bucket", place.bucket())
    .with("option", option))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{kv, objects};

    fn users() -> kv::BucketConfig {
        kv::BucketConfig::new("users")
    }

    #[test]
    fn what_only_one_method_says_holds_for_all() {
        let hour = Duration::from_secs(3600);
        let save = Place::Kv(users().ttl(hour).description("profiles"));
        let get = Place::Kv(users().history(5).ttl(hour));
        let reports = Place::Objects(objects::BucketConfig::new("users"));
        let plan = plan([("Save", &save), ("Get", &get), ("Report", &reports)]).unwrap();
        let joined = users().ttl(hour).description("profiles").history(5);
        let joined = Place::Kv(joined.key_codec(KeyCodec::Raw));
        let methods = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(
            plan,
            [
                Planned { place: joined, methods: methods(&["Save", "Get"]) },
                Planned { place: reports, methods: methods(&["Report"]) },
            ]
        );
    }

    #[test]
    fn methods_that_disagree_are_named_with_the_option() {
        let hour = Place::Kv(users().ttl(Duration::from_secs(3600)));
        let none = Place::Kv(users().ttl(Duration::ZERO));
        let error = plan([("Save", &hour), ("Get", &none)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let text = error.to_string();
        for named in ["ttl is 1h for Save and none for Get", "bucket=users", "option=ttl"] {
            assert!(text.contains(named), "{text}");
        }
        let small = Place::Objects(objects::BucketConfig::new("files").max_bytes(10));
        let large = Place::Objects(objects::BucketConfig::new("files").max_bytes(20));
        let error = plan([("A", &small), ("B", &large)]).unwrap_err();
        assert_eq!(error.context("option"), Some("max_bytes"));
        let small = Place::Objects(objects::BucketConfig::new("files").max_chunk_size(1000));
        let large = Place::Objects(objects::BucketConfig::new("files").max_chunk_size(2000));
        let error = plan([("A", &small), ("B", &large)]).unwrap_err();
        assert_eq!(error.context("option"), Some("max_chunk_size"));
    }

    #[test]
    fn options_that_cannot_be_are_refused_with_the_method() {
        let error = plan([("Save", &Place::Kv(users().history(65)))]).unwrap_err();
        assert_eq!(
            (error.kind(), error.context("method")),
            (ErrorKind::InvalidInput, Some("Save"))
        );
        let error = plan([("Save", &Place::Kv(kv::BucketConfig::new("a.b")))]).unwrap_err();
        assert_eq!(error.context("bucket"), Some("a.b"));
    }
}

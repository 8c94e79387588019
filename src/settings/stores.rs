//! Named stores: `STORES.<NAME>.<FIELD>`, from the same sources as all settings.
//!
//! A key with two dots or more names its store between the first two; in one with fewer, as in
//! variables, the field is known by its name at the end. A field that no list has is one for the
//! store's own driver, if it has such, else a mistake.

mod fields;
mod read;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::builder::{SettingsBuilder, invalid};
use super::keys::{Key, STORES};
use super::parse::{Value, Values};
use super::source::{self, Entry, Origin, in_domain, normal};
use crate::error::{Error, ErrorKind, Result};

pub(super) use fields::FIELDS;
pub(crate) use read::StoreFields;

/// The drivers that are always there, or with a feature.
pub(crate) const BUILT_IN: [&str; 3] = ["nats", "memory", "redis"];

/// Every field of a store.
pub(crate) fn keys() -> &'static [Key] {
    FIELDS
}

/// The stores of all sources, and what deserves a look.
pub(crate) struct Found {
    pub(crate) stores: Vec<StoreFields>,
    pub(crate) warnings: Vec<String>,
}

/// Reads the stores of the sources, with what code says of them on top. `own` are the drivers of
/// the application.
///
/// # Errors
///
/// `InvalidSettings` with every problem: what is wrong, of which store, where it comes from.
pub(crate) fn read(
    sources: &SettingsBuilder,
    code: &[(&str, Vec<(String, String)>)],
    own: &[&str],
) -> Result<Found> {
    let mut reading = Reading::default();
    for (i, file) in sources.files.iter().enumerate() {
        match sources.read(file) {
            Ok(entries) => reading.add(Layer::File(i), entries),
            Err(problem) => reading.problems.push(problem),
        }
    }
    reading.add(Layer::Environment, sources.environment.entries(STORES));
    reading.add(Layer::Argument, source::arguments(&sources.arguments, STORES));
    reading.add(Layer::Code, sources.code.clone());
    for (name, fields) in code {
        reading.add_store(name, fields);
    }
    reading.resolve();
    reading.lay();
    reading.finish(&|name| sources.environment.get(name), own)
}

/// The order in which sources are laid over each other.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Layer {
    File(usize),
    Environment,
    Argument,
    Code,
}

/// Where a key belongs.
enum Place {
    /// To a field of a store.
    Field { store: String, field: String },
    /// Only the text after `STORES_` is known.
    Open(String),
}

fn place(key: &str) -> Option<Place> {
    let rest = in_domain(key, STORES)?;
    let mut parts = key.splitn(3, '.');
    if let (Some(first), Some(store), Some(field)) = (parts.next(), parts.next(), parts.next())
        && normal(first) == STORES
    {
        return Some(Place::Field { store: normal(store), field: normal(field) });
    }
    Some(match fields::split(&rest) {
        Some((store, field)) => Place::Field { store: store.to_owned(), field: field.to_owned() },
        None => Place::Open(rest),
    })
}

/// A store's name in its normal form.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('_')
        && !name.ends_with('_')
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// A name as an application may write it, in its normal form.
pub(crate) fn store_name(name: &str) -> Result<String> {
    let normal = normal(name);
    if is_name(&normal) {
        return Ok(normal);
    }
    Err(Error::new(ErrorKind::InvalidInput, format!("{name:?} is not a store's name; {NAMES}")))
}

const NAMES: &str = "expected letters, digits, _ and -, for example user_cache";

/// What the sources say of one store.
struct Draft {
    values: Values,
    /// Fields that no list has, with the key as it was written.
    others: BTreeMap<String, (String, Value)>,
}

#[derive(Default)]
struct Reading {
    entries: Vec<(Layer, Place, Entry)>,
    stores: BTreeMap<String, Draft>,
    /// Variables that belong to no store, or to none of its fields.
    strange: Vec<String>,
    problems: Vec<String>,
}

impl Reading {
    fn add(&mut self, layer: Layer, entries: Vec<Entry>) {
        for entry in entries {
            if let Some(place) = place(&entry.key) {
                self.entries.push((layer, place, entry));
            } else if normal(&entry.key) == STORES && entry.text.as_deref() != Ok("") {
                self.problems.push(format!(
                    "{} from {} is where stores are named, not a setting; expected for example \
                     {STORES}.USER_CACHE.TTL",
                    entry.key, entry.origin
                ));
            }
        }
    }

    /// A store of `StoresBuilder::store`.
    fn add_store(&mut self, name: &str, fields: &[(String, String)]) {
        let store = normal(name);
        self.store(&store, name, &Origin::Code);
        for (field, text) in fields {
            let key = format!("{STORES}.{name}.{field}");
            let place = Place::Field { store: store.clone(), field: normal(field) };
            let entry = Entry { key, text: Ok(text.clone()), origin: Origin::Code };
            self.entries.push((Layer::Code, place, entry));
        }
    }

    /// Finds the stores that are named, and the store of every key that does not say it clearly.
    /// The environment alone names a store only by its driver: others' variables begin like ours.
    fn resolve(&mut self) {
        let mut named: Vec<(String, String, Origin)> = Vec::new();
        let known = |named: &[(String, String, Origin)], rest: &str| {
            let fits = |name: &str| rest.strip_prefix(name).is_some_and(|end| end.starts_with('_'));
            let names = named.iter().map(|(name, ..)| name).filter(|name| fits(name));
            names.max_by_key(|name| name.len()).cloned()
        };
        for (layer, place, entry) in &self.entries {
            if let Place::Field { store, field } = place
                && (*layer != Layer::Environment || field == "DRIVER")
            {
                named.push((store.clone(), entry.key.clone(), entry.origin.clone()));
            }
        }
        for (layer, place, entry) in &mut self.entries {
            let (rest, open) = match place {
                Place::Open(rest) => (rest.clone(), true),
                Place::Field { store, field } => (format!("{store}_{field}"), false),
            };
            let is_named = |store: &str| named.iter().any(|(name, ..)| name == store);
            if matches!(place, Place::Field { store, .. } if is_named(store)) {
                continue;
            }
            if let Some(store) = known(&named, &rest) {
                let field = rest[store.len() + 1..].to_owned();
                *place = Place::Field { store, field };
            } else if *layer == Layer::Environment {
                self.strange.push(entry.key.clone());
                *place = Place::Open(rest);
            } else if open && entry.text.as_deref() == Ok("") {
                // A store that is named and leaves all at its default.
                named.push((rest, entry.key.clone(), entry.origin.clone()));
            } else if open {
                self.problems.push(format!(
                    "{} from {} is not a setting of a store; expected {STORES}.<NAME>.<FIELD>, for \
                     example {STORES}.USER_CACHE.TTL",
                    entry.key, entry.origin
                ));
            }
        }
        for (store, key, origin) in named {
            self.store(&store, &key, &origin);
        }
    }

    /// Makes the draft of a store.
    fn store(&mut self, store: &str, written: &str, origin: &Origin) {
        if self.stores.contains_key(store) {
            return;
        }
        if !is_name(store) {
            let problem = format!("{written} from {origin} does not name a store; {NAMES}");
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
            return;
        }
        let values = Values::new(format!("{STORES}.{store}"), FIELDS);
        self.stores.insert(store.to_owned(), Draft { values, others: BTreeMap::new() });
    }

    /// Lays the values over each other, in the order of their sources.
    fn lay(&mut self) {
        let mut seen: HashMap<(Layer, String, String), Origin> = HashMap::new();
        for (layer, place, entry) in std::mem::take(&mut self.entries) {
            let Place::Field { store, field } = place else { continue };
            let Some(draft) = self.stores.get_mut(&store) else { continue };
            let Entry { key, text, origin } = entry;
            let name = draft.values.full_name(&field);
            if matches!(layer, Layer::File(_) | Layer::Environment)
                && let Some(first) = seen.insert((layer, store, field.clone()), origin.clone())
            {
                self.problems
                    .push(format!("{name} is given twice, by {first} and {origin}; remove one"));
            }
            let text = match text {
                Ok(text) => text,
                Err(why) => {
                    self.problems.push(format!("{name}: the value from {origin} {why}"));
                    continue;
                }
            };
            match draft.values.find(&field) {
                Some(known) => draft.values.insert(known.short_name(), Value { text, origin }),
                None => drop(draft.others.insert(field, (key, Value { text, origin }))),
            }
        }
    }

    fn finish(mut self, variable: &dyn Fn(&str) -> Option<String>, own: &[&str]) -> Result<Found> {
        let mut stores = Vec::new();
        for (name, draft) in std::mem::take(&mut self.stores) {
            let Draft { mut values, others } = draft;
            values.expand(variable);
            let driver = read::driver(&mut values, own);
            let mut extra = BTreeMap::new();
            for (field, (key, mut value)) in others {
                let is_own = driver.as_deref().is_none_or(|driver| !BUILT_IN.contains(&driver));
                if is_own {
                    match value.expand(variable) {
                        Ok(()) => drop(extra.insert(field, value.text)),
                        Err(why) => values.problem(format!("{}: {why}", values.full_name(&field))),
                    }
                } else if let Origin::Environment(_) = value.origin {
                    let meant = values.nearest(&field).map(|meant| {
                        let name = normal(&values.full_name(meant.short_name()));
                        format!(" (did you mean {name}?)")
                    });
                    self.strange.push(key + &meant.unwrap_or_default());
                } else {
                    let problem = unknown_field(&values, &key, &field, &value.origin);
                    values.problem(problem);
                }
            }
            if let Some(driver) = driver {
                stores.push(StoreFields::read(&name, driver, extra, &mut values));
            }
            self.problems.extend(values.into_problems());
        }
        invalid(&self.problems)?;
        let warning = (!self.strange.is_empty()).then(|| {
            let unique: BTreeSet<_> = self.strange.iter().map(String::as_str).collect();
            format!(
                "environment variables that are no fields of a store are ignored: {}; a store that \
                 only the environment names needs its {STORES}_<NAME>_DRIVER",
                unique.into_iter().collect::<Vec<_>>().join(", ")
            )
        });
        Ok(Found { stores, warnings: warning.into_iter().collect() })
    }
}

/// The error of a field that a store does not have.
fn unknown_field(values: &Values, key: &str, field: &str, origin: &Origin) -> String {
    let advice = match values.nearest(field) {
        Some(meant) => format!("did you mean {}?", values.full_name(meant.short_name())),
        None => "reference.conf lists all".to_owned(),
    };
    format!("{key} from {origin}: a store has no field {field}; {advice}")
}

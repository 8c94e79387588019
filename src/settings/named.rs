//! Named things in settings: `<BLOCK>.<NAME>.<FIELD>`, from the same sources as all settings.
//!
//! A key with two dots or more names its thing between the first two; in one with fewer, as in
//! variables, the field is known by its name at the end.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::keys::Key;
use super::parse::{Value, Values};
use super::source::{Entry, Origin, in_domain, normal};

/// A block of named things.
#[derive(Debug)]
pub(super) struct Block {
    /// What its keys begin with.
    pub(super) name: &'static str,
    /// The fields of each thing. None ends with the name of another and a `_` before it.
    pub(super) fields: &'static [Key],
    /// The field by which the environment alone names a thing.
    pub(super) named_by: &'static str,
    /// What the things are, in words.
    pub(super) what: &'static str,
    /// A thing's name, as an application may write it.
    pub(super) example: &'static str,
    /// A field that the examples set.
    pub(super) example_field: &'static str,
}

impl Block {
    fn example(&self) -> String {
        format!("{}.{}.{}", self.name, normal(self.example), self.example_field)
    }

    /// What names are made of.
    pub(super) fn names(&self) -> String {
        format!("expected letters, digits, _ and -, for example {}", self.example)
    }

    fn place(&self, key: &str) -> Option<Place> {
        let rest = in_domain(key, self.name)?;
        let mut parts = key.splitn(3, '.');
        if let (Some(first), Some(thing), Some(field)) = (parts.next(), parts.next(), parts.next())
            && normal(first) == self.name
        {
            return Some(Place::Field { thing: normal(thing), field: normal(field) });
        }
        Some(match self.split(&rest) {
            Some((thing, field)) => {
                Place::Field { thing: thing.to_owned(), field: field.to_owned() }
            }
            None => Place::Open(rest),
        })
    }

    /// A key without dots in its two parts, both in normal form: the field is known by its name at
    /// the end.
    pub(super) fn split<'a>(&self, rest: &'a str) -> Option<(&'a str, &'a str)> {
        self.fields.iter().find_map(|key| {
            let name = rest.strip_suffix(key.short_name())?.strip_suffix('_')?;
            (!name.is_empty()).then(|| (name, &rest[name.len() + 1..]))
        })
    }

    /// The error of a field that a thing does not have.
    pub(super) fn unknown_field(
        &self,
        values: &Values,
        key: &str,
        field: &str,
        origin: &Origin,
    ) -> String {
        let advice = match values.nearest(field) {
            Some(meant) => format!("did you mean {}?", values.full_name(meant.short_name())),
            None => "reference.conf lists all".to_owned(),
        };
        format!("{key} from {origin}: a {} has no field {field}; {advice}", self.what)
    }
}

/// The order in which sources are laid over each other.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Layer {
    File(usize),
    Environment,
    Argument,
    Code,
}

/// Where a key belongs.
enum Place {
    /// To a field of a thing.
    Field { thing: String, field: String },
    /// Only the text after the block's name is known.
    Open(String),
}

/// A thing's name in its normal form.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('_')
        && !name.ends_with('_')
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// What the sources say of one thing.
pub(super) struct Draft {
    pub(super) values: Values,
    /// Fields that no list has, with the key as it was written.
    pub(super) others: BTreeMap<String, (String, Value)>,
}

/// What was read of one block.
pub(super) struct Reading {
    block: &'static Block,
    entries: Vec<(Layer, Place, Entry)>,
    things: BTreeMap<String, Draft>,
    /// Variables that belong to no thing, or to none of its fields.
    strange: Vec<String>,
    problems: Vec<String>,
}

impl Reading {
    pub(super) fn new(block: &'static Block) -> Self {
        let (things, strange, problems) = Default::default();
        Reading { block, entries: Vec::new(), things, strange, problems }
    }

    /// Reads a source; keys of other blocks are not looked at.
    pub(super) fn add(&mut self, layer: Layer, entries: Vec<Entry>) {
        for entry in entries {
            if let Some(place) = self.block.place(&entry.key) {
                self.entries.push((layer, place, entry));
            } else if normal(&entry.key) == self.block.name && entry.text.as_deref() != Ok("") {
                self.problems.push(format!(
                    "{} from {} is where {}s are named, not a setting; expected for example {}",
                    entry.key,
                    entry.origin,
                    self.block.what,
                    self.block.example()
                ));
            }
        }
    }

    /// A thing that code names, with some of its fields.
    pub(super) fn add_thing(&mut self, name: &str, fields: &[(String, String)]) {
        let thing = normal(name);
        self.draft(&thing, name, &Origin::Code);
        for (field, text) in fields {
            let key = format!("{}.{name}.{field}", self.block.name);
            let place = Place::Field { thing: thing.clone(), field: normal(field) };
            let entry = Entry { key, text: Ok(text.clone()), origin: Origin::Code };
            self.entries.push((Layer::Code, place, entry));
        }
    }

    /// Everything that was read, by thing.
    pub(super) fn things(&mut self) -> BTreeMap<String, Draft> {
        self.resolve();
        self.lay();
        std::mem::take(&mut self.things)
    }

    /// A problem, to be told with all others.
    pub(super) fn problem(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// A variable that is none of the block's.
    pub(super) fn strange(&mut self, variable: String) {
        self.strange.push(variable);
    }

    /// All problems, and the warning of strange variables.
    pub(super) fn finish(self) -> (Vec<String>, Option<String>) {
        let Block { name, named_by, what, .. } = self.block;
        let warning = (!self.strange.is_empty()).then(|| {
            let unique: BTreeSet<_> = self.strange.iter().map(String::as_str).collect();
            format!(
                "environment variables that are no fields of a {what} are ignored: {}; a {what} \
                 that only the environment names needs its {name}_<NAME>_{named_by}",
                unique.into_iter().collect::<Vec<_>>().join(", ")
            )
        });
        (self.problems, warning)
    }

    /// Finds the things that are named, and the thing of every key that does not say it clearly.
    /// The environment alone names one only by one field: others' variables begin like ours.
    fn resolve(&mut self) {
        let block = self.block;
        let mut named: Vec<(String, String, Origin)> = Vec::new();
        let known = |named: &[(String, String, Origin)], rest: &str| {
            let fits = |name: &str| rest.strip_prefix(name).is_some_and(|end| end.starts_with('_'));
            let names = named.iter().map(|(name, ..)| name).filter(|name| fits(name));
            names.max_by_key(|name| name.len()).cloned()
        };
        for (layer, place, entry) in &self.entries {
            if let Place::Field { thing, field } = place
                && (*layer != Layer::Environment || field == block.named_by)
            {
                named.push((thing.clone(), entry.key.clone(), entry.origin.clone()));
            }
        }
        for (layer, place, entry) in &mut self.entries {
            let (rest, open) = match place {
                Place::Open(rest) => (rest.clone(), true),
                Place::Field { thing, field } => (format!("{thing}_{field}"), false),
            };
            let is_named = |thing: &str| named.iter().any(|(name, ..)| name == thing);
            if matches!(place, Place::Field { thing, .. } if is_named(thing)) {
                continue;
            }
            if let Some(thing) = known(&named, &rest) {
                let field = rest[thing.len() + 1..].to_owned();
                *place = Place::Field { thing, field };
            } else if *layer == Layer::Environment {
                self.strange.push(entry.key.clone());
                *place = Place::Open(rest);
            } else if open && entry.text.as_deref() == Ok("") {
                // A thing that is named and leaves all at its default.
                named.push((rest, entry.key.clone(), entry.origin.clone()));
            } else if open {
                self.problems.push(format!(
                    "{} from {} is not a setting of a {}; expected {}.<NAME>.<FIELD>, for example \
                     {}",
                    entry.key,
                    entry.origin,
                    block.what,
                    block.name,
                    block.example()
                ));
            }
        }
        for (thing, key, origin) in named {
            self.draft(&thing, &key, &origin);
        }
    }

    /// Makes the draft of a thing.
    fn draft(&mut self, thing: &str, written: &str, origin: &Origin) {
        if self.things.contains_key(thing) {
            return;
        }
        if !is_name(thing) {
            let Block { what, .. } = self.block;
            let names = self.block.names();
            let problem = format!("{written} from {origin} does not name a {what}; {names}");
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
            return;
        }
        let values = Values::new(format!("{}.{thing}", self.block.name), self.block.fields);
        self.things.insert(thing.to_owned(), Draft { values, others: BTreeMap::new() });
    }

    /// Lays the values over each other, in the order of their sources.
    fn lay(&mut self) {
        let mut seen: HashMap<(Layer, String, String), Origin> = HashMap::new();
        for (layer, place, entry) in std::mem::take(&mut self.entries) {
            let Place::Field { thing, field } = place else { continue };
            let Some(draft) = self.things.get_mut(&thing) else { continue };
            let Entry { key, text, origin } = entry;
            let name = draft.values.full_name(&field);
            if matches!(layer, Layer::File(_) | Layer::Environment)
                && let Some(first) = seen.insert((layer, thing, field.clone()), origin.clone())
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
}

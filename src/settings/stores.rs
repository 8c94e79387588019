//! Named stores: `STORES.<NAME>.<FIELD>`, from the same sources as all settings. A field that no list
//! has is one for the store's own driver, if it has such, else a mistake.

mod fields;
mod read;

use std::collections::BTreeMap;

use super::builder::{SettingsBuilder, invalid};
use super::keys::{Key, STORES};
use super::named::{Block, Draft, Layer, Reading, is_name};
use super::source::{self, Origin, normal};
use crate::error::{Error, ErrorKind, Result};

pub(super) use fields::FIELDS;
pub(crate) use read::StoreFields;

/// The drivers that are always there, or with a feature.
pub(crate) const BUILT_IN: [&str; 3] = ["nats", "memory", "redis"];

/// The block of named stores.
const BLOCK: Block = Block {
    name: STORES,
    fields: FIELDS,
    named_by: "DRIVER",
    what: "store",
    example: "user_cache",
    example_field: "TTL",
};

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
    let mut reading = Reading::new(&BLOCK);
    for (i, file) in sources.files.iter().enumerate() {
        match sources.read(file) {
            Ok(entries) => reading.add(Layer::File(i), entries),
            Err(problem) => reading.problem(problem),
        }
    }
    reading.add(Layer::Environment, sources.environment.entries(STORES));
    reading.add(Layer::Argument, source::arguments(&sources.arguments, STORES));
    reading.add(Layer::Code, sources.code.clone());
    for (name, fields) in code {
        reading.add_thing(name, fields);
    }
    finish(reading, &|name| sources.environment.get(name), own)
}

/// A name as an application may write it, in its normal form.
pub(crate) fn store_name(name: &str) -> Result<String> {
    let normal = normal(name);
    if is_name(&normal) {
        return Ok(normal);
    }
    let message = format!("{name:?} is not a store's name; {}", BLOCK.names());
    Err(Error::new(ErrorKind::InvalidInput, message))
}

fn finish(
    mut reading: Reading,
    variable: &dyn Fn(&str) -> Option<String>,
    own: &[&str],
) -> Result<Found> {
    let mut stores = Vec::new();
    for (name, draft) in reading.things() {
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
                reading.strange(key + &meant.unwrap_or_default());
            } else {
                let problem = BLOCK.unknown_field(&values, &key, &field, &value.origin);
                values.problem(problem);
            }
        }
        if let Some(driver) = driver {
            stores.push(StoreFields::read(&name, driver, extra, &mut values));
        }
        values.into_problems().into_iter().for_each(|problem| reading.problem(problem));
    }
    let (problems, warning) = reading.finish();
    invalid(&problems)?;
    Ok(Found { stores, warnings: warning.into_iter().collect() })
}

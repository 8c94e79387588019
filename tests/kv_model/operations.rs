//! Operations, and how they are drawn.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

/// Keys of every kind.
const KEYS: [&str; 8] = ["user:1", "user:2", "a b", "plain", "a.b", "*", "é", "=41"];
const PREFIXES: [&str; 3] = ["", "app", "of:two"];
const PATTERNS: [&str; 6] = ["*", "user:*", "user:[2-9]", "a?b", r"\*", "nothing*"];

/// A bucket and a prefix in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Space {
    pub(crate) bucket: usize,
    pub(crate) prefix: &'static str,
}

/// A key in its space.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot {
    pub(crate) space: Space,
    pub(crate) key: &'static str,
}

/// When a write takes place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum When {
    Always,
    Absent,
    /// Under the key's revision, also that of its end.
    Current,
    /// Under a revision that the key had, or that no key has.
    Stale,
}

#[derive(Debug, Clone)]
pub(crate) enum Part {
    Set(Slot, Value, When),
    Delete(Slot, When),
}

impl Part {
    pub(crate) fn slot(&self) -> &Slot {
        match self {
            Part::Set(slot, ..) | Part::Delete(slot, _) => slot,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Set(Slot, Value, When),
    SetRaw(Slot, Vec<u8>),
    /// With a lifetime that outlives the test.
    SetForLong(Slot, Value),
    Replace(Slot, Value),
    Update(Slot, Value),
    Take(Slot),
    Delete(Slot, When),
    Purge(Slot),
    Increment(Slot, i64),
    Touch(Slot),
    Persist(Slot),
    Get(Slot),
    GetRaw(Slot),
    Exists(Slot),
    /// Whether it has a lifetime.
    Ends(Slot),
    GetMany(Vec<Slot>),
    SetMany(Vec<(Slot, Value)>),
    DeleteMany(Vec<Slot>),
    Keys(Space),
    KeysMatching(Space, &'static str),
    Count(Space),
    GetAll(Space),
    DeleteMatching(Space, &'static str),
    Flush(Space),
    Transaction(Vec<Part>),
    History(Slot),
    DeleteBucket(usize),
}

fn space() -> impl Strategy<Value = Space> {
    (0..2usize, select(&PREFIXES[..])).prop_map(|(bucket, prefix)| Space { bucket, prefix })
}

/// Few keys in most cases, so that operations meet.
fn slot() -> impl Strategy<Value = Slot> {
    let key = prop_oneof![3 => select(&KEYS[..2]), 1 => select(&KEYS[..])];
    (space(), key).prop_map(|(space, key)| Slot { space, key })
}

/// Several keys of one space, each once.
fn slots() -> impl Strategy<Value = Vec<Slot>> {
    let keys = subsequence(&KEYS[..], 1..=KEYS.len()).prop_shuffle();
    (space(), keys)
        .prop_map(|(space, keys)| keys.into_iter().map(|key| Slot { space, key }).collect())
}

/// A space whose names are not those of other spaces: patterns match names without a prefix.
fn prefixed() -> impl Strategy<Value = Space> {
    (0..2usize, select(&PREFIXES[1..])).prop_map(|(bucket, prefix)| Space { bucket, prefix })
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-3..100i64).prop_map(|n| json!(n)),
        Just(json!(i64::MAX)),
        Just(json!("text")),
        Just(Value::Null),
        Just(json!({"a": [1, 2.5]})),
    ]
}

fn when() -> impl Strategy<Value = When> {
    select(&[When::Always, When::Absent, When::Current, When::Stale][..])
}

fn under_revision() -> impl Strategy<Value = When> {
    select(&[When::Current, When::Stale][..])
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let part = |slot: Slot| {
        let conditions =
            prop_oneof![4 => Just(When::Current), 2 => Just(When::Always), 1 => when()];
        let deletes = prop_oneof![3 => Just(When::Current), 1 => Just(When::Always)];
        let other = slot.clone();
        prop_oneof![
            (value(), conditions).prop_map(move |(v, when)| Part::Set(slot.clone(), v, when)),
            deletes.prop_map(move |when| Part::Delete(other.clone(), when)),
        ]
    };
    slots().prop_flat_map(move |slots| slots.into_iter().map(part).collect::<Vec<_>>())
}

/// `transactions` and `history` where the driver claims them.
fn operation(transactions: bool, history: bool) -> impl Strategy<Value = Operation> {
    let bytes = prop_oneof![Just(vec![]), Just(b"no json".to_vec()), Just(b"7".to_vec())];
    let writes = prop_oneof![
        4 => (slot(), value(), when()).prop_map(|(s, v, w)| Operation::Set(s, v, w)),
        2 => (slot(), bytes).prop_map(|(s, b)| Operation::SetRaw(s, b)),
        1 => (slot(), value()).prop_map(|(s, v)| Operation::SetForLong(s, v)),
        2 => (slot(), value()).prop_map(|(s, v)| Operation::Replace(s, v)),
        2 => (slot(), value()).prop_map(|(s, v)| Operation::Update(s, v)),
        2 => (slot(), -5..5i64).prop_map(|(s, by)| Operation::Increment(s, by)),
        1 => slot().prop_map(Operation::Touch),
        1 => slot().prop_map(Operation::Persist),
    ];
    let ends = prop_oneof![
        2 => slot().prop_map(Operation::Take),
        2 => slot().prop_map(|s| Operation::Delete(s, When::Always)),
        2 => (slot(), under_revision()).prop_map(|(s, w)| Operation::Delete(s, w)),
        2 => slot().prop_map(Operation::Purge),
        1 => space().prop_map(Operation::Flush),
        1 => (prefixed(), select(&PATTERNS[..])).prop_map(|(s, p)| Operation::DeleteMatching(s, p)),
        1 => (0..2usize).prop_map(Operation::DeleteBucket),
    ];
    let reads = prop_oneof![
        2 => slot().prop_map(Operation::Get),
        1 => slot().prop_map(Operation::GetRaw),
        1 => slot().prop_map(Operation::Exists),
        1 => slot().prop_map(Operation::Ends),
        1 => space().prop_map(Operation::Keys),
        1 => (prefixed(), select(&PATTERNS[..])).prop_map(|(s, p)| Operation::KeysMatching(s, p)),
        1 => space().prop_map(Operation::Count),
        1 => space().prop_map(Operation::GetAll),
    ];
    let values = slots().prop_flat_map(|slots| {
        slots.into_iter().map(|slot| (Just(slot), value())).collect::<Vec<_>>()
    });
    let batches = prop_oneof![
        slots().prop_map(Operation::GetMany),
        values.prop_map(Operation::SetMany),
        slots().prop_map(Operation::DeleteMany),
    ];
    let (with_transactions, with_history) = (u32::from(transactions), u32::from(history));
    prop_oneof![
        8 => writes,
        3 => ends,
        6 => reads,
        2 => batches,
        2 * with_transactions => parts().prop_map(Operation::Transaction),
        2 * with_history => slot().prop_map(Operation::History),
    ]
}

pub(crate) fn sequence(transactions: bool, history: bool) -> impl Strategy<Value = Vec<Operation>> {
    prop::collection::vec(operation(transactions, history), 1..40)
}

/// Reads of all that there is.
pub(crate) fn everything() -> Vec<Operation> {
    let mut reads = Vec::new();
    for (bucket, prefix) in [0, 1].into_iter().flat_map(|it| PREFIXES.map(|prefix| (it, prefix))) {
        let space = Space { bucket, prefix };
        reads.extend([Operation::Keys(space), Operation::Count(space)]);
        let slots = KEYS.map(|key| Slot { space, key });
        reads.extend(slots[..2].iter().cloned().map(Operation::Ends));
        reads.push(Operation::GetMany(slots.to_vec()));
    }
    reads
}

//! Keys: each kind of field, and what is refused.

use nats_connector::ErrorKind;
use proto_first::proto::lang::{enums, oneofs, optional, proto2, recursive, scalars, well_known};

fn refused(result: nats_connector::Result<String>, field: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert_eq!(error.context("field"), Some(field), "{error}");
}

#[test]
fn scalars_stand_as_they_are_written() {
    let request = scalars::Scalars {
        an_int32: -1,
        an_int64: i64::MIN,
        a_uint64: u64::MAX,
        a_bool: true,
        a_string: "x".to_owned(),
        ..Default::default()
    };
    let key = scalars::scalar_service::keys::echo;
    let text = "-1/-9223372036854775808/0/18446744073709551615/0/0/0/0/0/0/true/x";
    assert_eq!(key(&request).unwrap(), text);
    refused(key(&scalars::Scalars { a_string: "a.b".to_owned(), ..request.clone() }), "a_string");
    refused(key(&scalars::Scalars { a_string: String::new(), ..request }), "a_string");
}

#[test]
fn what_is_not_set_is_refused_by_name() {
    use optional::{Kind, Request};
    let key = optional::optionals::keys::keep;
    let deepest = Request { number: Some(2), ..Default::default() };
    let inner = Request {
        name: Some("in".to_owned()),
        kind: Some(Kind::Good.into()),
        inner: Some(Box::new(deepest)),
        ..Default::default()
    };
    let full = Request {
        name: Some("n".to_owned()),
        number: Some(0),
        kind: Some(Kind::Unspecified.into()),
        inner: Some(Box::new(inner.clone())),
        wrapped: Some("w".to_owned()),
    };
    assert_eq!(key(&full).unwrap(), "n.0.KIND_UNSPECIFIED.in.KIND_GOOD.2.w");
    refused(key(&Request { name: None, ..full.clone() }), "name");
    refused(key(&Request { number: None, ..full.clone() }), "number");
    refused(key(&Request { kind: None, ..full.clone() }), "kind");
    refused(key(&Request { kind: Some(99), ..full.clone() }), "kind");
    refused(key(&Request { inner: None, ..full.clone() }), "inner.name");
    let shallow = Request { inner: None, ..inner };
    refused(key(&Request { inner: Some(Box::new(shallow)), ..full.clone() }), "inner.inner.number");
    refused(key(&Request { wrapped: None, ..full }), "wrapped.value");
}

#[test]
fn members_of_groups_are_there_or_refused() {
    use oneofs::find::{By, Color, Place, Tint, TintOneOf};
    use oneofs::{Find, finder::keys};
    let find = |by| Find { by: Some(by), tint: None };
    assert_eq!(keys::by_name(&find(By::Name("ada".to_owned()))).unwrap(), "name.ada");
    refused(keys::by_name(&find(By::Number(1))), "name");
    refused(keys::by_name(&Find::default()), "name");

    let blue = find(By::Color(Color::Blue.into()));
    refused(keys::by_color(&blue), "shade");
    let blue = Find { tint: Some(TintOneOf::Shade(false)), ..blue };
    assert_eq!(keys::by_color(&blue).unwrap(), "color.COLOR_BLUE.false");
    let _ = Tint {};

    let place = Place { street: "s".to_owned(), near: Some(Box::new(find(By::Number(9)))) };
    assert_eq!(keys::by_street(&find(By::Place(Box::new(place)))).unwrap(), "street.s.9");
}

#[test]
fn enums_stand_by_their_first_names() {
    use enums::{BareWords, Level, Levels, enum_service::keys, levels::inner::State};
    let levels = |level: i32| Levels {
        level,
        bare: BareWords::Self_.into(),
        state: State::Unknown.into(),
        ..Default::default()
    };
    assert_eq!(keys::set(&levels(Level::Low.into())).unwrap(), "LEVEL_LOW.Self.STATE_UNKNOWN");
    let negative = keys::set(&levels(-1)).unwrap();
    assert_eq!(negative, "LEVEL_NEGATIVE.Self.STATE_UNKNOWN");
    refused(keys::set(&levels(7)), "level");
}

#[test]
fn defaults_of_proto2_count() {
    use proto2::{Kind, Old, old, old_service::keys};
    let request = Old {
        id: "1".to_owned(),
        inner: old::Inner { kind: Kind::A.into() },
        extra: Some(old::Extra { note: Some("note".to_owned()) }),
        plain: Some("p".to_owned()),
        ..Default::default()
    };
    assert_eq!(keys::keep(&request).unwrap(), "1.7.KIND_A.note.KIND_B.p");
    refused(keys::keep(&Old { extra: None, ..request.clone() }), "extra.note");
    refused(keys::keep(&Old { plain: None, ..request }), "plain");
}

#[test]
fn keys_reach_through_boxes_and_other_packages() {
    use recursive::{Tree, tree::Kind, trees};
    let named = |name: &str| Tree { name: name.to_owned(), ..Default::default() };
    let leaf = Tree { kind: Some(Kind::Leaf("leaf".to_owned())), ..Default::default() };
    let boxed = Tree { kind: Some(Kind::Boxed(Box::new(leaf))), ..Default::default() };
    let left = Tree { left: Some(Box::new(named("deep"))), ..Default::default() };
    let tree = Tree {
        left: Some(Box::new(left)),
        kind: Some(Kind::Boxed(Box::new(boxed))),
        ..Default::default()
    };
    assert_eq!(trees::keys::grow(&tree).unwrap(), "deep.leaf");

    use nats_connector::rpc::protobuf::prost_types::Timestamp;
    let keys = well_known::well_known::keys::time;
    assert_eq!(keys(&Timestamp { seconds: 5, nanos: 0 }).unwrap(), "time.5");
    assert_eq!(well_known::well_known::keys::empty(&()).unwrap(), "constant");
}

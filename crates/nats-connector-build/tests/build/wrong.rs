//! Wrong files, and what is said of them.

use std::path::Path;

use super::{compile, compile_text, corpus};

/// Compiles a method with these options and compares place and text of what is wrong.
fn wrong_method(options: &str, line_and_text: &[(usize, &str)]) {
    let text = format!(
        r#"syntax = "proto3";
package test;
import "natsmicro/options.proto";
message Get {{
  string id = 1; double price = 2; bytes raw = 3; repeated string tags = 4;
  map<string, string> words = 5; Inner inner = 6;
  message Inner {{ string name = 1; }}
}}
service Things {{
  rpc Other(Get) returns (Get);
  rpc Keep(Get) returns (Get) {{
{options}
  }}
}}
"#
    );
    wrong(&text, line_and_text);
}

fn wrong(text: &str, line_and_text: &[(usize, &str)]) {
    let (_out, result) = compile_text(text);
    let error = result.unwrap_err();
    let shown = error.to_string();
    assert_eq!(error.problems().len(), line_and_text.len(), "{shown}");
    for (problem, (line, part)) in error.problems().iter().zip(line_and_text) {
        assert!(problem.file().unwrap().ends_with("test.proto"), "{shown}");
        assert_eq!(problem.line(), Some(*line), "{shown}");
        assert!(problem.column().unwrap() >= 1, "{shown}");
        assert!(problem.text().contains(part), "no `{part}` in: {shown}");
        assert!(shown.contains(&format!("test.proto:{line}:")), "{shown}");
    }
    assert_eq!(format!("{error:?}"), shown, "a build script prints it by Debug");
}

#[test]
fn a_key_names_fields_that_can_stand_in_one() {
    let keep = |template: &str| {
        format!(
            "    option (natsmicro.kv_store) = {{\n      bucket: \"b\"\n      key_template: \"{template}\"\n    }};"
        )
    };
    for (template, text) in [
        (
            "user.{nope}",
            "nope is not a field of test.Get, which has: id, price, raw, tags, words, inner",
        ),
        ("{inner.nope}", "nope is not a field of test.Get.Inner, which has: name"),
        ("{id.name}", "id is no message"),
        ("{price}", "price is a float"),
        ("{raw}", "raw is bytes"),
        ("{tags}", "tags is repeated"),
        ("{words}", "words is a map"),
        ("{inner}", "inner is a message (test.Get.Inner); name a field of it"),
        ("{}", "\"\" is not a field"),
        ("{id", "a single {"),
        ("id}", "a single }"),
        ("a b.{id}", "' ' cannot stand in a key"),
        ("a.{{id}}", "'{' cannot stand in a key"),
        (".{id}", "a dot is at an end"),
        ("{id}.", "a dot is at an end"),
        ("a..{id}", "next to another"),
    ] {
        wrong_method(&keep(template), &[(14, text)]);
    }
}

#[test]
fn stores_are_checked() {
    wrong_method(
        r#"    option (natsmicro.kv_store) = {
      bucket: "a b"
      key_template: "{id}"
      ttl: {seconds: -1}
      max_history: 65
      replicas: 6
      max_bytes: -5
    };"#,
        &[
            (13, "bucket \"a b\""),
            (15, "ttl is -1 s"),
            (17, "replicas is 6; it must be between 0 and 5"),
            (16, "max_history is 65; it must be between 0 and 64"),
            (18, "max_bytes is -5; it must be 0 or more"),
        ],
    );
    wrong_method(
        r#"    option (natsmicro.object_store) = {
      bucket: "files"
    };"#,
        &[(12, "key_template is empty")],
    );
    wrong_method(
        r#"    option (natsmicro.kv_store) = {key_template: "{id}"};"#,
        &[(12, "bucket is not set")],
    );
    wrong_method(
        r#"    option (natsmicro.kv_store) = {bucket: "b" key_template: "{id}" ttl: {nanos: 99999999}};"#,
        &[(12, "below 100 ms")],
    );
    wrong_method(
        r#"    option (natsmicro.kv_store) = {bucket: "b" key_template: "{id}" receipt: true};"#,
        &[(12, "receipt is asked for of a reply that is sent before")],
    );
    wrong_method(
        r#"    option (natsmicro.endpoint) = {timeout: {seconds: -3}, concurrency: -1};"#,
        &[(12, "timeout is -3 s"), (12, "concurrency is -1")],
    );
}

#[test]
fn the_responses_of_a_stream_are_not_kept() {
    wrong(
        r#"syntax = "proto3";
import "natsmicro/options.proto";
message M { string id = 1; }
service S1 {
  rpc Watch(M) returns (stream M) {
    option (natsmicro.kv_store) = {bucket: "b" key_template: "{id}"};
  }
}
"#,
        &[(6, "the responses of a stream are not kept")],
    );
}

#[test]
fn services_are_checked() {
    wrong(
        r#"syntax = "proto3";
import "natsmicro/options.proto";
service Bad {
  option (natsmicro.service) = {
    subject_prefix: "api..v1"
    name: "my service"
    version: "one"
    error_codes: "FINE"
    error_codes: "NOT FINE"
    queue_group: "a b"
    concurrency: -2
  };
}
"#,
        &[
            (6, "name \"my service\""),
            (7, "version \"one\" is not a semantic one"),
            (5, "subject_prefix \"api..v1\""),
            (10, "queue_group \"a b\""),
            (8, "error code \"NOT FINE\""),
            (11, "concurrency is -2"),
        ],
    );
}

#[test]
fn names_that_would_be_one_are_refused() {
    wrong(
        r#"syntax = "proto3";
message M {}
message ThingClient {}
service Thing {
  rpc GetThing(M) returns (M);
  rpc get_thing(M) returns (M);
}
service Vec {}
"#,
        &[
            (6, "GetThing and get_thing have one name, get_thing"),
            (4, "ThingClient and what is made for the service Thing"),
            (8, "Vec is a word of Rust"),
        ],
    );
}

#[test]
fn all_problems_are_told_at_once_in_order() {
    wrong(
        r#"syntax = "proto3";
import "natsmicro/options.proto";
message M {}
service A {
  option (natsmicro.service).version = "x";
  rpc One(M) returns (M) { option (natsmicro.kv_store) = {bucket: "b" key_template: "{id}"}; }
}
service B {
  option (natsmicro.service).name = "?";
}
"#,
        &[(5, "version"), (6, "id is not a field of M, which has: no fields"), (9, "name \"?\"")],
    );
}

#[test]
fn what_the_compiler_refuses_has_its_place() {
    wrong("syntax = \"proto3\";\nmessage M {\n  strin id = 1;\n}\n", &[(3, "strin")]);
    wrong("syntax = \"proto3\";\nmessage M {\n  string id 1;\n}\n", &[(3, "expected")]);
    wrong("syntax = \"proto3\";\nimport \"nope.proto\";\n", &[(2, "nope.proto")]);
    wrong(
        "syntax = \"proto3\";\nimport \"natsmicro/options.proto\";\nmessage M {}\nservice S1 {\n  \
         option (natsmicro.service).nope = 1;\n}\n",
        &[(5, "nope")],
    );
    wrong("edition = \"2023\";\nmessage M {}\n", &[(1, "editions are not supported")]);
}

#[test]
fn a_file_that_is_not_there_says_where_it_was_looked_for() {
    let (_out, result) = compile(&corpus(), &["nope/none.proto"]);
    let error = result.unwrap_err();
    let problem = &error.problems()[0];
    assert_eq!(problem.file(), Some(Path::new("nope/none.proto")));
    assert!(problem.text().contains("proto-first/proto"), "{error}");

    let (_out, result) = compile(&corpus(), &[]);
    assert!(result.unwrap_err().to_string().contains("no .proto file"));
}

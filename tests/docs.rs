//! The documents say what the code says. `UPDATE=1` writes the settings of README.md anew.

use std::fs;
use std::path::{Path, PathBuf};

use nats_connector::streams::Streams;
use nats_connector::{Settings, Stores};

/// The tables of README.md that the code makes: the lines around each, and what is between them.
fn tables() -> [(&'static str, &'static str, String); 3] {
    [
        (
            "<!-- settings: made from the list of settings; write it anew with UPDATE=1 cargo test --test docs -->\n",
            "<!-- end of settings -->",
            Settings::keys_markdown(),
        ),
        (
            "<!-- stores: made from the list of their fields; write it anew with UPDATE=1 cargo test --test docs -->\n",
            "<!-- end of stores -->",
            Stores::keys_markdown(),
        ),
        (
            "<!-- streams: made from the list of their fields; write it anew with UPDATE=1 cargo test --test docs -->\n",
            "<!-- end of streams -->",
            Streams::keys_markdown(),
        ),
    ]
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// README.md, CONTRIBUTING.md, CHANGELOG.md and all of docs/.
fn documents() -> Vec<PathBuf> {
    let found = [root().to_owned(), root().join("docs")]
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect::<Vec<_>>();
    assert!(found.len() > 2, "{found:?}");
    found
}

#[test]
fn the_readme_lists_the_settings() {
    for (begin, end, expected) in tables() {
        let readme = read("README.md");
        let (before, rest) = readme.split_once(begin).expect("README.md has the line before");
        let (table, after) = rest.split_once(end).expect("README.md has the line after the table");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(root().join("README.md"), format!("{before}{begin}{expected}{end}{after}"))
                .unwrap();
        } else {
            assert!(
                table == expected,
                "README.md does not list the settings as they are; write it anew with \
                 UPDATE=1 cargo test --test docs"
            );
        }
    }
}

#[test]
fn every_default_has_its_reason() {
    let text = read("docs/defaults.md");
    for key in Settings::keys().iter().chain(Stores::keys()).chain(Streams::keys()) {
        let start = format!("| `{}` |", key.name());
        let row = text.lines().find(|line| line.starts_with(&start));
        let row = row.unwrap_or_else(|| panic!("docs/defaults.md has no row for {}", key.name()));
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let default = key.default().map_or("not set".to_owned(), |default| format!("`{default}`"));
        assert_eq!(cells[2], default, "docs/defaults.md: {}", key.name());
        assert!(cells[3].ends_with('.'), "docs/defaults.md gives no reason for {}", key.name());
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut followed = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        for (target, _) in targets.filter(|(target, _)| !target.contains("://")) {
            let file = target.split('#').next().unwrap_or_default();
            let path = document.parent().unwrap().join(file);
            assert!(file.is_empty() || path.exists(), "{}: {target}", document.display());
            followed += 1;
        }
    }
    assert!(followed > 5);
}

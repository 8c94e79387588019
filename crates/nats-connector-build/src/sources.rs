//! The files: found, compiled without protoc, and the places of things in them.

use std::path::{Path, PathBuf};

use miette::Diagnostic as _;
use prost_reflect::{DescriptorPool, FileDescriptor, Kind};
use prost_types::FileDescriptorSet;
use protox::Compiler;
use protox::file::{
    ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver,
};

use crate::error::{Error, Problem};
use crate::options;

/// Compiled files, with all that they import.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) pool: DescriptorPool,
    /// With positions and comments.
    pub(crate) set: FileDescriptorSet,
    /// Encoded, with extensions, without positions.
    pub(crate) descriptors: Vec<u8>,
    /// What was asked for; the rest was imported.
    pub(crate) wanted: Vec<FileDescriptor>,
    /// What was read from disk, by the name that imports use.
    pub(crate) paths: Vec<(String, PathBuf)>,
}

impl Sources {
    pub(crate) fn compile(files: &[PathBuf], includes: &[PathBuf]) -> Result<Self, Error> {
        if files.is_empty() {
            return Err(Problem::new("no .proto file to compile").into());
        }
        let mut resolver = ChainFileResolver::new();
        resolver.add(BuiltIn);
        for include in includes {
            resolver.add(IncludeFileResolver::new(include.clone()));
        }
        resolver.add(GoogleFileResolver::new());
        let mut compiler = Compiler::with_file_resolver(resolver);
        compiler.include_imports(true).include_source_info(true);
        for file in files {
            compiler.open_file(file).map_err(|error| problem_of(&error, file, includes))?;
        }

        let pool = compiler.descriptor_pool();
        let metadata: Vec<_> = compiler.files().cloned().collect();
        let wanted = metadata.iter().filter(|it| !it.is_import());
        let wanted = wanted.filter_map(|it| pool.get_file_by_name(it.name())).collect();
        let paths =
            metadata.iter().filter_map(|it| Some((it.name().to_owned(), it.path()?.into())));
        Ok(Sources {
            set: compiler.file_descriptor_set(),
            descriptors: compiler.include_source_info(false).encode_file_descriptor_set(),
            wanted,
            paths: paths.collect(),
            pool,
        })
    }

    /// A problem with what is at `path` in this file, or with what holds it.
    pub(crate) fn problem(
        &self,
        file: &FileDescriptor,
        path: &[i32],
        text: impl Into<String>,
    ) -> Problem {
        let on_disk = self.paths.iter().find(|(name, _)| name == file.name());
        let shown = on_disk.map_or_else(|| PathBuf::from(file.name()), |(_, path)| path.clone());
        let at = match position(file, path) {
            Some((at, true)) => Some(at),
            Some((at, false)) => self.option_field(path, &shown, at).or(Some(at)),
            None => None,
        };
        Problem::new(text).in_file(shown).at(at)
    }

    /// The place of a field within the braces of an option, which compilers do not record: the first
    /// one of its name behind `from`.
    fn option_field(&self, path: &[i32], file: &Path, from: Position) -> Option<Position> {
        let [.., extension, number] = path else { return None };
        let (extension, number) = (u32::try_from(*extension).ok()?, u32::try_from(*number).ok()?);
        let mut extensions = self.pool.all_extensions();
        let extension = extensions
            .find(|it| it.number() == extension && it.full_name().starts_with("natsmicro."))?;
        let Kind::Message(options) = extension.kind() else { return None };
        let field = options.get_field(number)?;
        words(&std::fs::read_to_string(file).ok()?)
            .into_iter()
            .find(|(at, word)| *at >= from && word == field.name())
            .map(|(at, _)| at)
    }
}

/// Line and column, from 1.
type Position = (usize, usize);

/// The words of a file with their places, those in strings and comments left out.
fn words(source: &str) -> Vec<(Position, String)> {
    let mut words = Vec::new();
    let (mut line, mut column) = (1, 0);
    let mut chars = source.chars().peekable();
    let mut word: Option<(Position, String)> = None;
    // The quote that ends a string, or what ends a comment.
    let mut until: Option<char> = None;
    let mut before = '\n';
    while let Some(c) = chars.next() {
        column += 1;
        match until {
            Some(quote @ ('"' | '\'')) if c == quote && before != '\\' => until = None,
            Some('\n') if c == '\n' => until = None,
            Some('/') if c == '/' && before == '*' => until = None,
            Some(_) => {}
            None if c.is_ascii_alphanumeric() || c == '_' => {
                word.get_or_insert(((line, column), String::new())).1.push(c);
            }
            None => {
                words.extend(word.take());
                until = match (c, chars.peek()) {
                    ('"' | '\'', _) => Some(c),
                    ('/', Some('/')) | ('#', _) => Some('\n'),
                    ('/', Some('*')) => Some('/'),
                    _ => None,
                };
            }
        }
        // A backslash that is escaped escapes nothing.
        before = if before == '\\' && c == '\\' { ' ' } else { c };
        if c == '\n' {
            (line, column) = (line + 1, 0);
        }
    }
    words
}

/// The position of the nearest thing around `path` that has one, and whether that is `path` itself.
fn position(file: &FileDescriptor, path: &[i32]) -> Option<(Position, bool)> {
    let locations = &file.file_descriptor_proto().source_code_info.as_ref()?.location;
    let find = |path: &[i32]| locations.iter().find(|it| it.path == path);
    let location = (0..=path.len()).rev().find_map(|end| find(&path[..end]))?;
    let number = |at: usize| usize::try_from(*location.span.get(at)?).ok().map(|it| it + 1);
    Some(((number(0)?, number(1)?), location.path == path))
}

/// `natsmicro/options.proto`.
#[derive(Debug)]
struct BuiltIn;

impl FileResolver for BuiltIn {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name == options::FILE_NAME {
            File::from_source(name, options::FILE)
        } else {
            Err(protox::Error::file_not_found(name))
        }
    }
}

fn problem_of(error: &protox::Error, file: &Path, includes: &[PathBuf]) -> Problem {
    if error.is_file_not_found() && error.labels().is_none_or(|mut it| it.next().is_none()) {
        let shown: Vec<_> = includes.iter().map(|it| it.display().to_string()).collect();
        let text = format!(
            "not found in the include directories ({}); add the one that it is in to \
             `Builder::includes`",
            shown.join(", ")
        );
        return Problem::new(text).in_file(file);
    }
    let name = error.file().map_or_else(|| file.to_owned(), PathBuf::from);
    let on_disk = includes.iter().map(|it| it.join(&name)).find(|it| it.is_file());
    Problem::new(text_of(error)).in_file(on_disk.unwrap_or(name)).at(position_of(error))
}

fn position_of(error: &protox::Error) -> Option<(usize, usize)> {
    let label = error.labels()?.next()?;
    let place = error.source_code()?.read_span(label.inner(), 0, 0).ok()?;
    Some((place.line() + 1, place.column() + 1))
}

fn text_of(error: &protox::Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = cause.source();
    }
    if let Some(help) = error.help() {
        text.push_str("; ");
        text.push_str(&help.to_string());
    }
    if text.contains("'edition'") || text.contains("edition") && text.contains("expected") {
        text.push_str("; editions are not supported yet: use syntax = \"proto3\" or \"proto2\"");
    }
    text
}

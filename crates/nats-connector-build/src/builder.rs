//! What to compile, and how.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Problem};
use crate::generate::Generator;
use crate::sources::Sources;
use crate::types::Types;
use crate::{check, options};

/// The file that takes in all packages as modules.
const INCLUDE_FILE: &str = "nats_connector_protos.rs";
/// The file of the descriptors that services in JSON need.
const DESCRIPTORS_FILE: &str = "nats_connector_protos.bin";

/// Compiles .proto files into messages and services.
///
/// One call of [`compile`](Self::compile) takes all files of a crate: a package's services and
/// messages, from whatever files, are one module.
#[must_use = "nothing happens until `compile` is called"]
pub struct Builder {
    includes: Vec<PathBuf>,
    out_dir: Option<PathBuf>,
    library: String,
    external: Vec<(String, String)>,
    rerun: bool,
    prost: prost_build::Config,
}

impl Builder {
    /// Files are looked for in the package's directory, and written to `OUT_DIR`.
    pub fn new() -> Self {
        let mut prost = prost_build::Config::new();
        prost.enable_type_names().type_name_domain(["."], "type.googleapis.com");
        Builder {
            includes: Vec::new(),
            out_dir: None,
            library: "::nats_connector".to_owned(),
            external: Vec::new(),
            rerun: true,
            prost,
        }
    }

    /// Directories that files and imports are looked for in, first ones first. Default: the
    /// package's own. `natsmicro/options.proto` and `google/protobuf/*.proto` are built in.
    pub fn includes(mut self, directories: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        self.includes.extend(directories.into_iter().map(Into::into));
        self
    }

    /// Where the code is written. Default: `OUT_DIR`, where `include_proto!` finds it.
    pub fn out_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.out_dir = Some(directory.into());
        self
    }

    /// The path of the library, for who renames or re-exports it. Default `::nats_connector`.
    pub fn library_path(mut self, path: impl Into<String>) -> Self {
        self.library = path.into();
        self
    }

    /// A package or type, `.shop.v1` or `.shop.v1.Money`, that is in Rust at another path already;
    /// nothing is generated for it.
    pub fn extern_path(mut self, proto: impl Into<String>, rust: impl Into<String>) -> Self {
        self.external.push((proto.into(), rust.into()));
        self
    }

    /// Adds an attribute to the messages, enums and oneofs that `path` matches, as
    /// [`prost_build::Config::type_attribute`] does: `.` is all of them.
    pub fn type_attribute(mut self, path: impl AsRef<str>, attribute: impl AsRef<str>) -> Self {
        self.prost.type_attribute(path, attribute);
        self
    }

    /// Adds an attribute to the fields that `path` matches, as
    /// [`prost_build::Config::field_attribute`] does.
    pub fn field_attribute(mut self, path: impl AsRef<str>, attribute: impl AsRef<str>) -> Self {
        self.prost.field_attribute(path, attribute);
        self
    }

    /// Everything else that prost can be told about messages.
    ///
    /// For types that live elsewhere use [`extern_path`](Self::extern_path): keys are made of fields
    /// of them. Paths of prost, the service generator and output files are set by `compile`.
    pub fn config(mut self, change: impl FnOnce(&mut prost_build::Config)) -> Self {
        change(&mut self.prost);
        self
    }

    /// Whether cargo is told to run the build script again when a file changes. Default `true`.
    pub fn rerun_if_changed(mut self, on: bool) -> Self {
        self.rerun = on;
        self
    }

    /// Compiles the files: paths in an include directory, with or without the directory. Messages
    /// are made of everything they import, services of these files alone.
    ///
    /// # Errors
    /// Everything that is wrong with the files, each with its place.
    pub fn compile(self, files: &[impl AsRef<Path>]) -> Result<(), Error> {
        let files: Vec<PathBuf> = files.iter().map(|it| it.as_ref().to_owned()).collect();
        let mut includes = self.includes;
        if includes.is_empty() {
            includes.push(PathBuf::from("."));
        }
        let out = self.out_dir.or_else(|| std::env::var_os("OUT_DIR").map(PathBuf::from));
        let out = out.ok_or_else(|| {
            Problem::new(
                "OUT_DIR is not set: call this in a build script, or say where with \
                          `Builder::out_dir`",
            )
        })?;

        let sources = Sources::compile(&files, &includes)?;
        if self.rerun {
            for (_, path) in &sources.paths {
                tell_cargo("rerun-if-changed", &path.display());
            }
        }
        let (services, warnings) = check::services(&sources)?;
        if self.rerun {
            warnings.iter().for_each(|warning| tell_cargo("warning", warning));
        }

        let json = services.iter().any(|it| it.json);
        let mut prost = self.prost;
        for (proto, rust) in &self.external {
            prost.extern_path(with_dot(proto), rust);
        }
        let well_known =
            ("google.protobuf".to_owned(), format!("{}::rpc::protobuf::prost_types", self.library));
        let mut external = self.external;
        external.push(well_known);
        prost
            .prost_path(format!("{}::rpc::protobuf::prost", self.library))
            .prost_types_path(format!("{}::rpc::protobuf::prost_types", self.library))
            .include_file(INCLUDE_FILE)
            .out_dir(&out)
            .service_generator(Box::new(Generator::new(
                services,
                Types::new(&external),
                self.library,
                DESCRIPTORS_FILE,
            )));
        let mut set = sources.set;
        set.file.retain(|it| it.name() != options::FILE_NAME);

        let failed = |what: &str, error: &dyn fmt::Display| {
            Problem::new(format!("{what}: {error}")).in_file(&out)
        };
        std::fs::create_dir_all(&out).map_err(|it| failed("cannot be made", &it))?;
        if json {
            write_if_changed(&out.join(DESCRIPTORS_FILE), &sources.descriptors)
                .map_err(|it| failed("the descriptors cannot be written", &it))?;
        }
        let modules: BTreeSet<String> = set.file.iter().map(|it| file_of(it.package())).collect();
        prost.compile_fds(set).map_err(|it| failed("the code cannot be written", &it))?;
        for module in modules.iter().map(|it| out.join(it)).filter(|it| it.is_file()) {
            std::fs::read_to_string(&module)
                .and_then(|code| std::fs::write(&module, spaced(&code)))
                .map_err(|it| failed("the code cannot be written", &it))?;
        }
        Ok(())
    }
}

impl Default for Builder {
    fn default() -> Self {
        Builder::new()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("includes", &self.includes)
            .field("out_dir", &self.out_dir)
            .field("library", &self.library)
            .field("external", &self.external)
            .finish_non_exhaustive()
    }
}

fn with_dot(proto: &str) -> String {
    if proto.starts_with('.') { proto.to_owned() } else { format!(".{proto}") }
}

/// The file that prost writes for a package.
fn file_of(package: &str) -> String {
    prost_build::Module::from_protobuf_package_name(package).to_file_name_or("_")
}

/// The code with an empty line before each item that follows another, as people write it.
fn spaced(code: &str) -> String {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let begins = |line: &str| {
        let line = line.trim_start();
        ["///", "#[", "pub ", "impl", "static "].iter().any(|it| line.starts_with(it))
    };
    let ends = |line: &str| {
        let line = line.trim_start();
        line == "}" || line.ends_with(';') && !line.starts_with("//")
    };
    let mut out = String::with_capacity(code.len() + code.len() / 16);
    let mut before: Option<&str> = None;
    for line in code.lines() {
        if before.is_some_and(|it| ends(it) && begins(line) && indent(it) >= indent(line)) {
            out.push('\n');
        }
        out.push_str(line);
        out.push('\n');
        before = Some(line);
    }
    out
}

/// An unchanged file keeps its time, so what depends on it is not built again.
fn write_if_changed(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    match std::fs::read(path) {
        Ok(there) if there == bytes => Ok(()),
        _ => std::fs::write(path, bytes),
    }
}

#[expect(clippy::print_stdout, reason = "cargo reads what a build script prints")]
fn tell_cargo(instruction: &str, value: &dyn fmt::Display) {
    println!("cargo:{instruction}={value}");
}

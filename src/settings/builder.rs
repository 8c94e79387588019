//! Puts settings together from the sources that it is told.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::effective::Effective;
use super::format::{self, Format};
use super::keys::{self, DEFAULT_DOMAIN, STORES, STREAMS};
use super::merge::{self, FILE_VARIABLE};
use super::named::Layer;
use super::parse::Values;
use super::source::{self, Entry, Environment, Origin, normal};
use super::{Inner, Settings, Table, streams};
use crate::error::{Error, ErrorKind, Result};

/// The files that [`SettingsBuilder::find_file`] looks for, in this order.
const FILE_NAMES: &[&str] =
    &["settings.conf", "settings.yml", "settings.yaml", "settings.toml", "settings.json"];

/// Builds [`Settings`] from the sources that it is told, and no others.
///
/// Whatever the order of the calls, each later one of these wins: defaults, a context of the `nats`
/// command line, files (in the order of the calls), environment, arguments, code. An empty value in
/// a file, an argument or code brings the default back; an empty variable counts as not set.
///
/// In files and arguments `${VAR}` and `${VAR:default}` stand for variables of the environment
/// (which has to be a source, too); `$${` is a literal `${`. Values of variables and of code are
/// taken as they are.
///
/// ```
/// use nats_connector::{Format, Settings};
///
/// let settings = Settings::builder()
///     .text("app.conf", Format::Lines, "NATS.SERVER=${HOST:localhost}\nNATS.NAME=app")
///     .env_from([("HOST", "db"), ("NATS_NAME", "worker")])
///     .args_from(["--NATS.RANDOMIZE=false"])
///     .set("NATS.MAX_RECONNECT", -1)
///     .build()?;
/// assert_eq!(settings.servers(), ["nats://db:4222"]);
/// assert_eq!(settings.name(), Some("worker"));
/// # Ok::<(), nats_connector::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "settings are made by .build()"]
pub struct SettingsBuilder {
    domain: String,
    pub(super) files: Vec<File>,
    pub(super) environment: Environment,
    pub(super) arguments: Vec<OsString>,
    pub(super) code: Vec<Entry>,
}

#[derive(Clone)]
pub(super) enum File {
    Path(PathBuf),
    Text { name: String, format: Format, text: String },
    Find { directory: PathBuf },
}

impl SettingsBuilder {
    pub(super) fn new() -> Self {
        SettingsBuilder {
            domain: DEFAULT_DOMAIN.to_owned(),
            files: Vec::new(),
            environment: Environment::default(),
            arguments: Vec::new(),
            code: Vec::new(),
        }
    }

    /// Reads the keys of another domain than `NATS`: with `AUDIT`, `AUDIT.SERVER` and so on, and the
    /// variables `AUDIT_SERVER` and so on.
    pub fn domain(mut self, name: impl Into<String>) -> Self {
        self.domain = name.into();
        self
    }

    /// Reads a file, which must exist: YAML (`.yml`, `.yaml`), TOML (`.toml`), JSON (`.json`), or
    /// lines for any other extension. Of several files, later ones win.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push(File::Path(path.into()));
        self
    }

    /// Reads the file that the environment variable `NATS_SETTINGS_FILE` names, which must exist; or
    /// else the first that exists of `settings.conf`, `settings.yml`, `settings.yaml`,
    /// `settings.toml` and `settings.json` in a directory, or none.
    pub fn find_file(mut self, directory: impl Into<PathBuf>) -> Self {
        self.files.push(File::Find { directory: directory.into() });
        self
    }

    /// Reads a text as if it were a file of that name.
    pub fn text(
        mut self,
        name: impl Into<String>,
        format: Format,
        text: impl Into<String>,
    ) -> Self {
        self.files.push(File::Text { name: name.into(), format, text: text.into() });
        self
    }

    /// Reads the environment of the process, as it is now.
    pub fn env(self) -> Self {
        self.env_from(std::env::vars_os())
    }

    /// Reads these variables in place of the environment of the process.
    pub fn env_from<K, V>(mut self, variables: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        for (name, value) in variables {
            self.environment.add(name.into(), value.into());
        }
        self
    }

    /// Reads the arguments of the process: `--NATS.SERVER=x`, `--NATS.SERVER x` and `NATS.SERVER=x`,
    /// up to a `--`. All others are left to the application.
    pub fn args(self) -> Self {
        self.args_from(std::env::args_os().skip(1))
    }

    /// Reads these arguments (without the name of the program) in place of those of the process.
    pub fn args_from<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets one value in code, which wins over every other source. The key is the full name, for
    /// example `NATS.SERVER`.
    #[expect(clippy::needless_pass_by_value, reason = "numbers and literals read best by value")]
    pub fn set(mut self, key: impl Into<String>, value: impl ToString) -> Self {
        let (key, text) = (key.into(), Ok(value.to_string()));
        self.code.push(Entry { key, text, origin: Origin::Code });
        self
    }

    /// Reads the sources, checks everything and makes the settings. Files that settings name
    /// (certificates, credentials) are read when the connector connects, not here.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidSettings`]: a file that cannot be read or is not of its format, unknown
    /// keys, wrong values. The message names each with its source and what is expected, and never
    /// has a secret in it.
    pub fn build(self) -> Result<Settings> {
        self.build_domain(&self.domain, &[])
    }

    /// The settings of one domain of several that these sources have.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build); also when no source has a setting of it, unless it is `NATS`.
    pub(crate) fn of_domain(&self, name: &str, others: &[&str]) -> Result<Settings> {
        let others = [&[DEFAULT_DOMAIN], others].concat();
        let settings = self.build_domain(name, &others)?;
        if settings.0.is_default && name != DEFAULT_DOMAIN {
            let message = format!(
                "no source has a setting of the domain {name}; expected for example {name}.SERVER"
            );
            return Err(Error::new(ErrorKind::InvalidSettings, message));
        }
        Ok(settings)
    }

    /// The settings of one domain; the keys that code sets may also be of `others`.
    pub(super) fn build_domain(&self, name: &str, others: &[&str]) -> Result<Settings> {
        let mut values = Values::new(domain(name)?, keys::KEYS);
        let mut streams = streams::reading();
        let mut warnings = Vec::new();
        for (i, file) in self.files.iter().enumerate() {
            match self.read(file) {
                Ok(entries) => {
                    streams.add(Layer::File(i), entries.clone());
                    merge::file(&mut values, entries);
                }
                Err(problem) => values.problem(problem),
            }
        }
        streams.add(Layer::Environment, self.environment.entries(STREAMS));
        streams.add(Layer::Argument, source::arguments(&self.arguments, STREAMS));
        streams.add(Layer::Code, self.code.clone());
        warnings.extend(merge::environment(&mut values, &self.environment));
        let arguments = source::arguments(&self.arguments, values.domain());
        merge::arguments(&mut values, arguments);
        merge::code(&mut values, &self.code, &[&[STORES, STREAMS], others].concat());
        let is_default = values.is_empty();
        if is_default && values.domain() != DEFAULT_DOMAIN {
            warnings.push(format!("no source has a {} setting; all are defaults", values.domain()));
        }
        let variable = |name: &str| self.environment.get(name);
        values.expand(&variable);
        merge::context(&mut values, &self.environment);

        let effective = Effective::read(&mut values, &mut warnings);
        let servers = if effective.memory { "memory:" } else { &effective.servers.join(",") };
        let table = Table::new(&values, servers);
        let domain = values.domain().to_owned();
        let declared = streams::read(&mut streams, &variable);
        let (problems, strange) = streams.finish();
        warnings.extend(strange.filter(|_| domain == DEFAULT_DOMAIN));
        invalid(&[values.into_problems(), problems].concat())?;
        let streams = declared;
        Ok(Settings(Arc::new(Inner { domain, effective, streams, table, warnings, is_default })))
    }

    /// What a file holds.
    pub(super) fn read(&self, file: &File) -> Result<Vec<Entry>, String> {
        match file {
            File::Text { name, format, text } => format::entries(name, *format, text),
            File::Path(path) => read_path(path, ""),
            File::Find { directory } => {
                if let Some(path) = self.environment.get(FILE_VARIABLE) {
                    let named_by = format!(" from environment variable {FILE_VARIABLE}");
                    return read_path(Path::new(&path), &named_by);
                }
                let found = FILE_NAMES.iter().map(|name| directory.join(name)).find(|p| p.exists());
                found.map_or(Ok(Vec::new()), |path| read_path(&path, ""))
            }
        }
    }
}

/// The error of all problems, if there are any.
pub(super) fn invalid(problems: &[String]) -> Result<()> {
    let message = match problems {
        [] => return Ok(()),
        [one] => one.clone(),
        many => {
            let numbered: Vec<String> =
                many.iter().enumerate().map(|(i, one)| format!("({}) {one}", i + 1)).collect();
            format!("{} settings are wrong: {}", many.len(), numbered.join(" "))
        }
    };
    Err(Error::new(ErrorKind::InvalidSettings, message))
}

fn read_path(path: &Path, named_by: &str) -> Result<Vec<Entry>, String> {
    let name = path.display().to_string();
    let text = fs::read_to_string(path)
        .map_err(|error| format!("settings file {name}{named_by} cannot be read: {error}"))?;
    format::entries(&name, Format::of(path), &text)
}

/// The domain in its normal form.
pub(super) fn domain(name: &str) -> Result<String> {
    let normal = normal(name);
    let legal = normal.starts_with(|c: char| c.is_ascii_alphabetic())
        && normal.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !normal.ends_with('_');
    if !legal {
        let message = format!(
            "{name:?} cannot be a domain of settings; expected for example AUDIT: letters, digits \
             and _, with a letter first"
        );
        return Err(Error::new(ErrorKind::InvalidSettings, message));
    }
    let whose = [DEFAULT_DOMAIN, STORES, STREAMS].into_iter().find(|other| {
        let is_block = *other != DEFAULT_DOMAIN && normal == **other;
        is_block || source::in_domain(&normal, other).is_some()
    });
    if let Some(other) = whose {
        let message = format!(
            "{name:?} cannot be a domain of settings, since its keys would be keys of {other}; \
             expected for example AUDIT"
        );
        return Err(Error::new(ErrorKind::InvalidSettings, message));
    }
    Ok(normal)
}

impl fmt::Debug for SettingsBuilder {
    /// The domain alone: what is given may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SettingsBuilder").field("domain", &self.domain).finish_non_exhaustive()
    }
}

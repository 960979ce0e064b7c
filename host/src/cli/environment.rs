//! The caller's environment as a value, and the layer of settings in it: `AIRLOCK_<FLAG>`. Another
//! variable of that prefix is refused: it is most likely a limit that would silently not hold.
//!
//! Deliberately absent: foreign variables. OPENAI_API_KEY is read by `--login env` alone, and what
//! `--env` names is read by name.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::cli::settings::{GivenValue, OF_ONE_RUN, OF_REQUESTS, STANDING, Settings, nearest};
use crate::failure::Failure;

const PREFIX: &str = "AIRLOCK_";
/// What the build of this program reads or sets; cargo hands it on to what it starts.
const OF_BUILD: [&str; 2] = ["AIRLOCK_SANDBOX_BINARY", "AIRLOCK_SANDBOX_SHA256"];

/// Name → value. Empty values count as absent.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl Environment {
    /// The environment of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        std::env::vars_os().collect()
    }

    fn raw(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// The value, if it is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.raw(name)?.to_str()
    }

    /// The value as an absolute path; a relative one is not taken.
    #[must_use]
    pub fn absolute(&self, name: &str) -> Option<PathBuf> {
        self.raw(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// What `AIRLOCK_<FLAG>` says. Lists are separated by commas.
    ///
    /// # Errors
    /// A usage failure that names the variable.
    pub fn settings(&self) -> Result<Settings, Failure> {
        self.check_names()?;
        let mut settings = Settings::default();
        for name in STANDING.into_iter().chain(OF_ONE_RUN) {
            let variable = variable(name);
            let Some(raw) = self.raw(&variable) else { continue };
            let set = match raw.to_str() {
                Some(text) => settings.set(name, &GivenValue::Text(text.to_owned())),
                None => Err("it is not UTF-8".to_owned()),
            };
            set.map_err(|why| {
                Failure::usage(format!("{variable}: {why}")).hint(format!("unset {variable}"))
            })?;
        }
        match settings.contradiction() {
            Some(why) => Err(Failure::usage(format!("the environment says two of {why}"))
                .hint("env | grep ^AIRLOCK_")),
            None => Ok(settings),
        }
    }

    /// Refuses a variable with our prefix that says nothing. Its value may be a secret, and is not
    /// repeated.
    fn check_names(&self) -> Result<(), Failure> {
        let set = self.0.iter().filter(|(_, value)| !value.is_empty());
        let names = set.map(|(name, _)| name.to_string_lossy());
        for name in names.filter(|name| name.starts_with(PREFIX)) {
            let flag = name[PREFIX.len()..].to_ascii_lowercase();
            let known = || STANDING.into_iter().chain(OF_ONE_RUN);
            if known().any(|known| variable(known) == *name) || OF_BUILD.contains(&&*name) {
                continue;
            }
            let why = match nearest(&flag, known()) {
                _ if OF_REQUESTS.contains(&&*flag) => format!("`{flag}` is of config.toml alone"),
                Some(known) => format!("the nearest known one is {}", variable(known)),
                None => "`airlock run --help` names all".to_owned(),
            };
            let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            let hint = match is_plain {
                true => format!("unset {name}"),
                false => "env | grep ^AIRLOCK_".to_owned(),
            };
            return Err(Failure::usage(format!("unknown variable {name}; {why}")).hint(hint));
        }
        Ok(())
    }
}

/// `api_key_file` → `AIRLOCK_API_KEY_FILE`
#[must_use]
pub fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str) -> Option<String> {
        let environment = Environment::from_iter([(name, "canary")]);
        environment.settings().err().map(|failure| {
            assert_eq!(failure.exit, crate::exit::Exit::Usage);
            failure.to_string()
        })
    }

    #[test]
    fn a_variable_that_says_nothing_is_refused_with_the_nearest() {
        let cases = [
            (
                "AIRLOCK_MEMROY",
                "usage: unknown variable AIRLOCK_MEMROY; the nearest known one is AIRLOCK_MEMORY\n\
                 unset AIRLOCK_MEMROY",
            ),
            (
                "AIRLOCK_memory",
                "usage: unknown variable AIRLOCK_memory; the nearest known one is AIRLOCK_MEMORY\n\
                 unset AIRLOCK_memory",
            ),
            (
                "AIRLOCK_SUMMARY",
                "usage: unknown variable AIRLOCK_SUMMARY; `summary` is of config.toml alone\n\
                 unset AIRLOCK_SUMMARY",
            ),
            (
                "AIRLOCK_PLUGINS_FOLDER",
                "usage: unknown variable AIRLOCK_PLUGINS_FOLDER; `airlock run --help` names all\n\
                 unset AIRLOCK_PLUGINS_FOLDER",
            ),
            (
                "AIRLOCK_$(x)",
                "usage: unknown variable AIRLOCK_$(x); `airlock run --help` names all\n\
                 env | grep ^AIRLOCK_",
            ),
        ];
        for (name, expected) in cases {
            assert_eq!(refused(name).as_deref(), Some(expected));
        }
        for name in OF_BUILD.into_iter().chain(["AIRLOCK_MODEL", "AIRLOCKS", "HOME"]) {
            assert_eq!(refused(name), None, "{name}");
        }
        assert!(Environment::from_iter([("AIRLOCK_MEMROY", "")]).settings().is_ok());
    }
}

//! The environment as a value, and the settings in it: `AIRLOCK_<FLAG>`. An unknown variable with
//! this prefix is an error, because it is most likely a misspelt limit that would have no effect.
//!
//! Deliberately absent: other variables as settings. Only `--login env` reads OPENAI_API_KEY, and
//! `--env` reads what it names.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::cli::settings::{CONFIG_ONLY, CONFIGURABLE, GivenValue, PER_SESSION, Settings, nearest};
use crate::failure::Failure;

const PREFIX: &str = "AIRLOCK_";
/// Variables of this program's build. Cargo passes them to programs that it starts.
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

    /// The value, if it is UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.raw(name)?.to_str()
    }

    /// The value, if it is an absolute path.
    #[must_use]
    pub fn absolute(&self, name: &str) -> Option<PathBuf> {
        self.raw(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// The settings in `AIRLOCK_<FLAG>`. Lists are separated by commas.
    ///
    /// # Errors
    /// A usage failure that names the variable.
    pub fn settings(&self) -> Result<Settings, Failure> {
        self.check_names()?;
        let mut settings = Settings::default();
        for name in CONFIGURABLE.into_iter().chain(PER_SESSION) {
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
            Some(why) => Err(Failure::usage(format!("the environment variables for {why}"))
                .hint("env | grep ^AIRLOCK_")),
            None => Ok(settings),
        }
    }

    /// Refuses an unknown variable with our prefix. Its value may be a secret and is not quoted.
    fn check_names(&self) -> Result<(), Failure> {
        let set = self.0.iter().filter(|(_, value)| !value.is_empty());
        let names = set.map(|(name, _)| name.to_string_lossy());
        for name in names.filter(|name| name.starts_with(PREFIX)) {
            let flag = name[PREFIX.len()..].to_ascii_lowercase();
            let known = || CONFIGURABLE.into_iter().chain(PER_SESSION);
            if known().any(|known| variable(known) == *name) || OF_BUILD.contains(&&*name) {
                continue;
            }
            let why = match nearest(&flag, known()) {
                _ if CONFIG_ONLY.contains(&&*flag) => {
                    format!("`{flag}` can only be set in config.toml")
                }
                Some(known) => format!("did you mean {}?", variable(known)),
                None => "`airlock run --help` lists all settings".to_owned(),
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
    fn an_unknown_variable_is_an_error_that_names_a_similar_one() {
        let cases = [
            (
                "AIRLOCK_MEMROY",
                "usage: unknown variable AIRLOCK_MEMROY; did you mean AIRLOCK_MEMORY?\n\
                 unset AIRLOCK_MEMROY",
            ),
            (
                "AIRLOCK_memory",
                "usage: unknown variable AIRLOCK_memory; did you mean AIRLOCK_MEMORY?\n\
                 unset AIRLOCK_memory",
            ),
            (
                "AIRLOCK_SUMMARY",
                "usage: unknown variable AIRLOCK_SUMMARY; `summary` can only be set in config.toml\n\
                 unset AIRLOCK_SUMMARY",
            ),
            (
                "AIRLOCK_PLUGINS_FOLDER",
                "usage: unknown variable AIRLOCK_PLUGINS_FOLDER; `airlock run --help` lists all settings\n\
                 unset AIRLOCK_PLUGINS_FOLDER",
            ),
            (
                "AIRLOCK_$(x)",
                "usage: unknown variable AIRLOCK_$(x); `airlock run --help` lists all settings\n\
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

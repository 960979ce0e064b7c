//! The caller's environment as a value, and the layer of settings in it: `AIRLOCK_<FLAG>`.
//!
//! Deliberately absent: foreign variables. OPENAI_API_KEY is read by `--login env` alone, and what
//! `--env` names is read by name.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::cli::settings::{Given, OF_ONE_RUN, STANDING, Settings};
use crate::failure::Failure;

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
        let mut settings = Settings::default();
        for name in STANDING.into_iter().chain(OF_ONE_RUN) {
            let variable = variable(name);
            let Some(raw) = self.raw(&variable) else { continue };
            let set = match raw.to_str() {
                Some(text) => settings.set(name, &Given::Text(text.to_owned())),
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
}

/// `api_key_file` → `AIRLOCK_API_KEY_FILE`
#[must_use]
pub fn variable(name: &str) -> String {
    format!("AIRLOCK_{}", name.to_ascii_uppercase())
}

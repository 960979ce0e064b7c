//! Where this user's configuration and state are: two directories, set only by the environment.

use std::path::{Path, PathBuf};

use crate::cli::environment::Environment;
use crate::exit::Exit;
use crate::failure::Failure;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// `$XDG_CONFIG_HOME/airlock`, else `~/.config/airlock`. Read, never written.
    pub config: PathBuf,
    /// `$XDG_STATE_HOME/airlock`, else `~/.local/state/airlock`: sessions and logins.
    pub state: PathBuf,
    /// The official client's login: `$CODEX_HOME/auth.json`, else `~/.codex/auth.json`.
    pub codex: Option<PathBuf>,
    /// To shorten paths that are shown, and for `~/` in the configuration.
    pub home: Option<PathBuf>,
}

impl Places {
    /// # Errors
    /// Neither the XDG variable nor HOME is an absolute path.
    pub fn of(environment: &Environment) -> Result<Self, Failure> {
        let home = environment.absolute("HOME");
        let place = |variable: &str, below: &str| {
            let base = environment
                .absolute(variable)
                .or_else(|| home.as_ref().map(|home| home.join(below)));
            base.map(|base| base.join("airlock")).ok_or_else(|| {
                let reason = format!("neither {variable} nor HOME is an absolute path");
                Failure::new(Exit::Usage, "no home directory", reason)
                    .hint("export HOME=/path/to/your/home")
            })
        };
        Ok(Self {
            config: place("XDG_CONFIG_HOME", ".config")?,
            state: place("XDG_STATE_HOME", ".local/state")?,
            codex: environment
                .absolute("CODEX_HOME")
                .or_else(|| home.as_ref().map(|home| home.join(".codex")))
                .map(|directory| directory.join("auth.json")),
            home,
        })
    }

    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    /// The file with this install's id.
    #[must_use]
    pub fn install(&self) -> PathBuf {
        self.state.join("install")
    }

    /// The directory of records and changes.
    #[must_use]
    pub fn sessions(&self) -> PathBuf {
        self.state.join("sessions")
    }

    /// The directory of logins.
    #[must_use]
    pub fn logins(&self) -> PathBuf {
        self.state.join("logins")
    }

    /// The file of a login of ours.
    #[must_use]
    pub fn login_file(&self, name: &str) -> PathBuf {
        self.logins().join(format!("{name}.json"))
    }

    /// `~/src/x` instead of `/home/ada/src/x`.
    #[must_use]
    pub fn shown(&self, path: &Path) -> String {
        let below = self.home.as_ref().and_then(|home| path.strip_prefix(home).ok());
        match below {
            Some(below) if below.as_os_str().is_empty() => "~".to_owned(),
            Some(below) => format!("~/{}", below.display()),
            None => path.display().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xdg_wins_over_home_and_relative_paths_do_not_count() {
        let environment = Environment::from_iter([
            ("HOME", "/home/ada"),
            ("XDG_STATE_HOME", "/var/ada"),
            ("XDG_CONFIG_HOME", "relative"),
        ]);
        let places = Places::of(&environment).expect("places");
        assert_eq!(places.config_file(), Path::new("/home/ada/.config/airlock/config.toml"));
        assert_eq!(places.login_file("a"), Path::new("/var/ada/airlock/logins/a.json"));
        assert_eq!(places.shown(Path::new("/home/ada/src/x")), "~/src/x");
        assert_eq!(places.shown(Path::new("/home/adam")), "/home/adam");
        let failure = Places::of(&Environment::default()).expect_err("no place");
        assert_eq!(
            failure.to_string(),
            "no home directory: neither XDG_CONFIG_HOME nor HOME is an absolute path\n\
             export HOME=/path/to/your/home"
        );
    }
}

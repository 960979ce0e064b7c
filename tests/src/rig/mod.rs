//! A run of `airlock` as a sentence:
//!
//! ```no_run
//! # use airlock_tests::{Rig, backend::{answer, call, script}};
//! # use serde_json::json;
//! # async fn example() {
//! Rig::new()
//!     .model(script![call("bash", json!({"command": "ls"})), answer("three files")])
//!     .prompt("what is here?")
//!     .run()
//!     .await
//!     .assert_finished("three files")
//!     .assert_nothing_left_behind()
//!     .await;
//! # }
//! ```
//!
//! Everything is real: the backend is a server on this machine, the engine is Docker, `airlock` is
//! a process with a home, a configuration and a state of its own, all in one temporary folder.

mod build; // the binaries, built once
mod process; // a process that is going on
mod live; // a run that is going on
mod ran; // a run that is over
mod kept; // what is kept of it
mod terminal; // a terminal without anybody at it

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::process::Command;

use crate::backend::{Backend, Options, Script};
use crate::engine::Engine;
use crate::{images, tree};

pub use build::{airlock, extracted_sandbox, host_program, is_of_this_package};
pub use kept::Said;
pub use live::Live;
pub use process::{PATIENCE, Process};
pub use ran::Ran;
pub use terminal::terminal;

/// Where the credential is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CredentialsMode {
    #[default]
    Relay,
    Handoff,
}

/// What is to be run.
#[derive(Debug)]
pub struct Rig {
    options: Options,
    home: Arc<TempDir>,
    workspace: PathBuf,
    key: String,
    prompt: Option<String>,
    image: String,
    credentials: CredentialsMode,
    login: Option<String>,
    trusted: Option<String>,
    json: bool,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
}

impl Default for Rig {
    fn default() -> Self {
        Self::new()
    }
}

impl Rig {
    /// A fresh machine: no configuration, no state, an empty workspace, busybox as the image, an
    /// API key of its own.
    ///
    /// # Panics
    /// When no temporary folder can be made.
    #[must_use]
    pub fn new() -> Self {
        let home = tempfile::Builder::new().prefix("airlock-test-").tempdir();
        let home = home.expect("a temporary folder can be made");
        let workspace = home.path().join("workspace");
        std::fs::create_dir(&workspace).expect("the temporary folder can be written");
        Self {
            options: Options::default(),
            home: Arc::new(home),
            workspace,
            key: format!("sk-canary-{:032x}", rand::random::<u128>()),
            prompt: None,
            image: images::BUSYBOX.to_owned(),
            credentials: CredentialsMode::Relay,
            login: None,
            trusted: None,
            json: true,
            arguments: Vec::new(),
            variables: Vec::new(),
        }
    }

    /// Another run of the same home, the same install, with a workspace of its own.
    ///
    /// # Panics
    /// When the temporary folder cannot be written.
    #[must_use]
    pub fn beside(&self) -> Self {
        let workspace = self.home().join(format!("workspace-{:08x}", rand::random::<u32>()));
        std::fs::create_dir(&workspace).expect("the temporary folder can be written");
        Self { home: Arc::clone(&self.home), workspace, key: self.key.clone(), ..Self::new() }
    }

    /// What the model says.
    #[must_use]
    pub fn model(mut self, script: Script) -> Self {
        self.options.script = script;
        self
    }

    /// How the backend is otherwise.
    #[must_use]
    pub fn backend(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        self
    }

    #[must_use]
    pub fn prompt(mut self, prompt: &str) -> Self {
        self.prompt = Some(prompt.to_owned());
        self
    }

    /// Files in the workspace.
    #[must_use]
    pub fn files(self, files: &[(&str, &str)]) -> Self {
        tree::write(&self.workspace, files);
        self
    }

    #[must_use]
    pub fn image(mut self, image: &str) -> Self {
        image.clone_into(&mut self.image);
        self
    }

    /// `handoff` with a backend that speaks TLS, `relay` with one that may not.
    #[must_use]
    pub fn credentials(mut self, credentials: CredentialsMode) -> Self {
        self.credentials = credentials;
        self.options.tls |= credentials == CredentialsMode::Handoff;
        self
    }

    /// Pays with the login of this name, whose file the test writes, instead of the key.
    #[must_use]
    pub fn login(mut self, name: &str) -> Self {
        self.login = Some(name.to_owned());
        self
    }

    /// Where the file of a login is looked for.
    #[must_use]
    pub fn login_file(&self, name: &str) -> PathBuf {
        self.home().join("state/airlock/logins").join(format!("{name}.json"))
    }

    /// Trusts this authority (PEM) and not the backend's own.
    #[must_use]
    pub fn trusting(mut self, ca: &str) -> Self {
        self.trusted = Some(ca.to_owned());
        self
    }

    /// Works on this folder instead of one of its own.
    #[must_use]
    pub fn folder(mut self, folder: &Path) -> Self {
        folder.clone_into(&mut self.workspace);
        self
    }

    /// The answer alone on stdout instead of JSON lines.
    #[must_use]
    pub fn in_words(mut self) -> Self {
        self.json = false;
        self
    }

    /// A further flag or two.
    #[must_use]
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.arguments.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }

    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The key that pays: a canary to look for.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    #[must_use]
    pub fn workspace(&self) -> &Path {
        &self.workspace
    }

    /// The temporary folder of it all.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Runs it to its end.
    pub async fn run(self) -> Ran {
        self.start().await.end().await
    }

    /// Starts `airlock run`.
    ///
    /// # Panics
    /// When `airlock` cannot be built or started.
    pub async fn start(self) -> Live {
        let engine = Engine::connect().await;
        images::ready(&engine).await;
        let backend = Arc::new(Backend::start(self.options.clone()));
        self.start_beside(engine, backend).await
    }

    /// The same with a backend that is there: for a second run on it.
    ///
    /// # Panics
    /// When `airlock` cannot be built or started.
    pub async fn start_beside(self, engine: Engine, backend: Arc<Backend>) -> Live {
        let process = Process::start(self.against(&backend).await);
        Live::of(process, self, engine, backend)
    }

    /// The same with a person at its terminal: their end of it.
    ///
    /// # Panics
    /// As [`Self::start_beside`].
    pub async fn start_at_a_terminal(self, engine: Engine, backend: Arc<Backend>) -> (Live, File) {
        let (process, person) = Process::at_a_terminal(self.against(&backend).await);
        (Live::of(process, self, engine, backend), person)
    }

    /// `airlock run …` as it was said, for this backend.
    async fn against(&self, backend: &Backend) -> Command {
        let mut command = self.command("run").await;
        command.arg("-C").arg(&self.workspace).args(["--image", &self.image]);
        command.args(["--base-url", &backend.url()]);
        if let Some(login) = &self.login {
            command.args(["--login", login]);
        } else {
            let key_file = self.home().join("key");
            write_private(&key_file, &self.key);
            command.arg("--api-key-file").arg(&key_file);
        }
        if self.credentials == CredentialsMode::Handoff {
            command.args(["--credentials", "handoff"]);
        }
        if let Some(ca) = self.trusted.as_deref().or(backend.ca()) {
            let ca_file = self.home().join("ca.pem");
            std::fs::write(&ca_file, ca).expect("the temporary folder can be written");
            command.arg("--ca").arg(ca_file);
        }
        if self.json {
            command.arg("--json");
        }
        command.args(&self.arguments);
        command.args(self.prompt.as_deref());
        command
    }

    /// Any other command, `airlock sessions` or `airlock apply`, in the same home.
    pub async fn command(&self, name: &str) -> Command {
        let mut command = self.at_home(airlock().await);
        command.arg(name);
        command
    }

    /// Any other program in the same home.
    #[must_use]
    pub fn at_home(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let home = self.home();
        // THREAT of a test: what the developer has in the environment decides how it ends.
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", home);
        for (name, folder) in [
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_DATA_HOME", "data"),
            ("XDG_RUNTIME_DIR", "runtime"),
        ] {
            command.env(name, home.join(folder));
        }
        if let Ok(engine) = std::env::var("DOCKER_HOST") {
            command.env("DOCKER_HOST", engine);
        }
        let variables = self.variables.iter().map(|(name, value)| (name, value));
        command.envs(variables).stdin(Stdio::null()).current_dir(&self.workspace);
        command
    }
}

fn write_private(path: &Path, text: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.expect("the temporary folder can be written");
}

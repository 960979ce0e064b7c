//! All settings, as one layer gives them: the flags, the environment or the configuration file. Each
//! layer fills this type with the same parsers; `over` puts one layer over another.
//!
//! A list in a higher layer replaces the lower one, so that a flag can also shorten it.

use std::path::PathBuf;

use airlock_shared::base::Base;
use airlock_shared::secret::Secret;

use crate::cli::parse;
use crate::session::settings::{CredentialsMode, DiskOn};

/// `None`: this layer does not set it.
#[derive(clap::Args, Clone, Default)]
pub struct Settings {
    /// The directory to work on [default: the current one]
    #[arg(short = 'C', long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The model; `ask` lets you choose [default: the one stored with the login, else the backend's]
    #[arg(short, long, value_parser = parse::plain)]
    pub model: Option<String>,
    /// The model's reasoning effort (low, medium, high, …)
    #[arg(long, value_parser = parse::plain)]
    pub effort: Option<String>,

    /// Use this stored login; `env` means OPENAI_API_KEY
    #[arg(long, value_name = "NAME", group = "credential", value_parser = parse::login, help_heading = "Credential")]
    pub login: Option<String>,
    /// Use an API key from stdin; the value must be `-`
    #[arg(long, value_name = "-", group = "credential", value_parser = parse::secret, help_heading = "Credential")]
    pub api_key: Option<Secret>,
    /// Use the API key in FILE
    #[arg(long, value_name = "FILE", group = "credential", help_heading = "Credential")]
    pub api_key_file: Option<PathBuf>,
    /// The backend's address [default: the one that belongs to the credential]
    #[arg(long, value_name = "URL", value_parser = parse::base, help_heading = "Credential")]
    pub base_url: Option<Base>,
    /// Also trust this certificate authority (PEM)
    #[arg(long, value_name = "FILE", help_heading = "Credential")]
    pub ca: Option<PathBuf>,
    /// Where the credential is: `relay`: only on this host; `handoff`: in the sandbox [default: relay]
    #[arg(long, value_name = "WHERE", alias = "custody", value_parser = parse::credentials, help_heading = "Credential")]
    pub credentials: Option<CredentialsMode>,

    /// The image of the sandbox [default: airlock-base]
    #[arg(long, value_parser = parse::plain, help_heading = "Sandbox")]
    pub image: Option<String>,
    /// Give the sandbox the directory itself, not a copy; every `.git` is read-only
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, value_name = "YES", help_heading = "Sandbox")]
    pub live: Option<bool>,
    /// Memory, in addition to --disk [default: 2GiB]
    #[arg(long, value_name = "SIZE", value_parser = parse::memory, help_heading = "Sandbox")]
    pub memory: Option<u64>,
    /// Processors [default: 2]
    #[arg(long, value_name = "N", value_parser = parse::cpus, help_heading = "Sandbox")]
    pub cpus: Option<f64>,
    /// Processes and threads [default: 512]
    #[arg(long, value_name = "N", value_parser = parse::pids, help_heading = "Sandbox")]
    pub pids: Option<u32>,
    /// Size of the workspace: the copy and all new files [default: 2GiB]
    #[arg(long, value_name = "SIZE", value_parser = parse::disk, help_heading = "Sandbox")]
    pub disk: Option<u64>,
    /// Where the workspace is: `tmpfs` (limited) or the `engine`'s disk (no limit) [default: tmpfs]
    #[arg(long, value_name = "WHERE", value_parser = parse::disk_on, help_heading = "Sandbox")]
    pub disk_on: Option<DiskOn>,
    /// Give commands this variable of your environment (repeatable)
    #[arg(long, value_name = "NAME", value_parser = parse::variable, help_heading = "Sandbox")]
    pub env: Option<Vec<String>>,
    /// Copy files that would be left out as secrets (repeatable)
    #[arg(long, value_name = "GLOB", value_parser = parse::glob, help_heading = "Sandbox")]
    pub include: Option<Vec<String>>,
    /// Leave files out of the copy (repeatable)
    #[arg(long, value_name = "GLOB", value_parser = parse::glob, help_heading = "Sandbox")]
    pub exclude: Option<Vec<String>>,
    /// Leave out the repository's history; git in the sandbox starts with one commit
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, value_name = "YES", help_heading = "Sandbox")]
    pub no_history: Option<bool>,

    /// The most model requests [default: 100]
    #[arg(long, value_name = "N", value_parser = parse::steps, help_heading = "Budget")]
    pub steps: Option<u32>,
    /// The most tokens, input and output of all requests [default: 4_000_000]
    #[arg(long, value_name = "N", value_parser = parse::tokens, help_heading = "Budget")]
    pub tokens: Option<u64>,
    /// The most seconds [default: 3600]
    #[arg(long, value_name = "N", value_parser = parse::seconds, help_heading = "Budget")]
    pub seconds: Option<u64>,

    /// Record the exchange with the model to FILE, without secrets
    #[arg(long, value_name = "FILE", group = "recording", help_heading = "Output")]
    pub record: Option<PathBuf>,
    /// Let the recording in FILE answer instead of a model: no account, no network
    #[arg(long, value_name = "FILE", group = "recording", help_heading = "Output")]
    pub replay: Option<PathBuf>,
    /// Print events as JSON lines on stdout; the last one is the outcome
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, value_name = "YES", help_heading = "Output")]
    pub json: Option<bool>,
    /// Also write the answer to FILE
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,
    /// Show no progress
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, value_name = "YES", help_heading = "Output")]
    pub quiet: Option<bool>,

    #[arg(skip)]
    pub originator: Option<String>,
    #[arg(skip)]
    pub client_version: Option<String>,
    #[arg(skip)]
    pub user_agent: Option<String>,
    #[arg(skip)]
    pub summary: Option<String>,
    #[arg(skip)]
    pub verbosity: Option<String>,
    #[arg(skip)]
    pub service_tier: Option<String>,
}

/// Settings that the environment and the configuration file may have.
pub const CONFIGURABLE: [&str; 21] = [
    "model",
    "effort",
    "login",
    "api_key_file",
    "base_url",
    "ca",
    "credentials",
    "image",
    "live",
    "memory",
    "cpus",
    "pids",
    "disk",
    "disk_on",
    "env",
    "include",
    "exclude",
    "no_history",
    "steps",
    "tokens",
    "seconds",
];
/// Settings of one session: not in the configuration file.
pub const PER_SESSION: [&str; 7] =
    ["dir", "api_key", "record", "replay", "json", "output", "quiet"];
/// Settings that only the configuration file may have.
pub const CONFIG_ONLY: [&str; 6] =
    ["originator", "client_version", "user_agent", "summary", "verbosity", "service_tier"];

/// The known name that is most similar to `given`; `None` if none is similar.
pub(super) fn nearest<'a>(
    given: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let near = known.into_iter().map(|known| (strsim::osa_distance(given, known), known));
    let (distance, known) = near.min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + known.len() / 3).then_some(known)
}

/// A value of a variable or of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GivenValue {
    /// Text; a number as it was written.
    Text(String),
    Switch(bool),
    List(Vec<String>),
}

impl GivenValue {
    fn text(&self) -> Result<&str, String> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Switch(_) | Self::List(_) => Err("it must be a single value".to_owned()),
        }
    }

    fn path(&self) -> Result<PathBuf, String> {
        self.text().map(PathBuf::from)
    }

    fn switch(&self) -> Result<bool, String> {
        match self {
            Self::Switch(switch) => Ok(*switch),
            Self::Text(text) if text == "true" || text == "1" => Ok(true),
            Self::Text(text) if text == "false" || text == "0" => Ok(false),
            Self::Text(_) | Self::List(_) => Err("it must be true or false".to_owned()),
        }
    }

    fn list(&self) -> Result<Vec<String>, String> {
        match self {
            Self::List(list) => Ok(list.clone()),
            Self::Text(text) => Ok(parse::list(text)),
            Self::Switch(_) => Err("it must be a list".to_owned()),
        }
    }

    fn globs(&self) -> Result<Vec<String>, String> {
        let checked = |glob: String| parse::glob(&glob).map_err(|why| format!("{glob:?}: {why}"));
        self.list()?.into_iter().map(checked).collect()
    }
}

impl Settings {
    /// Sets one value by name. The name must be in one of the three tables above.
    ///
    /// # Errors
    /// What is wrong with the value, without quoting it.
    pub fn set(&mut self, name: &str, given: &GivenValue) -> Result<(), String> {
        match name {
            "dir" => self.dir = Some(given.path()?),
            "model" => self.model = Some(parse::plain(given.text()?)?),
            "effort" => self.effort = Some(parse::plain(given.text()?)?),
            "login" => self.login = Some(parse::login(given.text()?)?),
            "api_key" => self.api_key = Some(Secret::new(given.text()?.to_owned())),
            "api_key_file" => self.api_key_file = Some(given.path()?),
            "base_url" => self.base_url = Some(parse::base(given.text()?)?),
            "ca" => self.ca = Some(given.path()?),
            "credentials" => self.credentials = Some(parse::credentials(given.text()?)?),
            "image" => self.image = Some(parse::plain(given.text()?)?),
            "live" => self.live = Some(given.switch()?),
            "memory" => self.memory = Some(parse::memory(given.text()?)?),
            "cpus" => self.cpus = Some(parse::cpus(given.text()?)?),
            "pids" => self.pids = Some(parse::pids(given.text()?)?),
            "disk" => self.disk = Some(parse::disk(given.text()?)?),
            "disk_on" => self.disk_on = Some(parse::disk_on(given.text()?)?),
            "env" => {
                let names: Result<Vec<String>, String> =
                    given.list()?.iter().map(|name| parse::variable(name)).collect();
                self.env = Some(names?);
            }
            "include" => self.include = Some(given.globs()?),
            "exclude" => self.exclude = Some(given.globs()?),
            "no_history" => self.no_history = Some(given.switch()?),
            "steps" => self.steps = Some(parse::steps(given.text()?)?),
            "tokens" => self.tokens = Some(parse::tokens(given.text()?)?),
            "seconds" => self.seconds = Some(parse::seconds(given.text()?)?),
            "record" => self.record = Some(given.path()?),
            "replay" => self.replay = Some(given.path()?),
            "json" => self.json = Some(given.switch()?),
            "output" => self.output = Some(given.path()?),
            "quiet" => self.quiet = Some(given.switch()?),
            "originator" => self.originator = Some(parse::header(given.text()?)?),
            "client_version" => self.client_version = Some(parse::plain(given.text()?)?),
            "user_agent" => self.user_agent = Some(parse::header(given.text()?)?),
            "summary" => {
                let known = ["auto", "concise", "detailed", "none"];
                self.summary = Some(parse::one_of(given.text()?, &known)?);
            }
            "verbosity" => {
                self.verbosity = Some(parse::one_of(given.text()?, &["low", "medium", "high"])?);
            }
            "service_tier" => {
                self.service_tier = Some(parse::one_of(given.text()?, &["priority", "flex"])?);
            }
            _ => return Err("there is no such setting".to_owned()),
        }
        Ok(())
    }

    /// This layer, with the values of `lower` for what it does not set. The credential is one
    /// choice, and so is the recording: a layer that makes it hides all of the lower one's.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        let has_credential =
            self.login.is_some() || self.api_key.is_some() || self.api_key_file.is_some();
        let has_recording = self.record.is_some() || self.replay.is_some();
        Self {
            dir: self.dir.or(lower.dir),
            model: self.model.or(lower.model),
            effort: self.effort.or(lower.effort),
            login: self.login.or(lower.login.filter(|_| !has_credential)),
            api_key: self.api_key.or(lower.api_key.filter(|_| !has_credential)),
            api_key_file: self.api_key_file.or(lower.api_key_file.filter(|_| !has_credential)),
            base_url: self.base_url.or(lower.base_url),
            ca: self.ca.or(lower.ca),
            credentials: self.credentials.or(lower.credentials),
            image: self.image.or(lower.image),
            live: self.live.or(lower.live),
            memory: self.memory.or(lower.memory),
            cpus: self.cpus.or(lower.cpus),
            pids: self.pids.or(lower.pids),
            disk: self.disk.or(lower.disk),
            disk_on: self.disk_on.or(lower.disk_on),
            env: self.env.or(lower.env),
            include: self.include.or(lower.include),
            exclude: self.exclude.or(lower.exclude),
            no_history: self.no_history.or(lower.no_history),
            steps: self.steps.or(lower.steps),
            tokens: self.tokens.or(lower.tokens),
            seconds: self.seconds.or(lower.seconds),
            record: self.record.or(lower.record.filter(|_| !has_recording)),
            replay: self.replay.or(lower.replay.filter(|_| !has_recording)),
            json: self.json.or(lower.json),
            output: self.output.or(lower.output),
            quiet: self.quiet.or(lower.quiet),
            originator: self.originator.or(lower.originator),
            client_version: self.client_version.or(lower.client_version),
            user_agent: self.user_agent.or(lower.user_agent),
            summary: self.summary.or(lower.summary),
            verbosity: self.verbosity.or(lower.verbosity),
            service_tier: self.service_tier.or(lower.service_tier),
        }
    }

    /// Two settings of one layer that exclude each other, if clap has not checked it.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let credentials =
            [self.login.is_some(), self.api_key.is_some(), self.api_key_file.is_some()];
        if credentials.into_iter().filter(|given| *given).count() > 1 {
            return Some("login, api_key and api_key_file: only one of them can be set");
        }
        if self.record.is_some() && self.replay.is_some() {
            return Some("record and replay: only one of them can be set");
        }
        None
    }
}

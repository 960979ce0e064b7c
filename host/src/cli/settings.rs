//! Every choice of a run, as one layer gives it: the flags, the environment, the configuration.
//! All of them fill this one type, with the same parsers; `over` lays one upon another.
//!
//! A list of a higher layer replaces the lower one's, so that a flag can also shorten it.

use std::path::PathBuf;

use airlock_shared::base::Base;
use airlock_shared::secret::Secret;

use crate::cli::parse;
use crate::session::settings::{CredentialsMode, DiskOn};

/// `None`: this layer does not say.
#[derive(clap::Args, Clone, Default)]
pub struct Settings {
    /// The directory to work on [default: the current one]
    #[arg(short = 'C', long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The model; `ask` lets you choose [default: the one kept with the login, else the backend's own]
    #[arg(short, long, value_parser = parse::plain)]
    pub model: Option<String>,
    /// How much the model thinks, in the catalogue's words (low, medium, high, …)
    #[arg(long, value_parser = parse::plain)]
    pub effort: Option<String>,

    /// Pay with a stored login; `env`: with OPENAI_API_KEY
    #[arg(long, value_name = "NAME", group = "credential", value_parser = parse::login, help_heading = "The credential")]
    pub login: Option<String>,
    /// Pay with the API key that stdin holds; only `-` is taken
    #[arg(long, value_name = "-", group = "credential", value_parser = parse::secret, help_heading = "The credential")]
    pub api_key: Option<Secret>,
    /// Pay with the API key in FILE
    #[arg(long, value_name = "FILE", group = "credential", help_heading = "The credential")]
    pub api_key_file: Option<PathBuf>,
    /// Where the backend is [default: the credential's own]
    #[arg(long, value_name = "URL", value_parser = parse::base, help_heading = "The credential")]
    pub base_url: Option<Base>,
    /// Trust this certificate authority (PEM) beside the usual ones
    #[arg(long, value_name = "FILE", help_heading = "The credential")]
    pub ca: Option<PathBuf>,
    /// Where the credential stays: `relay` on this host, `handoff` in the sandbox [default: relay]
    #[arg(long, value_name = "WHERE", alias = "custody", value_parser = parse::credentials, help_heading = "The credential")]
    pub credentials: Option<CredentialsMode>,

    /// The image of the sandbox [default: airlock-base]
    #[arg(long, value_parser = parse::plain, help_heading = "The sandbox")]
    pub image: Option<String>,
    /// Give the sandbox the directory itself instead of a copy; every `.git` stays read-only
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, value_name = "YES", help_heading = "The sandbox")]
    pub live: Option<bool>,
    /// Memory beside the disk [default: 2GiB]
    #[arg(long, value_name = "SIZE", value_parser = parse::memory, help_heading = "The sandbox")]
    pub memory: Option<u64>,
    /// Processors [default: 2]
    #[arg(long, value_name = "N", value_parser = parse::cpus, help_heading = "The sandbox")]
    pub cpus: Option<f64>,
    /// Processes and threads [default: 512]
    #[arg(long, value_name = "N", value_parser = parse::pids, help_heading = "The sandbox")]
    pub pids: Option<u32>,
    /// Size of the copied directory and what is made there [default: 2GiB]
    #[arg(long, value_name = "SIZE", value_parser = parse::disk, help_heading = "The sandbox")]
    pub disk: Option<u64>,
    /// Where that lies: `tmpfs` (limited) or the `engine`'s disk (no limit) [default: tmpfs]
    #[arg(long, value_name = "WHERE", value_parser = parse::disk_on, help_heading = "The sandbox")]
    pub disk_on: Option<DiskOn>,
    /// Let commands see this variable of your environment (repeat)
    #[arg(long, value_name = "NAME", value_parser = parse::variable, help_heading = "The sandbox")]
    pub env: Option<Vec<String>>,
    /// Copy what would be left out as a secret (repeat)
    #[arg(long, value_name = "GLOB", value_parser = parse::glob, help_heading = "The sandbox")]
    pub include: Option<Vec<String>>,
    /// Leave out of the copy (repeat)
    #[arg(long, value_name = "GLOB", value_parser = parse::glob, help_heading = "The sandbox")]
    pub exclude: Option<Vec<String>>,
    /// Leave the repository's history out; git in the sandbox starts from one commit
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, value_name = "YES", help_heading = "The sandbox")]
    pub no_history: Option<bool>,

    /// Model requests at most [default: 100]
    #[arg(long, value_name = "N", value_parser = parse::steps, help_heading = "The budget")]
    pub steps: Option<u32>,
    /// Tokens at most, in and out of all requests [default: 4_000_000]
    #[arg(long, value_name = "N", value_parser = parse::tokens, help_heading = "The budget")]
    pub tokens: Option<u64>,
    /// Seconds at most [default: 3600]
    #[arg(long, value_name = "N", value_parser = parse::seconds, help_heading = "The budget")]
    pub seconds: Option<u64>,

    /// Write the exchange with the model to FILE, without secrets
    #[arg(long, value_name = "FILE", group = "recording", help_heading = "What comes out")]
    pub record: Option<PathBuf>,
    /// Let FILE answer instead of a model: no account, no network
    #[arg(long, value_name = "FILE", group = "recording", help_heading = "What comes out")]
    pub replay: Option<PathBuf>,
    /// What happens, as JSON lines on stdout; the last one is the outcome
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, value_name = "YES", help_heading = "What comes out")]
    pub json: Option<bool>,
    /// Write the answer to FILE too
    #[arg(short, long, value_name = "FILE", help_heading = "What comes out")]
    pub output: Option<PathBuf>,
    /// No progress
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, value_name = "YES", help_heading = "What comes out")]
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

/// What the environment and the configuration both may say.
pub const STANDING: [&str; 21] = [
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
/// What belongs to one run: no configuration says it.
pub const OF_ONE_RUN: [&str; 7] = ["dir", "api_key", "record", "replay", "json", "output", "quiet"];
/// What nobody changes from run to run: only the configuration says it.
pub const OF_REQUESTS: [&str; 6] =
    ["originator", "client_version", "user_agent", "summary", "verbosity", "service_tier"];

/// The name among `known` that was most likely meant; none where all are far off.
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
            Self::Switch(_) | Self::List(_) => Err("one value is expected".to_owned()),
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
            Self::Text(_) | Self::List(_) => Err("it is true or false".to_owned()),
        }
    }

    fn list(&self) -> Result<Vec<String>, String> {
        match self {
            Self::List(list) => Ok(list.clone()),
            Self::Text(text) => Ok(parse::list(text)),
            Self::Switch(_) => Err("a list is expected".to_owned()),
        }
    }

    fn globs(&self) -> Result<Vec<String>, String> {
        let checked = |glob: String| parse::glob(&glob).map_err(|why| format!("{glob:?}: {why}"));
        self.list()?.into_iter().map(checked).collect()
    }
}

impl Settings {
    /// Takes one named value. The name is one of the three tables above.
    ///
    /// # Errors
    /// What is wrong with the value; it does not quote it.
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

    /// This layer, and `lower` where it does not say. Who pays is one choice, and so is the
    /// recording: a layer that makes it hides the lower one's whole.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        let pays = self.login.is_some() || self.api_key.is_some() || self.api_key_file.is_some();
        let tapes = self.record.is_some() || self.replay.is_some();
        Self {
            dir: self.dir.or(lower.dir),
            model: self.model.or(lower.model),
            effort: self.effort.or(lower.effort),
            login: self.login.or(lower.login.filter(|_| !pays)),
            api_key: self.api_key.or(lower.api_key.filter(|_| !pays)),
            api_key_file: self.api_key_file.or(lower.api_key_file.filter(|_| !pays)),
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
            record: self.record.or(lower.record.filter(|_| !tapes)),
            replay: self.replay.or(lower.replay.filter(|_| !tapes)),
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

    /// Two of a kind in one layer that clap did not see.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let payers = [self.login.is_some(), self.api_key.is_some(), self.api_key_file.is_some()];
        if payers.into_iter().filter(|given| *given).count() > 1 {
            return Some("login, api_key and api_key_file: at most one of them");
        }
        if self.record.is_some() && self.replay.is_some() {
            return Some("record and replay: at most one of them");
        }
        None
    }
}

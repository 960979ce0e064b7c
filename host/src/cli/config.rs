//! Flag over environment over file over default, resolved once. Pure: files are looked at, and
//! stdin is read, only when the [`Config`] becomes a `SessionSettings`.

use std::path::PathBuf;

use airlock_shared::base::Base;
use airlock_shared::job::Budget;
use airlock_shared::{defaults, limits};

use crate::cli::environment::Environment;
use crate::cli::flags::run::RunArgs;
use crate::cli::settings::Settings;
use crate::failure::Failure;
use crate::session::settings::{
    CredentialsMode, DiskOn, Identity, ImageChoice, ModelSelection, RecordingChoice, SandboxLimits,
    WorkspaceMode,
};

/// The model's name that asks for one at a terminal.
const ASK: &str = "ask";

/// Everything that was said about one run and about how it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub prompt: Prompt,
    /// As given; relative to the current directory.
    pub dir: PathBuf,
    pub pays: LoginChoice,
    /// `None`: the credential's own.
    pub base: Option<Base>,
    pub ca: Option<PathBuf>,
    pub identity: Identity,
    pub model: ModelSelection,
    pub credentials: CredentialsMode,
    pub image: ImageChoice,
    pub workspace: WorkspaceMode,
    pub budget: Budget,
    pub limits: SandboxLimits,
    /// Names alone.
    pub env: Vec<String>,
    pub recording: RecordingChoice,
    pub turn_printer: OutputChoice,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    Typed(String),
    OnStdin,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginChoice {
    /// Nobody said; the login `default`, if there is one.
    Unsaid,
    Login(String),
    /// `--login env`
    Env,
    KeyOnStdin,
    KeyFile(PathBuf),
    Replay,
}

/// How a run is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputChoice {
    pub json: bool,
    pub quiet: bool,
    pub output: Option<PathBuf>,
}

impl LoginChoice {
    /// What pays for a run whose flags do not say, by the standing settings alone.
    #[must_use]
    pub fn standing(settings: &Settings) -> Self {
        Self::of(settings.api_key_file.clone(), settings.login.clone())
    }

    fn of(file: Option<PathBuf>, login: Option<String>) -> Self {
        match (file, login) {
            (Some(file), _) => Self::KeyFile(file),
            (None, Some(name)) if name == "env" => Self::Env,
            (None, Some(name)) => Self::Login(name),
            (None, None) => Self::Unsaid,
        }
    }
}

impl Config {
    /// # Errors
    /// A usage failure for what is missing or does not go together.
    pub fn resolve(
        flags: RunArgs,
        environment: &Environment,
        file: Settings,
    ) -> Result<Self, Failure> {
        let (typed, typed_live) = (of_copies(&flags.settings), flags.settings.live.is_some());
        let settings = flags.settings.over(environment.settings()?).over(file);
        if let (Some(true), Some(typed)) = (settings.live, typed) {
            let reason = format!(
                "with --live the directory itself is in the sandbox and nothing can be left out: \
                 {typed} would do nothing"
            );
            let hint = if typed_live {
                format!("leave out --live, or {typed}")
            } else {
                format!("airlock run --live=false …, or leave out {typed}")
            };
            return Err(Failure::usage(reason).hint(hint));
        }
        let prompt = match flags.prompt.as_deref() {
            None => {
                let failure = Failure::usage("a prompt is missing");
                return Err(failure.hint("airlock run \"say what this directory is\""));
            }
            Some("-") => Prompt::OnStdin,
            Some(text) => Prompt::Typed(checked_prompt(text)?),
        };
        let recording = match (settings.record, settings.replay) {
            (Some(file), _) => RecordingChoice::Record(file),
            (None, Some(file)) => RecordingChoice::Replay(file),
            (None, None) => RecordingChoice::None,
        };
        let credentials = settings.credentials.unwrap_or(CredentialsMode::Relay);
        if credentials == CredentialsMode::Handoff && recording != RecordingChoice::None {
            let reason = "in handoff credentials the model's calls pass the host unseen, so there is \
                          nothing to record or replay";
            return Err(Failure::usage(reason).hint("airlock run --credentials relay …"));
        }
        let pays = match settings.api_key {
            _ if matches!(recording, RecordingChoice::Replay(_)) => LoginChoice::Replay,
            // THREAT: a key on the command line or in a variable is seen by every user of `ps` and
            // every child. Tried by cli::tests::a_key_is_taken_from_stdin_alone.
            Some(key) if key.reveal() != "-" => {
                let reason = "a key that is typed is seen by everybody on this machine: --api-key \
                              takes only `-`, which reads it from stdin";
                return Err(Failure::usage(reason).hint("airlock run --api-key - … < FILE"));
            }
            Some(_) if prompt == Prompt::OnStdin => {
                let reason = "stdin cannot hold both the prompt and the key";
                return Err(
                    Failure::usage(reason).hint("airlock run --api-key-file FILE - < PROMPT")
                );
            }
            Some(_) => LoginChoice::KeyOnStdin,
            None => LoginChoice::of(settings.api_key_file, settings.login),
        };
        let originator = settings.originator.unwrap_or_else(|| defaults::ORIGINATOR.to_owned());
        let version = settings.client_version;
        let version = version.unwrap_or_else(|| defaults::CLIENT_VERSION.to_owned());
        let user_agent = settings.user_agent;
        let ask = settings.model.as_deref() == Some(ASK);
        let default = Budget::default();
        Ok(Self {
            prompt,
            dir: settings.dir.unwrap_or_else(|| PathBuf::from(".")),
            pays,
            base: settings.base_url,
            ca: settings.ca,
            identity: Identity {
                user_agent: user_agent
                    .unwrap_or_else(|| defaults::user_agent(&originator, &version)),
                originator,
                version,
                service_tier: settings.service_tier,
            },
            model: ModelSelection {
                slug: settings.model.filter(|_| !ask),
                ask,
                effort: settings.effort,
                summary: settings.summary,
                verbosity: settings.verbosity,
            },
            credentials,
            image: settings.image.map_or(ImageChoice::Base, ImageChoice::Named),
            workspace: if settings.live.unwrap_or(false) {
                WorkspaceMode::Live
            } else {
                WorkspaceMode::Copy {
                    include: settings.include.unwrap_or_default(),
                    exclude: settings.exclude.unwrap_or_default(),
                    history: !settings.no_history.unwrap_or(false),
                }
            },
            budget: Budget {
                steps: settings.steps.unwrap_or(default.steps),
                tokens: settings.tokens.unwrap_or(default.tokens),
                seconds: settings.seconds.unwrap_or(default.seconds),
            },
            limits: SandboxLimits {
                memory: settings.memory.unwrap_or(defaults::MEMORY_BYTES),
                cpus: settings.cpus.unwrap_or(defaults::CPUS),
                pids: settings.pids.unwrap_or(defaults::PIDS),
                disk: settings.disk.unwrap_or(defaults::DISK_BYTES),
                disk_on: settings.disk_on.unwrap_or(DiskOn::Tmpfs),
            },
            env: settings.env.unwrap_or_default(),
            recording,
            turn_printer: OutputChoice {
                json: settings.json.unwrap_or(false),
                quiet: settings.quiet.unwrap_or(false),
                output: settings.output,
            },
        })
    }
}

/// A flag that says what a copy has. Of standing settings, which may be for other runs, it is no
/// contradiction.
// THREAT: `--live --exclude secrets` is taken for what it says, and commands read the secrets.
// Tried by cli::tests::refused::what_live_cannot_leave_out_is_not_asked_of_it.
fn of_copies(typed: &Settings) -> Option<&'static str> {
    match typed {
        Settings { exclude: Some(_), .. } => Some("--exclude"),
        Settings { include: Some(_), .. } => Some("--include"),
        Settings { no_history: Some(true), .. } => Some("--no-history"),
        _ => None,
    }
}

/// A prompt that can be sent.
///
/// # Errors
/// A usage failure for a blank one and for one over [`limits::PROMPT_BYTES`].
pub fn checked_prompt(text: &str) -> Result<String, Failure> {
    if text.trim().is_empty() {
        let failure = Failure::usage("the prompt is blank");
        return Err(failure.hint("airlock run \"say what this directory is\""));
    }
    if text.len() > limits::PROMPT_BYTES {
        let reason = format!(
            "the prompt is longer than {}",
            crate::text::limit(limits::PROMPT_BYTES as u64)
        );
        let hint = "put the text into a file of the directory and name it in the prompt";
        return Err(Failure::usage(reason).hint(hint));
    }
    Ok(text.to_owned())
}

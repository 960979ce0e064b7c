//! Resolves flag over environment over file over default, once. Pure: files are checked, and stdin is
//! read, only when the [`Config`] becomes a `SessionSettings`.

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

/// The value of `-m` that lets a person choose at a terminal.
const ASK: &str = "ask";

/// All settings of one session and of its output.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub prompt: Prompt,
    /// As given; relative to the current directory.
    pub dir: PathBuf,
    pub login_choice: LoginChoice,
    /// `None`: the one that belongs to the credential.
    pub base: Option<Base>,
    pub ca: Option<PathBuf>,
    pub identity: Identity,
    pub model: ModelSelection,
    pub credentials: CredentialsMode,
    pub image: ImageChoice,
    pub workspace: WorkspaceMode,
    pub budget: Budget,
    pub limits: SandboxLimits,
    /// Only the names.
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
    /// Nothing was named: the login `default`, if there is one.
    Default,
    Login(String),
    /// `--login env`
    Env,
    KeyOnStdin,
    KeyFile(PathBuf),
    Replay,
}

/// How a turn is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputChoice {
    pub json: bool,
    pub quiet: bool,
    pub output: Option<PathBuf>,
}

impl LoginChoice {
    /// The credential of `airlock run` without flags: from the environment and the file.
    #[must_use]
    pub fn configured(settings: &Settings) -> Self {
        Self::from_settings(settings.api_key_file.clone(), settings.login.clone())
    }

    fn from_settings(file: Option<PathBuf>, login: Option<String>) -> Self {
        match (file, login) {
            (Some(file), _) => Self::KeyFile(file),
            (None, Some(name)) if name == "env" => Self::Env,
            (None, Some(name)) => Self::Login(name),
            (None, None) => Self::Default,
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
        let (typed, typed_live) = (copy_only_flag(&flags.settings), flags.settings.live.is_some());
        let settings = flags.settings.over(environment.settings()?).over(file);
        if let (Some(true), Some(typed)) = (settings.live, typed) {
            let reason = format!(
                "--live puts the directory itself into the sandbox, so nothing can be left out: \
                 {typed} has no effect"
            );
            let hint = if typed_live {
                format!("remove --live, or remove {typed}")
            } else {
                format!("airlock run --live=false …, or remove {typed}")
            };
            return Err(Failure::usage(reason).hint(hint));
        }
        let prompt = match flags.prompt.as_deref() {
            None => {
                let failure = Failure::usage("the prompt is missing");
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
            let reason = "with --credentials handoff the host does not see the model requests, so it \
                          cannot record or replay them";
            return Err(Failure::usage(reason).hint("airlock run --credentials relay …"));
        }
        let login_choice = match settings.api_key {
            _ if matches!(recording, RecordingChoice::Replay(_)) => LoginChoice::Replay,
            // THREAT: a key in an argument or a variable can be read by every user of `ps` and by
            // every child. Tried by cli::tests::a_key_is_taken_from_stdin_alone.
            Some(key) if key.reveal() != "-" => {
                let reason = "every user of this machine can see a key in an argument: --api-key \
                              accepts only `-`, which reads the key from stdin";
                return Err(Failure::usage(reason).hint("airlock run --api-key - … < FILE"));
            }
            Some(_) if prompt == Prompt::OnStdin => {
                let reason = "stdin cannot hold both the prompt and the key";
                return Err(
                    Failure::usage(reason).hint("airlock run --api-key-file FILE - < PROMPT")
                );
            }
            Some(_) => LoginChoice::KeyOnStdin,
            None => LoginChoice::from_settings(settings.api_key_file, settings.login),
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
            login_choice,
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

/// The first typed flag that has an effect only on a copy. In the environment and the file such
/// settings are no error, because they may be for other sessions.
// THREAT: a person relies on `--live --exclude secrets`, and commands read the secrets. Tried by
// cli::tests::refused::a_flag_that_has_no_effect_with_live_is_an_error.
fn copy_only_flag(typed: &Settings) -> Option<&'static str> {
    match typed {
        Settings { exclude: Some(_), .. } => Some("--exclude"),
        Settings { include: Some(_), .. } => Some("--include"),
        Settings { no_history: Some(true), .. } => Some("--no-history"),
        _ => None,
    }
}

/// Checks a prompt.
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
        let hint = "put the text into a file in the directory and name the file in the prompt";
        return Err(Failure::usage(reason).hint(hint));
    }
    Ok(text.to_owned())
}

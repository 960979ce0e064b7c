//! A complete session without an account and a network: the model's answers come from a recording
//! in the program. The sandbox, the commands, the patch and the tests are real.
//!
//! Afterwards a second session runs the tests in a new sandbox on the applied changes, so that the
//! proof does not depend on what the first sandbox reported.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use airlock_shared::base::Base;
use airlock_shared::defaults;
use airlock_shared::job::Budget;
use airlock_shared::outcome::{Fault, Outcome};

use crate::clock;
use crate::session::public::{EventLine, PublicEvent};
use crate::session::settings::{
    BaseChoice, CredentialChoice, CredentialsMode, DiskOn, ImageChoice, ModelSelection,
    RecordingChoice, SandboxLimits, SessionSettings, WorkspaceMode,
};
use crate::session::{self, HostContext, Stop};
use crate::setup::proof;
use crate::workspace;

const REPOSITORY: [(&str, &str); 4] = [
    ("README.md", include_str!("repository/README.md")),
    ("AGENTS.md", include_str!("repository/AGENTS.md")),
    ("pad.py", include_str!("repository/pad.py")),
    ("test_pad.py", include_str!("repository/test_pad.py")),
];
/// A model that fixes the repository, recorded once.
const FIX: &str = include_str!("fix.recording.jsonl");
/// A model that runs the tests once.
const CHECK: &str = include_str!("check.recording.jsonl");

/// The prompt of the first session.
pub const PROMPT: &str = "make the tests pass; say what was wrong";

/// Why the demo has failed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("the changes could not be applied: {0}")]
    NotApplied(String),
    #[error("the second sandbox: {0}")]
    Sandbox(Fault),
    /// The exit code of the tests, if there was one.
    #[error("the tests do not pass in a new sandbox on the applied changes")]
    Tests(Option<i32>),
}

/// The demo's directory. Dropping it deletes the directory.
pub struct Demo {
    directory: tempfile::TempDir,
}

impl Demo {
    /// Writes the repository and the recordings to a temporary directory.
    ///
    /// # Errors
    /// The directory cannot be created.
    pub fn unpack() -> io::Result<Self> {
        Self::with(FIX)
    }

    fn with(fix: &str) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("airlock-demo-").tempdir()?;
        let repository = directory.path().join("repository");
        std::fs::create_dir(&repository)?;
        for (name, text) in REPOSITORY {
            std::fs::write(repository.join(name), text)?;
        }
        std::fs::write(directory.path().join("fix.jsonl"), fix)?;
        std::fs::write(directory.path().join("check.jsonl"), CHECK)?;
        Ok(Self { directory })
    }

    /// The settings of the session that fixes the repository.
    #[must_use]
    pub fn settings(&self) -> SessionSettings {
        self.settings_for(PROMPT, "fix.jsonl")
    }

    /// Applies the session's changes to the copy of the repository, and runs its tests in a new
    /// sandbox. Gives the number of applied files.
    ///
    /// # Errors
    /// The changes cannot be applied, or the tests do not pass.
    pub async fn prove(
        &self,
        context: &HostContext,
        stop: &Stop,
        session: &str,
    ) -> Result<usize, DemoError> {
        let not_applied = |error: &dyn std::error::Error| DemoError::NotApplied(error.to_string());
        let directory = context.store.find(session).map_err(|error| not_applied(&error))?;
        let applied = workspace::apply(&directory).map_err(|error| not_applied(&error))?.done.len();
        directory.record_applied(clock::now()).map_err(|error| not_applied(&error))?;
        let mut tests = None;
        let mut on_event = |line: &EventLine| {
            if let PublicEvent::CallEnded(call) = &line.what {
                tests = call.exit;
            }
        };
        let check = self.settings_for("run the tests", "check.jsonl");
        match session::run(check, context, stop, None, &mut on_event)
            .await
            .map_err(|failed| DemoError::Sandbox(failed.fault))?
            .outcome
        {
            Outcome::Finished { .. } if tests == Some(0) => Ok(applied),
            Outcome::Failed { fault } => Err(DemoError::Sandbox(fault)),
            _ => Err(DemoError::Tests(tests)),
        }
    }

    fn settings_for(&self, prompt: &str, recording: &str) -> SessionSettings {
        let at = |name: &str| self.directory.path().join(Path::new(name));
        SessionSettings {
            prompt: prompt.to_owned(),
            dir: at("repository"),
            credential: CredentialChoice::Replay,
            base: Base::parse(defaults::API_BASE).map_or(BaseChoice::OfLogin, BaseChoice::Named),
            ca: None,
            identity: proof::identity(),
            model: ModelSelection::default(),
            credentials: CredentialsMode::Relay,
            image: ImageChoice::Base,
            workspace: WorkspaceMode::Copy {
                include: Vec::new(),
                exclude: Vec::new(),
                history: true,
            },
            budget: Budget { seconds: 120, ..Budget::default() },
            limits: SandboxLimits {
                memory: 512 << 20,
                cpus: defaults::CPUS,
                pids: defaults::PIDS,
                disk: 64 << 20,
                disk_on: DiskOn::Tmpfs,
            },
            env: BTreeMap::new(),
            recording: RecordingChoice::Replay(at(recording)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Docker, EngineChoice};
    use crate::exit::Exit;
    use crate::records::SessionStore;
    use crate::workspace::Private;

    /// Whether the demo succeeds with this recording.
    async fn succeeds(fix: &str) -> bool {
        let docker = Docker::connect(&EngineChoice::from_environment()).await;
        let docker = docker.expect("this test needs a Docker engine");
        let state = tempfile::tempdir().expect("a directory");
        let store = SessionStore::open(state.path()).expect("a store");
        let logins = state.path().join("logins");
        let private = Private::default().folder(state.path());
        let context = HostContext { docker, store, logins, private, owner: "test".to_owned() };
        let demo = Demo::with(fix).expect("a demo");
        let stop = Stop::default();
        let done = session::run(demo.settings(), &context, &stop, None, &mut |_| ())
            .await
            .expect("a session");
        done.exit == Exit::Finished && demo.prove(&context, &stop, &done.session).await.is_ok()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_changed_byte_in_the_patch_makes_the_demo_fail() {
        assert!(succeeds(FIX).await, "the demo as it ships");
        let (from, to) = ("-    if not text:", "-    if not text;");
        for nth in 0..FIX.matches(from).count() {
            let (at, _) = FIX.match_indices(from).nth(nth).expect("counted");
            let changed = format!("{}{to}{}", &FIX[..at], &FIX[at + from.len()..]);
            assert!(!succeeds(&changed).await, "occurrence {nth} in the patch was changed");
        }
    }
}

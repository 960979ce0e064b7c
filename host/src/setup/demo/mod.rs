//! A whole run without an account and without a network: the model's answers come from a recording
//! that ships with the program. The sandbox, the commands, the patch and the tests are real.
//!
//! The check afterwards is a run of its own, in a fresh sandbox on what was applied, so that nothing
//! the first sandbox said counts.

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
/// What the model answered when the demo was recorded.
const MEND: &str = include_str!("mend.recording.jsonl");
/// A model that runs the tests once and says so.
const CHECK: &str = include_str!("check.recording.jsonl");

/// What the run is asked to do.
pub const PROMPT: &str = "make the tests pass; say what was wrong";

/// Why the demo proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("what the run changed could not be applied: {0}")]
    NotApplied(String),
    #[error("the second sandbox: {0}")]
    Box(Fault),
    /// The exit code, if there was one.
    #[error("the tests do not pass in a fresh sandbox on what was applied")]
    Tests(Option<i32>),
}

/// The demo's folder: gone when it is dropped.
pub struct Demo {
    folder: tempfile::TempDir,
}

impl Demo {
    /// # Errors
    /// The folder cannot be made.
    pub fn unpack() -> io::Result<Self> {
        Self::with(MEND)
    }

    fn with(mend: &str) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("airlock-demo-").tempdir()?;
        let repository = folder.path().join("repository");
        std::fs::create_dir(&repository)?;
        for (name, text) in REPOSITORY {
            std::fs::write(repository.join(name), text)?;
        }
        std::fs::write(folder.path().join("mend.jsonl"), mend)?;
        std::fs::write(folder.path().join("check.jsonl"), CHECK)?;
        Ok(Self { folder })
    }

    /// The run that mends the repository.
    #[must_use]
    pub fn run(&self) -> SessionSettings {
        self.settings(PROMPT, "mend.jsonl")
    }

    /// Applies what the run changed to the copy of the repository, and runs its tests in a fresh
    /// sandbox. Gives how many files were applied.
    ///
    /// # Errors
    /// Why it proves nothing.
    pub async fn prove(
        &self,
        context: &HostContext,
        stop: &Stop,
        run: &str,
    ) -> Result<usize, DemoError> {
        let kept = |error: &dyn std::error::Error| DemoError::NotApplied(error.to_string());
        let folder = context.store.find(run).map_err(|error| kept(&error))?;
        let applied = workspace::apply(&folder).map_err(|error| kept(&error))?.done.len();
        folder.record_applied(clock::now()).map_err(|error| kept(&error))?;
        let mut tests = None;
        let mut hear = |line: &EventLine| {
            if let PublicEvent::CallEnded(call) = &line.what {
                tests = call.exit;
            }
        };
        let check = self.settings("run the tests", "check.jsonl");
        match session::run(check, context, stop, None, &mut hear)
            .await
            .map_err(|broken| DemoError::Box(broken.fault))?
            .outcome
        {
            Outcome::Finished { .. } if tests == Some(0) => Ok(applied),
            Outcome::Failed { fault } => Err(DemoError::Box(fault)),
            _ => Err(DemoError::Tests(tests)),
        }
    }

    fn settings(&self, prompt: &str, recording: &str) -> SessionSettings {
        let at = |name: &str| self.folder.path().join(Path::new(name));
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

    /// Whether the demo proves something with this recording.
    async fn proves(mend: &str) -> bool {
        let docker = Docker::connect(&EngineChoice::from_environment()).await;
        let docker = docker.expect("this test needs a Docker engine");
        let state = tempfile::tempdir().expect("a folder");
        let store = SessionStore::open(state.path()).expect("a store");
        let logins = state.path().join("logins");
        let private = Private::default().folder(state.path());
        let context = HostContext { docker, store, logins, private, owner: "test".to_owned() };
        let demo = Demo::with(mend).expect("a demo");
        let stop = Stop::default();
        let done =
            session::run(demo.run(), &context, &stop, None, &mut |_| ()).await.expect("a run");
        done.exit == Exit::Finished && demo.prove(&context, &stop, &done.run).await.is_ok()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_changed_byte_in_the_patch_makes_the_demo_fail() {
        assert!(proves(MEND).await, "the demo as it ships");
        let (from, to) = ("-    if not text:", "-    if not text;");
        for nth in 0..MEND.matches(from).count() {
            let (at, _) = MEND.match_indices(from).nth(nth).expect("counted");
            let changed = format!("{}{to}{}", &MEND[..at], &MEND[at + from.len()..]);
            assert!(!proves(&changed).await, "the patch changed where it stands for time {nth}");
        }
    }
}

//! A whole run without an account and without a network: the model's answers come from a recording
//! that ships with the program. The box, the commands, the patch and the tests are real.
//!
//! The check afterwards is a run of its own, in a fresh box on what was applied, so that nothing
//! the first box said counts.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use airlock_shared::base::Base;
use airlock_shared::defaults;
use airlock_shared::job::Budget;
use airlock_shared::outcome::{Fault, Outcome};

use crate::clock;
use crate::run::public::{Line, Public};
use crate::run::spec::{
    BaseChoice, BoxLimits, Cassette, CredentialChoice, Custody, DiskOn, ImageChoice, ModelWish,
    Spec, Tree,
};
use crate::run::{self, House, Stop};
use crate::setup::proof;
use crate::workspace;

const REPOSITORY: [(&str, &str); 4] = [
    ("README.md", include_str!("repository/README.md")),
    ("AGENTS.md", include_str!("repository/AGENTS.md")),
    ("pad.py", include_str!("repository/pad.py")),
    ("test_pad.py", include_str!("repository/test_pad.py")),
];
/// What the model answered when the demo was recorded.
const MEND: &str = include_str!("mend.cassette.jsonl");
/// A model that runs the tests once and says so.
const CHECK: &str = include_str!("check.cassette.jsonl");

/// What the run is asked to do.
pub const PROMPT: &str = "make the tests pass; say what was wrong";

/// Why the demo proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum Unproven {
    #[error("what the run changed could not be applied: {0}")]
    NotApplied(String),
    #[error("the second box: {0}")]
    Box(Fault),
    /// The exit code, if there was one.
    #[error("the tests do not pass in a fresh box on what was applied")]
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
    pub fn run(&self) -> Spec {
        self.spec(PROMPT, "mend.jsonl")
    }

    /// Applies what the run changed to the copy of the repository, and runs its tests in a fresh
    /// box. Gives how many files were applied.
    ///
    /// # Errors
    /// Why it proves nothing.
    pub async fn prove(&self, house: &House, stop: &Stop, run: &str) -> Result<usize, Unproven> {
        let kept = |error: &dyn std::error::Error| Unproven::NotApplied(error.to_string());
        let folder = house.store.find(run).map_err(|error| kept(&error))?;
        let applied = workspace::apply(&folder).map_err(|error| kept(&error))?.done.len();
        folder.record_applied(clock::now()).map_err(|error| kept(&error))?;
        let mut tests = None;
        let mut hear = |line: &Line| {
            if let Public::CallEnded(call) = &line.what {
                tests = call.exit;
            }
        };
        let check = self.spec("run the tests", "check.jsonl");
        match run::run(check, house, stop, None, &mut hear)
            .await
            .map_err(|broken| Unproven::Box(broken.fault))?
            .outcome
        {
            Outcome::Finished { .. } if tests == Some(0) => Ok(applied),
            Outcome::Failed { fault } => Err(Unproven::Box(fault)),
            _ => Err(Unproven::Tests(tests)),
        }
    }

    fn spec(&self, prompt: &str, cassette: &str) -> Spec {
        let at = |name: &str| self.folder.path().join(Path::new(name));
        Spec {
            prompt: prompt.to_owned(),
            dir: at("repository"),
            credential: CredentialChoice::Replay,
            base: Base::parse(defaults::API_BASE).map_or(BaseChoice::OfLogin, BaseChoice::Named),
            ca: None,
            identity: proof::identity(),
            model: ModelWish::default(),
            custody: Custody::Relay,
            image: ImageChoice::Base,
            tree: Tree::Copy { include: Vec::new(), exclude: Vec::new(), history: true },
            budget: Budget { seconds: 120, ..Budget::default() },
            limits: BoxLimits {
                memory: 512 << 20,
                cpus: defaults::CPUS,
                pids: defaults::PIDS,
                disk: 64 << 20,
                disk_on: DiskOn::Tmpfs,
            },
            env: BTreeMap::new(),
            cassette: Cassette::Replay(at(cassette)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Docker, EngineChoice};
    use crate::exit::Exit;
    use crate::session::Store;
    use crate::workspace::Private;

    /// Whether the demo proves something with this recording.
    async fn proves(mend: &str) -> bool {
        let docker = Docker::connect(&EngineChoice::from_environment()).await;
        let docker = docker.expect("this test needs a Docker engine");
        let state = tempfile::tempdir().expect("a folder");
        let store = Store::open(state.path()).expect("a store");
        let logins = state.path().join("logins");
        let private = Private::default().folder(state.path());
        let house = House { docker, store, logins, private, owner: "test".to_owned() };
        let demo = Demo::with(mend).expect("a demo");
        let stop = Stop::default();
        let done = run::run(demo.run(), &house, &stop, None, &mut |_| ()).await.expect("a run");
        done.exit == Exit::Finished && demo.prove(&house, &stop, &done.run).await.is_ok()
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

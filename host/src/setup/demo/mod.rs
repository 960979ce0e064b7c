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

use crate::run::spec::{
    BaseChoice, BoxLimits, Cassette, CredentialChoice, Custody, DiskOn, Identity, ImageChoice,
    ModelWish, Spec, Tree,
};

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

/// The demo's folder: gone when it is dropped.
pub struct Demo {
    folder: tempfile::TempDir,
}

impl Demo {
    /// # Errors
    /// The folder cannot be made.
    pub fn unpack() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("airlock-demo-").tempdir()?;
        let repository = folder.path().join("repository");
        std::fs::create_dir(&repository)?;
        for (name, text) in REPOSITORY {
            std::fs::write(repository.join(name), text)?;
        }
        std::fs::write(folder.path().join("mend.jsonl"), MEND)?;
        std::fs::write(folder.path().join("check.jsonl"), CHECK)?;
        Ok(Self { folder })
    }

    /// The run that mends the repository.
    #[must_use]
    pub fn run(&self) -> Spec {
        self.spec(PROMPT, "mend.jsonl")
    }

    /// The run that only runs the tests.
    #[must_use]
    pub fn check(&self) -> Spec {
        self.spec("run the tests", "check.jsonl")
    }

    fn spec(&self, prompt: &str, cassette: &str) -> Spec {
        let at = |name: &str| self.folder.path().join(Path::new(name));
        Spec {
            prompt: prompt.to_owned(),
            dir: at("repository"),
            credential: CredentialChoice::Replay,
            base: Base::parse(defaults::API_BASE).map_or(BaseChoice::OfLogin, BaseChoice::Named),
            ca: None,
            identity: Identity {
                originator: defaults::ORIGINATOR.to_owned(),
                version: defaults::CLIENT_VERSION.to_owned(),
                user_agent: defaults::user_agent(defaults::ORIGINATOR, defaults::CLIENT_VERSION),
                service_tier: None,
            },
            model: ModelWish::default(),
            custody: Custody::Relay,
            image: ImageChoice::Base,
            tree: Tree::Copy { include: Vec::new(), exclude: Vec::new() },
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

//! How an attack is tried: in a container as everybody starts one, where it must work or the test
//! sees nothing, and in a sandbox of ours, where it must not.
//!
//! An attack is a few calls of `bash`. Each says `tried` when it has come to its end, and calls
//! `works` when it has done harm.

use std::time::Duration;

use airlock_tests::backend::{Script, answer, call};
use airlock_tests::engine::{Container, Engine};
use airlock_tests::rig::{PATIENCE, Ran};
use airlock_tests::{Rig, clock};
use serde_json::{Value, json};

use crate::hostile;

/// What `works` prints. Spelled in two there, so that an error that quotes a call is no success.
const WORKS: &str = "it works";
const TRIED: &str = "it was tried";
const PREAMBLE: &str = "works() { printf 'it %s\\n' works; }; tried() { printf 'it was %s\\n' tried; }; trap tried EXIT; runner=$PPID;\n";

/// What everybody writes first: the key in the environment, a descriptor forgotten, commands as
/// children of the same user. It is not PID 1, which the kernel protects from its own.
const RUNNER: &str = "exec 7<>/tmp/seven; echo \"$CANARY\" >&7
    for call in \"$@\"; do bash -c \"$call\" 2>&1; done; echo the runner ended";
const FIRST: &str = "bash -c \"$RUNNER\" runner \"$@\"; sleep 600";

/// Something to try.
pub(crate) struct Attack {
    calls: Vec<String>,
    flags: Vec<String>,
    control: Vec<String>,
    settings: Value,
    /// What shows without our confinement that it did harm.
    harm: &'static str,
}

/// Calls of `bash`, one after the other.
pub(crate) fn attack(calls: &[&str]) -> Attack {
    let calls: Vec<String> = calls.iter().map(|&call| format!("{PREAMBLE}{call}")).collect();
    Attack { control: calls.clone(), calls, flags: Vec::new(), settings: json!({}), harm: WORKS }
}

impl Attack {
    /// Flags of the run.
    pub(crate) fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }

    /// What stands for it outside of a sandbox of ours, where the same words would not do.
    pub(crate) fn control(mut self, calls: &[&str]) -> Self {
        self.control = calls.iter().map(|&call| format!("{PREAMBLE}{call}")).collect();
        self
    }

    /// How the container without our confinement is set up beyond what Docker does by itself.
    pub(crate) fn unconfined(mut self, settings: Value) -> Self {
        self.settings = settings;
        self
    }

    /// By what words its harm is noticed there, where nothing is left that could call `works`.
    pub(crate) fn noticed_by(mut self, harm: &'static str) -> Self {
        self.harm = harm;
        self
    }

    /// Works without our confinement, does not in a sandbox of ours. The run, to look further.
    pub(crate) async fn works_only_elsewhere(self) -> Ran {
        let said = self.without_us().await;
        assert!(said.contains(self.harm), "blind: it does not even work without us: {said}");
        self.fails_in_ours().await
    }

    /// Does not work in a sandbox of ours.
    pub(crate) async fn fails_in_ours(self) -> Ran {
        let ran = self.in_ours().await;
        let outputs = ran.outputs();
        assert_eq!(outputs.len(), self.calls.len(), "{outputs:#?}");
        for (call, output) in self.calls.iter().zip(&outputs) {
            assert!(output.contains(TRIED), "it was not tried: {call}\n{output}");
            assert!(!output.contains(WORKS), "it worked: {call}\n{output}");
        }
        ran
    }

    /// Works in a sandbox of ours too: the one that shows that this suite sees.
    pub(crate) async fn works_everywhere(self) {
        let said = self.without_us().await;
        assert!(said.contains(WORKS), "{said}");
        let outputs = self.in_ours().await.outputs();
        let sees = outputs.iter().all(|said| said.contains(WORKS) && said.contains(TRIED));
        assert!(sees && !outputs.is_empty(), "this suite is blind: {outputs:#?}");
    }

    /// The run with it, which must not be harmed by it.
    pub(crate) async fn in_ours(&self) -> Ran {
        let bash =
            |script: &String| call("bash", json!({"command": script, "timeout_seconds": 60}));
        let mut steps: Vec<_> = self.calls.iter().map(bash).collect();
        steps.push(answer("done"));
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        let rig = Rig::new().image(hostile::image().await).flags(&flags);
        let ran = rig.model(Script(steps)).prompt("x").run().await;
        ran.assert_finished("done").assert_nothing_left_behind().await
    }

    /// What it says where nobody confines it.
    async fn without_us(&self) -> String {
        let engine = Engine::connect().await;
        let container = self.started(&engine).await;
        let deadline = clock::now() + PATIENCE;
        let said = loop {
            let said = container.said().await;
            let is_over = said.contains("the runner ended") || said.contains(self.harm);
            if is_over || clock::now() > deadline {
                break said;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        container.remove().await;
        said
    }

    pub(crate) async fn started(&self, engine: &Engine) -> Container {
        let image = hostile::image().await;
        let mut command = vec!["/bin/bash", "-c", FIRST, "first"];
        command.extend(self.control.iter().map(String::as_str));
        // Docker's own terms, but for what a machine of its owner's may be hardened with, and for
        // bounds that keep this machine whole.
        let mut host = json!({
            "CapAdd": ["SYS_PTRACE"], "Memory": 512 << 20, "PidsLimit": 400,
            "CpuQuota": 100_000, "CpuPeriod": 100_000,
        });
        if let (Some(host), Value::Object(settings)) = (host.as_object_mut(), &self.settings) {
            host.extend(settings.clone());
        }
        let differences = json!({
            "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "CANARY=sk-everybody-hands-it-over-so", format!("RUNNER={RUNNER}")],
            "HostConfig": host,
        });
        engine.start(image, &command, differences).await
    }
}

#[tokio::test]
async fn the_suite_sees_an_attack_that_works() {
    attack(&["cat /proc/self/environ /proc/$$/mem >/dev/null; [ -s /proc/self/environ ]; grep -qa PATH /proc/self/environ && works"])
        .works_everywhere()
        .await;
}

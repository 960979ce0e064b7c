//! A process that the kernel does not end, as one that waits for a broken disk: frozen from outside.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use airlock_tests::backend::{answer, call, script};
use airlock_tests::rig::{Live, Ran};
use airlock_tests::{Rig, clock};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// Two that sleep: the one that the command waits for, and before it one that it leaves behind.
const LEAVES: &str = "setsid sleep 600 >/dev/null 2>&1 & sleep 600; true";

/// A group of processes that is frozen until this is dropped.
struct Frozen(PathBuf);

impl Frozen {
    /// `None` where the kernel has no such groups: those of cgroup v2 are ended all the same.
    fn pid(pid: i32) -> Option<Self> {
        let freezer = PathBuf::from("/sys/fs/cgroup/freezer");
        let group = freezer.join(format!("airlock-test-{:016x}", rand::random::<u64>()));
        fs::create_dir(&group).ok()?;
        let frozen = Self(group);
        frozen.write("cgroup.procs", &pid.to_string());
        frozen.write("freezer.state", "FROZEN");
        Some(frozen)
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.0.join(file), text).expect("these tests need root");
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.write("freezer.state", "THAWED");
        // It takes a moment to end. A group that stays is empty, and harms no one.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The pids of both, the first first.
async fn sleepers(live: &mut Live) -> [i32; 2] {
    live.event("call_started").await;
    let container = live.container().await;
    let deadline = clock::now() + Duration::from_secs(20);
    loop {
        let all = live.engine.processes(&container).await;
        let mut pids: Vec<i32> =
            all.into_iter().filter(|(_, name)| name == "sleep").map(|(pid, _)| pid).collect();
        pids.sort_unstable();
        if let Ok(both) = pids.try_into() {
            return both;
        }
        assert!(clock::now() < deadline, "they do not sleep");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The command ends, and what it left is frozen or not. `None` where nothing can be frozen.
async fn ended(freeze: bool) -> Option<Ran> {
    let script = script![call("bash", json!({"command": LEAVES})), answer("done")];
    let mut live = Rig::new().model(script).prompt("x").start().await;
    let [left, awaited] = sleepers(&mut live).await;
    let frozen = if freeze { Frozen::pid(left) } else { None };
    let can_be_tried = frozen.is_some() || !freeze;
    kill_process(Pid::from_raw(awaited)?, Signal::TERM).expect("these tests need root");
    live.event("call_ended").await;
    // The container cannot end before it does.
    drop(frozen);
    let ran = live.end().await.assert_nothing_left_behind().await;
    can_be_tried.then_some(ran)
}

#[tokio::test]
async fn what_a_command_leaves_and_no_one_can_end_ends_the_turn() {
    let swept = ended(false).await.expect("nothing is frozen");
    assert_eq!(swept.assert_finished("done").backend.model_requests().len(), 2);

    let Some(left) = ended(true).await else { return };
    let outcome = left.outcome();
    // The sandbox alone can know it: its word, and so exit 1.
    assert_eq!((&outcome["outcome"], &outcome["fault"]), (&json!("failed"), &json!("claimed")));
    let message = outcome["message"].as_str().unwrap_or_default();
    assert!(message.contains("1 process of a command could not be ended"), "{outcome}");
    assert_eq!(left.exit, Some(1));
    assert_eq!(left.backend.model_requests().len(), 1);
}

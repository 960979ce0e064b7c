//! A command that does not end by itself and does not listen to polite signals, nor does its child.

use airlock_tests::Rig;
use airlock_tests::backend::{answer, call, script};
use airlock_tests::rig::Live;
use serde_json::json;

/// Writes a file, then blocks; a child has a session of its own and ignores every polite signal.
pub(crate) const STUBBORN: &str = "trap \"\" TERM; echo kept > made; \
    setsid sh -c 'trap \"\" TERM INT HUP; sleep 601' & sleep 601";

/// A run whose command and its child have come to where they block.
pub(crate) async fn blocked(rig: Rig) -> Live {
    let script = script![call("bash", json!({"command": STUBBORN})), answer("never said")];
    let mut live = rig.model(script).prompt("x").start().await;
    live.event("call_started").await;
    live.processes("sleep 601", 2).await;
    live
}

//! Cancelled, terminated, killed: nothing is left behind, and other people's things are left alone.

use airlock_tests::Rig;
use airlock_tests::backend::{answer, call, script};
use airlock_tests::engine::Engine;
use airlock_tests::images::{self, BUSYBOX};
use rustix::process::Signal;
use serde_json::json;

use crate::blocked::blocked;

async fn ended_by(signal: Signal, exit: i32, rig: Rig) {
    let live = blocked(rig).await;
    live.signal(signal);
    // Neither the command nor the backend would ever end it.
    let ran = live.end().await;
    let ran = ran.assert_exit(exit, "").assert_nothing_left_behind().await;
    let diff = ran.rig.command("diff").await.arg(ran.id()).output().await.expect("airlock");
    let diff = String::from_utf8_lossy(&diff.stdout).into_owned();
    assert!(diff.contains("made") && diff.contains("kept"), "{diff}");
}

in_both_custodies! {
    #[tokio::test]
    async fn ctrl_c_ends_and_keeps_the_changes(rig: Rig) {
        ended_by(Signal::INT, 130, rig).await;
    }

    #[tokio::test]
    async fn sigterm_ends_and_keeps_the_changes(rig: Rig) {
        ended_by(Signal::TERM, 143, rig).await;
    }
}

/// Forty thousand files and one of 200 MiB that git does not ignore, as many that it does, and a
/// fix of one line: Ctrl-C leaves no time for all of it, and the fix comes out. A machine that is busy
/// enough leaves no time for anything, and then that is told; so it is tried again.
#[tokio::test]
async fn ctrl_c_brings_the_fix_out_before_what_is_derived() {
    let make = "mkdir many ignored; echo ignored > .gitignore; echo fixed > a; cd many; \
        seq 40000 | xargs touch; cd ../ignored; seq 40000 | xargs touch; cd ..; \
        head -c 209715200 /dev/zero > large";
    for _ in 0..8 {
        let limits = ["--memory", "1GiB", "--disk", "512MiB"];
        let rig = Rig::new().files(&[("a", "broken\n")]).flags(&limits);
        let script = script![
            call("bash", json!({"command": make})),
            call("bash", json!({"command": "sleep 600"})),
            answer("never said"),
        ];
        let mut live = rig.model(script).prompt("x").start().await;
        live.until("the second command", |live| {
            let started = live.events().into_iter();
            let started = started.filter(|event| event["event"] == "call_started");
            (started.count() == 2).then_some(())
        })
        .await;
        live.signal(Signal::INT);
        let ran = live.end().await.assert_exit(130, "").assert_nothing_left_behind().await;
        if ran.outcome()["changes"] == "lost" {
            assert_eq!(ran.record().await["changes_are"], "lost");
            continue;
        }
        assert_eq!(ran.outcome()["changes"], "kept", "{}", ran.outcome());
        let stat = ran.airlock("apply", &[]).await;
        assert_eq!(stat.exit, Some(0), "{stat:#?}");
        let here = std::fs::read_to_string(ran.rig.workspace().join("a"));
        assert_eq!(here.expect("a file of the test's"), "fixed\n");
        return;
    }
    panic!("the fix never comes out");
}

/// The catalogue is awaited while the sandbox is made: there is a sandbox, and no answer.
#[tokio::test]
async fn ctrl_c_while_it_starts_ends() {
    let rig = Rig::new().backend(|backend| backend.catalogue = serde_json::Value::Null);
    let mut live = rig.model(script![]).prompt("x").start().await;
    drop(live.container().await);
    live.signal(Signal::INT);
    let ran = live.end().await;
    let ran = ran.assert_exit(130, "").assert_nothing_left_behind().await;
    assert_eq!(ran.outcome()["changes"], "none");
}

/// A second run of the same home starts, and sweeps, while the first one works.
#[tokio::test]
async fn a_sibling_of_the_same_install_is_not_swept() {
    let first = blocked(Rig::new()).await;
    let second = first.rig().beside().model(script![answer("quick")]).prompt("y").run().await;
    drop(second.assert_finished("quick"));
    assert_eq!(first.containers().await.len(), 1, "the second start took the first one's sandbox");
    first.signal(Signal::INT);
    drop(first.end().await.assert_exit(130, "").assert_nothing_left_behind().await);
}

/// The sandbox of a killed host ends by itself; what is left of it goes with the next start. A run that
/// lives, and containers that are not ours, are left alone by both.
#[tokio::test]
async fn a_killed_host_leaves_nothing_a_sibling_lives_and_strangers_are_left_alone() {
    let engine = Engine::connect().await;
    images::ready(&engine).await;
    let stranger = engine.start(BUSYBOX, &["/bin/sleep", "600"], json!({})).await;
    let sibling = blocked(Rig::new()).await;
    let beside = || sibling.rig().beside();
    let alive = sibling.containers().await;
    let killed = blocked(beside()).await;
    let both = killed.containers().await;
    let dead = both.iter().find(|id| !alive.contains(id)).expect("the second sandbox").clone();
    killed.signal(Signal::KILL);
    let killed = killed.end().await;
    assert_eq!(killed.exit, None);
    engine.ended(&dead).await;

    let next = beside().model(script![answer("quick")]).prompt("y").run().await;
    drop(next.assert_finished("quick"));
    assert_eq!(sibling.containers().await, alive, "the dead one swept, the living one kept");
    sibling.signal(Signal::INT);
    let ran = sibling.end().await;
    let strangers = engine.is_running(&stranger.id).await;
    stranger.remove().await;
    assert!(strangers, "somebody else's container was touched");
    drop(ran.assert_exit(130, "").assert_nothing_left_behind().await);
}

/// A copy of the state directory (a backup, an image, a cache) has the same install's id. It takes
/// nothing that lives, and `doctor` there says what it leaves.
#[tokio::test]
async fn a_copied_state_directory_takes_no_live_container() {
    let first = blocked(Rig::new()).await;
    let alive = first.containers().await;
    let second = Rig::new();
    let mut copied = tokio::process::Command::new("cp");
    copied.arg("-a").arg(first.rig().home().join("state")).arg(second.home());
    assert!(copied.status().await.expect("cp is everywhere").success());
    let install = |rig: &Rig| std::fs::read_to_string(rig.home().join("state/airlock/install"));
    assert_eq!(install(&second).expect("copied"), install(first.rig()).expect("made"));

    let ran = second.model(script![answer("quick")]).prompt("y").run().await;
    let ran = ran.assert_finished("quick");
    assert_eq!(first.containers().await, alive, "the copy took a container that lives");
    let doctor = ran.rig.command("doctor").await.output().await.expect("airlock");
    let said = String::from_utf8_lossy(&doctor.stderr).into_owned();
    assert!(
        said.contains("leftovers") && said.contains("docker rm --force --volumes airlock-"),
        "{said}"
    );
    first.signal(Signal::INT);
    drop(first.end().await.assert_exit(130, "").assert_nothing_left_behind().await);
}

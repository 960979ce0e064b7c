//! Two sandboxes on one engine: neither sees the other, nor takes what the other needs.

use airlock_tests::Rig;
use airlock_tests::backend::{answer, call, script};
use airlock_tests::engine::Engine;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::attack::attack;
use crate::hostile;

/// What two containers of everybody's say, the second while the first is at work. Both end.
async fn side_by_side(first: (&str, Value), second: (&str, Value)) -> (String, String) {
    let engine = Engine::connect().await;
    let image = hostile::image().await;
    let command = |script: &str| ["/bin/bash", "-c", script].map(str::to_owned);
    let start = async |(script, differences): (&str, Value)| {
        let words = command(script);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        engine.start(image, &words, differences).await
    };
    let one = start(first).await;
    one.until_said("at work").await;
    let two = start(second).await;
    two.wait().await;
    let both = (one.said().await, two.said().await);
    one.remove().await;
    two.remove().await;
    both
}

/// A file that both may open joins them, however read-only it is.
#[tokio::test]
async fn the_binary_is_no_way_to_another_sandbox() {
    let volume = format!("airlock-test-shared-{:08x}", rand::random::<u32>());
    let mounts =
        json!([{"Type": "volume", "Source": volume, "Target": "/shared", "ReadOnly": true}]);
    let host = json!({"HostConfig": {"NetworkMode": "none", "Mounts": mounts.clone()}});
    let holds = "python3 -c 'import fcntl, os, time
fcntl.flock(os.open(\"/shared\", os.O_RDONLY), fcntl.LOCK_EX)
print(\"at work\", flush=True)
time.sleep(600)'";
    let hears = "python3 -c 'import fcntl, os
try: fcntl.flock(os.open(\"/shared\", os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError: print(\"heard\")'";
    let (_, second) = side_by_side((holds, host.clone()), (hears, host)).await;
    assert!(second.contains("heard"), "blind: {second}");

    let opens = "at=$(awk '$4 ~ /\\/volumes\\// {print $5}' /proc/self/mountinfo); echo \"at $at\"
        ls $at >/dev/null && works; (exec 9<$at) && works
        for file in $at/*; do (exec 9<$file) && works; done
        python3 - $at <<'EOF' && works
import ctypes, sys
libc = ctypes.CDLL(None)
sys.exit(0 if libc.inotify_add_watch(libc.inotify_init(), sys.argv[1].encode(), 0xfff) >= 0 else 1)
EOF";
    let control = json!({"Mounts": mounts});
    let ran = attack(&[opens]).unconfined(control).works_only_elsewhere().await;
    drop(Engine::connect().await.delete(&format!("/volumes/{volume}")).await);
    let at = ran.outputs()[0].lines().find_map(|line| line.strip_prefix("at /").map(str::to_owned));
    assert!(at.is_some(), "blind: {:?}", ran.outputs());
}

/// The kernel counts by user over all containers: one that takes all there is of something leaves
/// nothing to the others of the same user.
#[tokio::test]
async fn two_sandboxes_share_no_user() {
    let takes = "python3 -c 'import ctypes, time
libc = ctypes.CDLL(None)
while libc.inotify_init() >= 0: pass
print(\"at work\", flush=True)
time.sleep(600)'";
    let tries = "python3 -c 'import ctypes
print(\"free\" if ctypes.CDLL(None).inotify_init() >= 0 else \"taken\")'";
    let user = |uid: u32| json!({"User": uid.to_string()});
    let (_, same) = side_by_side((takes, user(65_111)), (tries, user(65_111))).await;
    let (_, other) = side_by_side((takes, user(65_111)), (tries, user(65_112))).await;
    assert!(same.contains("taken") && other.contains("free"), "blind: {same} {other}");

    let mut first = Rig::new()
        .model(script![call("bash", json!({"command": "sleep 600"}))])
        .prompt("x")
        .start()
        .await;
    first.event("call_started").await;
    let container = first.container().await;
    let labels = first.engine.get(&format!("/containers/{container}/json")).await.json();
    let theirs = labels["Config"]["Labels"]["airlock.uid"].as_str().unwrap_or_default().to_owned();
    let second = Rig::new()
        .model(script![call("bash", json!({"command": "id -u; id -g"})), answer("done")])
        .prompt("x")
        .run()
        .await
        .assert_finished("done");
    first.signal(Signal::INT);
    first.end().await.assert_nothing_left_behind().await;
    let said = second.outputs()[0].clone();
    let ours: Vec<u32> = said.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(
        matches!(ours[..], [uid, gid] if uid == gid && (60_600..=61_111).contains(&uid)),
        "{said}"
    );
    let theirs: u32 = theirs.parse().expect("the label says whom commands run as");
    assert!((60_600..=61_111).contains(&theirs) && theirs != ours[0], "{theirs} {ours:?}");
}

#[tokio::test]
async fn terminals_are_limited() {
    let opens = "python3 -c 'import os
for _ in range(200): os.openpty()' && works";
    attack(&[opens]).works_only_elsewhere().await;
}

//! More of everything than there is: processes, bytes, files, output. Each ends inside the sandbox, and
//! the run goes on.

use airlock_tests::engine::Engine;
use serde_json::json;

use crate::attack::attack;

/// Bounded by its container's limits of processes and of processor time. It is waited for until it
/// has all there are, without a process of our own: there would be none to be had.
const BOMB: &str = "mkfifo /tmp/never; python3 -c 'import os
while True:
    try: os.fork()
    except OSError: open(\"/tmp/full\", \"w\").close()' &
    until [ -e /tmp/full ]; do read -t 0.1 -r _ <>/tmp/never; done";

/// Without us the bomb goes on, and the next command finds no process to be had.
#[tokio::test]
async fn a_fork_bomb_ends_with_its_call() {
    attack(&[BOMB, "for n in $(seq 10); do /bin/true || works; done"])
        .flags(&["--pids", "64", "--cpus", "1"])
        .unconfined(json!({"PidsLimit": 64}))
        .noticed_by("fork: retry: Resource temporarily unavailable")
        .works_only_elsewhere()
        .await;
}

#[tokio::test]
async fn processes_are_limited_without_being_asked() {
    let many = "python3 -c 'import os, signal, sys, time
made = []
try:
    for _ in range(700):
        made.append(os.fork())
        if made[-1] == 0: time.sleep(30); os._exit(0)
except BlockingIOError: pass
for pid in made: os.kill(pid, signal.SIGKILL)
sys.exit(0 if len(made) >= 700 else 1)' && works";
    attack(&[many])
        .unconfined(json!({"PidsLimit": 4000, "Memory": 2_u64 << 30}))
        .works_only_elsewhere()
        .await;
}

/// Bytes end at the workspace's size, and in the other places at theirs.
#[tokio::test]
async fn disks_are_limited() {
    let fills = |folder: &str, mebibytes: u32| {
        format!("head -c {mebibytes}M /dev/zero >{folder}/big && works; rm -f {folder}/big")
    };
    let ours = [fills(".", 80), fills("/tmp", 600), fills("/dev/shm", 80), fills("~", 600)];
    let calls: Vec<&str> = ours.iter().map(String::as_str).collect();
    let control = fills("/tmp", 80);
    attack(&calls)
        .flags(&["--disk", "64m", "--memory", "1g"])
        .control(&[&control])
        .works_only_elsewhere()
        .await;
}

#[tokio::test]
async fn inodes_are_limited() {
    let many = |folder: &str, count: u32| {
        format!(
            "mkdir -p {folder}/many && python3 -c 'import os
for number in range({count}): os.mknod(f\"{folder}/many/{{number}}\")' && works; rm -rf {folder}/many"
        )
    };
    // Filling the workspace takes minutes on a busy machine: there the limit is read.
    let workspace = "[ $(df --output=itotal /workspace | tail -n 1) -le 400000 ] || works";
    let (ours, home) =
        (many("/tmp", 101_000), "[ $(df --output=itotal ~ | tail -n 1) -le 100000 ] || works");
    let calls = [ours.as_str(), workspace, home];
    let control = many("/tmp", 101_000);
    attack(&calls)
        .flags(&["--memory", "2g"])
        .control(&[&control])
        .unconfined(json!({"Tmpfs": {"/tmp": "size=400m,nr_inodes=0"}, "Memory": 2_u64 << 30}))
        .works_only_elsewhere()
        .await;
}

/// A memory bomb ends by itself or is ended; the sandbox is not what the kernel takes.
#[tokio::test]
async fn a_memory_bomb_takes_itself() {
    let bomb = "python3 -c 'held = [bytearray(64 << 20) for _ in range(64)]' && works";
    let ran = attack(&[bomb, "true"])
        .flags(&["--memory", "256m", "--disk", "256m"])
        .fails_in_ours()
        .await;
    let said = "killed: the container's memory limit of 512 MiB was reached\n";
    assert!(ran.outputs()[0].contains(said), "{:?}", ran.outputs());
    assert!(ran.outputs()[1].contains("Exit code: 0"), "{:?}", ran.outputs());
}

/// What no process has is not freed when processes end: shared memory, semaphores and messages of
/// System V. Were it kept, the eight rounds would need more than there is, and end the sandbox.
#[tokio::test]
async fn what_outlives_its_process_is_bounded() {
    let fills = "fill() { python3 -c 'import ctypes
libc = ctypes.CDLL(None); libc.shmat.restype = ctypes.c_void_p
at = libc.shmat(libc.shmget(0, 40 << 20, 0o1600), None, 0); ctypes.memset(at, 1, 40 << 20)'; }
        for round in 1 2 3 4 5 6 7 8; do fill; [ $(wc -l </proc/sysvipc/shm) -gt 1 ] && works; done";
    let many = |make: &str| {
        format!(
            "python3 -c 'import ctypes, sys
libc = ctypes.CDLL(None)
for _ in range(1000):
    if libc.{make} < 0: sys.exit(1)' && works; true"
        )
    };
    let (semaphores, messages) = (many("semget(0, 250, 0o1600)"), many("msgget(0, 0o1600)"));
    attack(&[fills, &semaphores, &messages])
        .flags(&["--memory", "128m", "--disk", "64m"])
        .works_only_elsewhere()
        .await;
}

#[tokio::test]
async fn a_command_cannot_make_the_kernel_spare_it() {
    let spares = "echo 1000 >/proc/self/oom_score_adj; echo 0 >/proc/self/oom_score_adj && works";
    let others = "sleep 100 & echo 1000 >/proc/$!/oom_score_adj; echo 0 >/proc/$!/oom_score_adj && works; kill $!";
    attack(&[spares, others]).works_only_elsewhere().await;
}

/// Without us every byte goes to the engine's log on the host's disk. The attack is "noticed".
#[tokio::test]
async fn a_flood_of_output_is_cut_and_kept_nowhere() {
    let flood = "timeout 2 yes 0123456789abcdef";
    let engine = Engine::connect().await;
    let control = attack(&[flood]).started(&engine).await;
    control.until_said("the runner ended").await;
    let inspected = engine.get(&format!("/containers/{}/json", control.id)).await.json();
    let log = inspected["LogPath"].as_str().unwrap_or_default().to_owned();
    let logged = std::fs::metadata(&log).map_or(0, |file| file.len());
    control.remove().await;
    assert!(logged > 1 << 20, "blind: {log} has {logged} bytes");
    let ran = attack(&[flood, "timeout 2 tr -d '\\n' </dev/zero", "head -c 30000000 /dev/urandom"])
        .fails_in_ours()
        .await;
    for output in ran.outputs() {
        // The model's own limit, and the mark where something was left out.
        assert!(output.len() < 41_000, "{} bytes came out", output.len());
    }
    assert!(ran.stdout.len() < 1 << 20, "{} bytes on stdout", ran.stdout.len());
}

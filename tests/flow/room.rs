//! What of the folder goes in, where its copy lies, and what happens when that is full.

use airlock_tests::Rig;
use airlock_tests::backend::{Item, Reply, answer, call, made, script};
use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::{Value, json};

fn left_out(events: &[Value]) -> Value {
    let told = events.iter().find(|event| event["event"] == "workspace");
    told.map(|event| event["left_out"].clone()).unwrap_or_default()
}

in_both_custodies! {
    #[tokio::test]
    async fn secrets_stay_at_home_and_are_named(rig: Rig) {
        let rig = rig.files(&[
            (".env", "TOKEN=sk-env\n"),
            ("sub/.env.local", "TOKEN=sk-local\n"),
            ("server.key", "sk-private\n"),
            (".npmrc", "sk-npm\n"),
            (".gitignore", "ignored\n"),
            ("ignored", "goes in\n"),
            ("app.log", "sk-log\n"),
        ]);
        let list = "find . -type f | LC_ALL=C sort; grep -r sk- .; cat ignored";
        let ran = rig
            .flags(&["--include", ".npmrc", "--exclude", "*.log"])
            .model(script![call("bash", json!({"command": list})), answer("done")])
            .prompt("x")
            .run()
            .await
            .assert_finished("done");
        let seen = &ran.outputs()[0];
        assert!(seen.contains("./.gitignore\n./.npmrc\n./ignored\n"), "{seen}");
        assert!(seen.contains("sk-npm") && seen.contains("goes in"), "{seen}");
        for hidden in ["sk-env", "sk-local", "sk-private", "sk-log"] {
            assert!(!seen.contains(hidden), "{hidden} got in: {seen}");
        }
        let mut told: Vec<String> = serde_json::from_value(left_out(&ran.events())).expect("a list");
        told.sort();
        assert_eq!(told, [".env", "app.log", "server.key", "sub/.env.local"]);
        assert_eq!(ran.record().await["left_out"], 4);
    }
}

/// The folder says nothing about how it is run: not what goes in, not who pays, not the image.
#[tokio::test]
async fn nothing_is_configured_from_the_folder() {
    let files = [
        ("config.toml", "image = \"evil\"\nbase_url = \"http://127.0.0.1:1\"\n"),
        ("airlock/config.toml", "image = \"evil\"\n"),
        (".config/airlock/config.toml", "image = \"evil\"\n"),
        (".airlock.toml", "image = \"evil\"\n"),
        (".dockerignore", "*\n"),
    ];
    let script = script![call("bash", json!({"command": "ls -a"})), answer("done")];
    let ran = Rig::new().files(&files).model(script).prompt("x").run().await;
    let ran = ran.assert_finished("done");
    assert!(ran.outputs()[0].contains(".dockerignore"), "{:#?}", ran.outputs());
}

#[tokio::test]
async fn a_named_variable_passes_and_no_other() {
    let script = script![call("bash", json!({"command": "env"})), answer("done")];
    let ran = Rig::new()
        .variable("PASSES", "yes-it-does")
        .variable("STAYS", "sk-stays")
        .flags(&["--env", "PASSES"])
        .model(script)
        .prompt("x")
        .run()
        .await
        .assert_finished("done");
    let seen = &ran.outputs()[0];
    assert!(seen.contains("PASSES=yes-it-does") && !seen.contains("sk-stays"), "{seen}");
}

/// What is made there counts; the command is told, the run goes on, and what fits comes out.
#[tokio::test]
async fn a_full_disk_is_told_to_the_model() {
    let fill = "dd if=/dev/zero of=big bs=1M count=64; echo code $?";
    let ran = Rig::new()
        .flags(&["--disk", "8MiB"])
        .model(script![
            call("bash", json!({"command": fill})),
            call("write_file", json!({"path": "small", "content": "x".repeat(20_000)})),
            call("bash", json!({"command": "rm big; echo fits > fits"})),
            answer("done"),
        ])
        .prompt("x")
        .run()
        .await
        .assert_finished("done")
        .assert_nothing_left_behind()
        .await;
    let outputs = ran.outputs();
    assert!(outputs[0].contains("No space left") && outputs[0].contains("code 1"), "{outputs:#?}");
    assert!(outputs[1].contains("no space left in the workspace"), "{outputs:#?}");
    let diff = ran.airlock("diff", &[]).await;
    assert!(diff.stdout.contains("+fits") && !diff.stdout.contains("big"), "{diff:#?}");
}

/// Full at the end too: what is there comes out all the same.
#[tokio::test]
async fn a_full_disk_still_comes_out() {
    let fill = "echo made > first; cat /dev/zero > big; echo code $?";
    let script = script![call("bash", json!({"command": fill})), answer("done")];
    let rig = Rig::new().flags(&["--disk", "4MiB"]).model(script);
    let ran = rig.prompt("x").run().await.assert_finished("done");
    let applied = ran.airlock("apply", &[]).await;
    assert_eq!(applied.exit, Some(0), "{applied:#?}");
    let made = std::fs::read_to_string(ran.rig.workspace().join("first"));
    assert_eq!(made.expect("a file that was applied"), "made\n");
}

#[tokio::test]
async fn a_folder_larger_than_the_disk_is_refused() {
    let rig = Rig::new().flags(&["--disk", "1MiB"]).model(script![]);
    std::fs::write(rig.workspace().join("big"), vec![b'x'; 3 << 20]).expect("a file");
    let ran = rig.prompt("x").run().await.assert_exit(1, "larger than the sandbox's disk");
    assert!(ran.stderr.contains("--disk SIZE"), "{}", ran.stderr);
    let ran = ran.assert_nothing_left_behind().await;
    assert!(ran.backend.model_requests().is_empty());
    let outcome = ran.outcome();
    assert!(outcome["message"].to_string().contains("; big has 3 MiB of it"), "{outcome}");
    // It was counted, and nothing of it went in: nothing can be lost.
    assert_eq!(ran.events_named("workspace").len(), 0, "{}", ran.stdout);
    assert_eq!(
        (&outcome["changes"], &ran.record().await["changes_are"]),
        (&json!("none"), &json!("none"))
    );
    assert!(!ran.stderr.contains("lost"), "{}", ran.stderr);
    assert!(ran.airlock("show", &[]).await.stdout.contains("changes    none\n"));
    let diff = ran.airlock("diff", &[]).await;
    let why = "nothing    to show: the agent never began\n";
    assert_eq!((diff.exit, &*diff.stdout, &*diff.stderr), (Some(0), "", why));
}

/// On the engine's disk nothing limits it: the record says so, and the volume goes with the run.
#[tokio::test]
async fn the_engines_disk_has_no_quota_and_the_record_says_so() {
    let ran = Rig::new()
        .files(&[("a", "old\n")])
        .flags(&["--disk-on", "engine"])
        .model(script![
            call("bash", json!({"command": "id -u; echo new > a; df . | tail -1; stat -c %u a ."})),
            call("write_file", json!({"path": "b/c", "content": "x\n"})),
            answer("done"),
        ])
        .prompt("x")
        .run()
        .await
        .assert_finished("done")
        .assert_nothing_left_behind()
        .await;
    assert!(!ran.outputs()[0].contains("tmpfs"), "{:#?}", ran.outputs());
    let said = ran.outputs()[0].clone();
    let uid = said.lines().find(|line| line.parse::<u32>().is_ok()).expect("what `id` says");
    assert_eq!(said.matches(uid).count(), 3, "{said}");
    let record = ran.record().await;
    assert_eq!(record["limits"]["disk_on"], "engine");
    assert!(record["waivers"].to_string().contains("no disk quota"), "{record}");
    assert_eq!(ran.airlock("apply", &[]).await.exit, Some(0));
    let here = std::fs::read_to_string(ran.rig.workspace().join("a"));
    assert_eq!(here.expect("a file of the test's"), "new\n");
    assert!(ran.rig.workspace().join("b/c").exists());
}

/// The host's own disk, a small one of the test's. It is gone with this, also where a test fails.
struct Disk(std::path::PathBuf);

impl Disk {
    fn small(at: &std::path::Path) -> Self {
        std::fs::create_dir_all(at).expect("a folder of the test's");
        let (flags, data) = (MountFlags::empty(), c"size=3m,mode=700");
        rustix::mount::mount("tmpfs", at, "tmpfs", flags, data).expect("these tests need root");
        Self(at.to_owned())
    }

    /// Leaves not a byte.
    fn fill(at: &std::path::Path) {
        let mut file = std::fs::File::create(at.join("filler")).expect("a file");
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let gone = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
        assert!(std::thread::panicking() || gone.is_ok(), "{gone:?}: {}", self.0.display());
    }
}

/// The host has no room for all of the changes: the edits are kept, and the true reason is told,
/// with the answer that was paid for.
#[tokio::test]
async fn a_full_disk_of_the_host_is_told_as_that_and_keeps_the_edits() {
    let make = "echo fixed > a; head -c 8388608 /dev/urandom > big";
    let script = script![call("bash", json!({"command": make})), answer("it is done")];
    let rig = Rig::new().files(&[("a", "broken\n")]).model(script);
    let disk = Disk::small(&rig.home().join("state"));
    let ran = rig.prompt("x").run().await;
    let outcome = ran.outcome();
    let told = ["outcome", "fault", "changes"].map(|name| outcome[name].clone());
    assert_eq!(told, ["failed", "workspace", "kept"], "{}", ran.stdout);
    assert!(outcome["message"].to_string().contains("there is no space left in"), "{outcome}");
    assert!(outcome["usage"]["input"].as_u64() > Some(0), "{outcome}");
    let texts = ran.events_named("text");
    assert!(texts.iter().any(|event| event["text"] == "it is done"), "{}", ran.stdout);
    let applied = ran.airlock("apply", &[]).await;
    assert_eq!(applied.exit, Some(0), "{applied:#?}");
    assert!(applied.stderr.contains("no space left"), "{applied:#?}");
    let here = std::fs::read_to_string(ran.rig.workspace().join("a"));
    assert_eq!(here.expect("a file of the test's"), "fixed\n");
    assert!(!ran.rig.workspace().join("big").exists());
    drop(disk);
}

/// Not even the record can be written: the answer and what it cost are told on stdout.
#[tokio::test]
async fn what_was_paid_for_is_told_where_nothing_can_be_kept() {
    let rig = Rig::new();
    let state = rig.home().join("state");
    let disk = Disk::small(&state);
    // The last answer comes when nothing can be written any more.
    let last = made(move |_| {
        Disk::fill(&state);
        Reply { items: vec![Item::Text("it is done".to_owned())], ..Reply::default() }
    });
    let rig = rig.model(script![call("bash", json!({"command": "true"})), last]);
    let ran = rig.prompt("x").run().await;
    let outcome = ran.outcome();
    assert_eq!(outcome["requests"], 2, "{}", ran.stdout);
    assert!(outcome["usage"]["input"].as_u64() > Some(0), "{outcome}");
    assert!(ran.stdout.contains("it is done"), "{}", ran.stdout);
    let notes: Vec<String> =
        ran.events_named("note").iter().map(|it| it["text"].to_string()).collect();
    let what = "the record of this session cannot be saved: there is no space left in";
    assert!(notes.iter().any(|note| note.contains(what)), "{notes:#?}");
    drop(disk);
}

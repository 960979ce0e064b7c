//! Somebody else's code: the sources of a crate as its registry has them, edited in a sandbox, applied.

use std::path::{Path, PathBuf};

use airlock_tests::backend::{Script, answer, call, patch, script};
use airlock_tests::images::{BUSYBOX, EMPTY};
use airlock_tests::rig::Ran;
use airlock_tests::{Rig, tree};
use serde_json::{Value, json};
use tokio::process::Command;

/// The folder that cargo keeps this crate's sources in: a dependency of ours, so it is there.
async fn sources(name: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--locked", "--manifest-path"]);
    let told = command.arg(manifest).output().await.expect("cargo runs the tests");
    let told: Value = serde_json::from_slice(&told.stdout).expect("cargo tells JSON");
    let package = told["packages"].as_array().expect("packages").iter();
    let manifest =
        package.filter(|it| it["name"] == name).find_map(|it| it["manifest_path"].as_str());
    let manifest = PathBuf::from(manifest.expect("a dependency of ours"));
    manifest.parent().expect("a manifest lies in a folder").to_owned()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder of the test's");
    for entry in std::fs::read_dir(from).expect("sources").map(|entry| entry.expect("an entry")) {
        let to = to.join(entry.file_name());
        if entry.file_type().expect("an entry").is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("a file of the test's");
        }
    }
}

/// A copy of the sources with what a registry's archive has none of: a program, links, odd names.
async fn repository(rig: Rig) -> Rig {
    copy(&sources("serde_json").await, rig.workspace());
    let root = rig.workspace();
    std::os::unix::fs::symlink("src/lib.rs", root.join("entry.rs")).expect("a link");
    let rig = rig.files(&[("tools/run.sh", "#!/bin/sh\n"), ("notes/a b \u{e9}", "odd\n")]);
    mode(&rig, "tools/run.sh", 0o755);
    mode(&rig, "notes", 0o700);
    rig
}

fn mode(rig: &Rig, path: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(rig.workspace().join(path), mode).expect("a file of the test's");
}

/// One line an entry, sorted by bytes: what the command [`LIST`] makes in the sandbox. Of the modes
/// only whether a file is a program: the rest is the person's, and the umask's.
fn listed(tree: &tree::Tree) -> String {
    let line = |(path, entry): (&PathBuf, &tree::Entry)| {
        let path = path.display();
        let x = if entry.mode & 0o100 == 0 { '-' } else { 'x' };
        match &entry.what {
            tree::What::Folder => format!("d {path}\n"),
            tree::What::File(sha256) => format!("f {path} {x} {sha256}\n"),
            tree::What::Link(target) => format!("l {path} {}\n", target.display()),
            tree::What::Other => format!("? {path}\n"),
        }
    };
    let mut lines: Vec<String> = tree.iter().map(line).collect();
    lines.sort();
    lines.concat()
}

const LIST: &str = r#"find . -mindepth 1 | sed 's,^\./,,' | while IFS= read -r p; do
if [ -L "$p" ]; then echo "l $p $(readlink "$p")"
elif [ -d "$p" ]; then echo "d $p"
elif [ -f "$p" ]; then echo "f $p $([ -x "$p" ] && echo x || echo -) $(sha256sum < "$p" | cut -d' ' -f1)"
else echo "? $p"; fi; done | LC_ALL=C sort > /tmp/listed; wc -l < /tmp/listed; sha256sum < /tmp/listed"#;

const EDITS: &str = "sed -i 's/serde/SERDE/g' src/ser.rs src/de.rs && rm -r src/io && mv src/value src/moved && \
    chmod 755 README.md && chmod 644 tools/run.sh && mkdir -p new/deep && echo made > new/deep/f && \
    chmod 600 new/deep/f && ln -s ../../README.md new/deep/up && ln -sfn src/de.rs entry.rs && \
    rm 'notes/a b \u{e9}' && echo odd > 'notes/c d \u{e9}' && chmod 750 notes && : > empty && rm Cargo.toml.orig && mkdir Cargo.toml.orig";

/// `LICENSE-MIT` ends with this line.
const PATCH: &str = "*** Begin Patch\n*** Update File: LICENSE-MIT\n@@\n-DEALINGS IN THE SOFTWARE.\n+DEALINGS IN THE BOX.\n\
    *** Add File: added.txt\n+by a patch\n*** End Patch\n";

fn edit() -> Script {
    script![
        patch(PATCH),
        call("bash", json!({"command": EDITS})),
        call("write_file", json!({"path": "written/f.txt", "content": "by a tool\n"})),
        call("bash", json!({"command": LIST})),
        answer("edited"),
    ]
}

/// Runs, looks that nothing changed, applies; what was and what is.
async fn applied(rig: Rig) -> (Ran, tree::Tree, tree::Tree) {
    let before = tree::read(rig.workspace());
    let ran = rig.prompt("edit it").run().await.assert_finished("edited");
    let ran = ran.assert_nothing_left_behind().await;
    assert_eq!(tree::read(ran.rig.workspace()), before, "the run itself wrote into the folder");
    let applied = ran.rig.command("apply").await.arg(ran.id()).output().await.expect("airlock");
    let said = String::from_utf8_lossy(&applied.stderr).into_owned();
    assert_eq!(applied.status.code(), Some(0), "{said}");
    assert!(!said.contains("held       "), "{said}");
    let after = tree::read(ran.rig.workspace());
    let me = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    assert!(after.values().all(|entry| entry.owner == me), "an owner who is not the user");
    (ran, before, after)
}

in_both_custodies! {
    #[tokio::test]
    async fn what_is_applied_is_what_the_sandbox_had(rig: Rig) {
        let rig = repository(rig.image(BUSYBOX)).await.model(edit());
        let (ran, before, after) = applied(rig).await;
        let seen = ran.outputs().pop().unwrap_or_default();
        let here = listed(&after);
        assert!(seen.contains(&format!("{}\n", after.len())), "{seen}\n{here}");
        assert!(seen.contains(&tree::sha256(here.as_bytes())), "{seen}\n{here}");
        let what = |path: &str| after.get(Path::new(path)).cloned().map(tree::Entry::portable);
        assert_eq!(what("entry.rs"), Some((tree::What::Link("src/de.rs".into()), 0)));
        let mode = |path: &str| what(path).map(|(_, mode)| mode);
        assert_eq!(mode("README.md"), Some(0o755));
        assert_eq!(mode("notes"), Some(0o700), "the mode of a folder that was there is the person's");
        assert_eq!(mode("new/deep/f"), Some(0o644), "a new file follows the umask");
        assert_eq!(what("added.txt").map(|(what, _)| what), Some(tree::What::File(tree::sha256(b"by a patch\n"))));
        assert_eq!(what("src/io"), None);
        // What nobody touched is what it was, to its time.
        for same in ["build.rs", "LICENSE-APACHE", "src/lib.rs"] {
            assert_eq!(after[Path::new(same)], before[Path::new(same)], "{same}");
        }
    }
}

/// The same where the image has not even a shell: `bash` says so, the other tools do the work.
#[tokio::test]
async fn an_empty_image_edits_a_repository_too() {
    let rig = repository(Rig::new().image(EMPTY)).await.model(edit());
    let (ran, before, after) = applied(rig).await;
    let outputs = ran.outputs();
    for at in [1, 3] {
        assert!(outputs[at].contains("no shell"), "{outputs:#?}");
    }
    let changed = after.iter().filter(|(path, entry)| before.get(*path) != Some(entry));
    let changed: Vec<String> = changed
        .filter(|(_, entry)| entry.what != tree::What::Folder)
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert_eq!(changed, ["LICENSE-MIT", "added.txt", "written/f.txt"]);
    assert!(before.keys().all(|path| after.contains_key(path)), "something is gone");
}

//! Images that want to be in the sandbox's place, or to have what belongs somewhere mounted
//! elsewhere: links, loops, files and volumes at every path that is used, and every setting that an
//! image can bring.

use std::process::Stdio;

use airlock_shared::handoff::Ready;
use airlock_shared::limits;
use airlock_tests::Rig;
use airlock_tests::backend::{answer, call, script};
use airlock_tests::engine::Engine;
use airlock_tests::rig::Ran;
use futures_util::{StreamExt as _, stream};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::OnceCell;

/// A ready line with which everything seems to be in place: nothing but who says it is wrong.
fn ready() -> String {
    let open = "rw,nosuid,nodev,relatime";
    let mounted = |at: &str, kind: &str, options: &str| {
        (at.to_owned(), json!({"at": at, "kind": kind, "options": options}))
    };
    let mounts = serde_json::Map::from_iter([
        mounted("/workspace", "tmpfs", open),
        mounted("/tmp", "tmpfs", open),
        mounted("/run", "tmpfs", "rw,nosuid,nodev,noexec,relatime"),
        mounted("/home/agent", "tmpfs", open),
        mounted("/proc", "proc", "rw,nosuid,nodev,noexec,relatime"),
        mounted("/proc/sys", "proc", "ro,nosuid,nodev,noexec,relatime"),
        mounted("/sys", "sysfs", "ro,nosuid,nodev,noexec,relatime"),
        mounted("/dev", "tmpfs", "rw,nosuid"),
        mounted("/dev/pts", "devpts", "rw,relatime"),
    ]);
    let confinement = json!({
        "seccomp": 2, "no_new_privs": 1, "capabilities": "00000000000000c0", "mounts": mounts,
        "settings": {"kernel.shm_rmid_forced": "1", "kernel.sem": "250 32000 100 128",
            "kernel.msgmni": "128"},
    });
    json!({"ready": limits::PROTOCOL, "version": "0.1.0", "confinement": confinement}).to_string()
}

/// Says that it is ready, reads a line, and tells everybody what it read.
const EVIL: &str = r#"
#include <stdio.h>
int main(void) {
    static char line[1 << 20];
    puts("READY");
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin)) return 1;
    printf("the image's program read %s\n", line);
    fflush(stdout);
    fprintf(stderr, "the image's program read %s\n", line);
    return 0;
}
"#;
/// What it says then.
const READ: &str = "the image's program read";

/// One image: links and files of it, and lines of its Dockerfile.
#[derive(Clone, Debug, Default)]
struct Trial {
    links: Vec<(String, String)>,
    files: Vec<String>,
    changes: Vec<String>,
}

impl Trial {
    fn link(mut self, at: &str, to: &str) -> Self {
        self.links.push((at.to_owned(), to.to_owned()));
        self
    }

    fn file(mut self, at: &str) -> Self {
        self.files.push(at.to_owned());
        self
    }

    fn change(mut self, line: &str) -> Self {
        self.changes.push(line.to_owned());
        self
    }

    /// Makes the image, with the evil program wherever something could lead to it.
    async fn image(&self, engine: &Engine) -> String {
        let name = format!("airlock-test-trial-{:016x}:1", rand::random::<u64>());
        let mut tar = tar::Builder::new(Vec::new());
        let taken = |path: &str| {
            let top = path.split('/').next().unwrap_or_default().to_owned();
            self.links.iter().any(|(at, _)| *at == top) || self.files.contains(&top)
        };
        for path in
            ["evil/airlock-sandbox", "evil/evil", "etc/airlock-sandbox", "bin/airlock-sandbox"]
        {
            if !taken(path) {
                let mut header = tar::Header::new_gnu();
                header.set_mode(0o755);
                header.set_size(evil().await.len() as u64);
                tar.append_data(&mut header, path, evil().await).expect("it fits");
            }
        }
        for path in &self.files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(1);
            tar.append_data(&mut header, path, &b"x"[..]).expect("it fits");
        }
        for (at, to) in &self.links {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, at, to).expect("it fits");
        }
        // What an import takes no such line of, a build does.
        let (built, imported): (Vec<&str>, Vec<&str>) = self
            .changes
            .iter()
            .map(String::as_str)
            .partition(|line| line.starts_with("STOPSIGNAL"));
        let tar = tar.into_inner().expect("it fits");
        engine.import_changed(&name, tar, &imported).await;
        if !built.is_empty() {
            let dockerfile = format!("FROM {name}\n{}\n", built.join("\n"));
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(dockerfile.len() as u64);
            let mut context = tar::Builder::new(Vec::new());
            context.append_data(&mut header, "Dockerfile", dockerfile.as_bytes()).expect("it fits");
            engine.build(&name, context.into_inner().expect("it fits")).await;
        }
        name
    }

    /// A run in it.
    async fn run(&self, engine: &Engine) -> Ran {
        let image = self.image(engine).await;
        let model =
            script![call("write_file", json!({"path": "made", "content": "x\n"})), answer("done"),];
        let ran = Rig::new().image(&image).model(model).prompt("x").run().await;
        drop(engine.delete(&format!("/images/{image}?force=1")).await);
        ran
    }
}

/// The evil program, static.
async fn evil() -> &'static [u8] {
    static BUILT: OnceCell<Vec<u8>> = OnceCell::const_new();
    BUILT
        .get_or_init(|| async {
            let folder = tempfile::tempdir().expect("a temporary folder can be made");
            let (source, program) = (folder.path().join("evil.c"), folder.path().join("evil"));
            let says = EVIL.replace("READY", &ready().replace('"', "\\\""));
            std::fs::write(&source, says).expect("it can be written");
            // What links the sandbox statically links this.
            let mut compiler = Command::new("cc");
            compiler.args(["-static", "-O1", "-o"]).arg(&program).arg(&source);
            assert!(compiler.status().await.expect("Rust links with cc").success());
            std::fs::read(program).expect("it was just made")
        })
        .await
}

/// All that is tried.
fn trials() -> Vec<Trial> {
    let one = |at: &str, to: &str| Trial::default().link(at, to);
    let with = |line: &str| Trial::default().change(line);
    let mut trials = Vec::new();
    // Every path at which something is mounted, led away in every way.
    for at in ["tmp", "run", "workspace", "home", "home/agent"] {
        for to in [
            "/proc/1/cwd/evil",
            "/proc/self/cwd/evil",
            "/proc/self/root/evil",
            "/proc/self/fd",
            "/etc",
            "../../../evil",
            "/",
            "/dev",
        ] {
            trials.push(one(at, to));
        }
        trials.push(one(at, &format!("/{at}")));
        trials.push(Trial::default().file(at));
    }
    // Those that the engine itself mounts.
    for at in ["proc", "sys", "dev"] {
        trials.push(one(at, "/evil"));
        trials.push(Trial::default().file(at));
    }
    // One path in another's place, and where ordinary images keep them.
    trials.push(one("tmp", "/workspace"));
    trials.push(one("workspace", "/tmp"));
    trials.push(one("home", "/workspace"));
    trials.push(one("tmp", "/workspace/tmp"));
    trials.push(one("run", "/var/run"));
    trials.push(one("tmp", "var/tmp"));
    trials.push(one("home", "/var/home"));
    // Names that could be guessed for the binary.
    trials.push(one(".airlock", "/proc/1/cwd/evil").link("airlock-sandbox", "/evil/evil"));
    trials.push(one(".airlock-", "/evil").link(".airlock-*", "/evil"));
    // Settings.
    for line in [
        "ENTRYPOINT [\"/evil/evil\"]",
        "CMD [\"/evil/evil\"]",
        "ENV LD_PRELOAD=/evil/evil PATH=/evil HOME=/evil",
        "HEALTHCHECK --interval=1s CMD [\"/evil/evil\"]",
        "ONBUILD ENTRYPOINT [\"/evil/evil\"]",
        "USER 12345:12345",
        "USER nobody-has-this-name",
        "WORKDIR /proc/1/cwd/evil",
        "WORKDIR /proc/self/fd/0",
        "STOPSIGNAL 9",
        "EXPOSE 80",
        "VOLUME /workspace",
        "VOLUME /tmp",
        "VOLUME /run",
        "VOLUME /home",
        "VOLUME /home/agent",
        "VOLUME /workspace/made",
        "VOLUME /proc",
        "VOLUME /proc/1/cwd",
        "VOLUME /dev",
        "VOLUME /",
        "VOLUME /tmp/../workspace",
    ] {
        trials.push(with(line));
    }
    for to in ["/workspace", "/tmp", "/run", "/home/agent", "/proc/self/cwd", "/dev/shm"] {
        trials.push(one("data", to).change("VOLUME /data"));
    }
    trials
}

/// Each ends with our binary as the first process and everything in place, or is refused before
/// anything is handed over.
#[tokio::test]
async fn no_image_gets_the_handoff() {
    let engine = Engine::connect().await;
    let trials = trials();
    let ended = stream::iter(&trials).map(async |trial| (trial, trial.run(&engine).await));
    let ended: Vec<_> = ended.buffer_unordered(4).collect().await;
    let mut wrong = Vec::new();
    let (mut worked, mut refused) = (0, 0);
    for (trial, ran) in &ended {
        let asked = ran.backend.model_requests().len();
        let said = format!("{}{}", ran.stdout, ran.stderr);
        let ours = ran.exit == Some(0) && ran.answer() == "done" && asked == 2;
        let none = ran.exit == Some(6) && asked == 0;
        if said.contains(READ) || !(ours || none) {
            wrong.push(format!("{trial:?}: exit {:?}, {asked} requests, {said}", ran.exit));
        }
        worked += usize::from(ours);
        refused += usize::from(none);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(worked >= 10 && refused >= 10, "blind: {worked} worked, {refused} were refused");
}

/// The control: the same program, behind a link at a name that the image knows.
#[tokio::test]
async fn a_link_at_a_known_name_has_the_images_program_run() {
    let engine = Engine::connect().await;
    let image = Trial::default().link(".airlock", "/proc/1/cwd/evil").image(&engine).await;
    let read = async |folder: &str| {
        let volume = format!("airlock-test-trial-{:016x}", rand::random::<u64>());
        let mount = format!("type=volume,src={volume},dst={folder},readonly,volume-nocopy");
        let mut child = Command::new("docker")
            .args(["run", "--rm", "-i", "--network", "none", "--read-only", "--workdir", "/"])
            .args(["--label", "airlock.tests=rig", "--mount", &mount])
            .args(["--entrypoint", &format!("{folder}/airlock-sandbox"), &image])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the docker program is there where the engine is");
        let mut stdin = child.stdin.take().expect("piped");
        // It may be gone before it reads.
        drop(stdin.write_all(b"canary-of-the-handoff\n").await);
        drop(stdin);
        let ended = child.wait_with_output().await.expect("a child of ours");
        drop(engine.delete(&format!("/volumes/{volume}?force=1")).await);
        let said = String::from_utf8_lossy(&ended.stdout).into_owned();
        said.starts_with(&ready()) && said.contains(&format!("{READ} canary-of-the-handoff"))
    };
    let known = read("/.airlock").await;
    let unknown = read(&format!("/.airlock-{:032x}", rand::random::<u128>())).await;
    drop(engine.delete(&format!("/images/{image}?force=1")).await);
    assert!(known, "blind: the attack does not even work at a name that the image knows");
    let line = serde_json::from_str::<Ready>(&ready()).expect("a ready line");
    assert!(line.confinement.is_some(), "blind: it would be refused for what it does not say");
    assert!(!unknown);
}

#[tokio::test]
async fn an_image_that_is_in_the_way_is_refused_with_the_path() {
    let engine = Engine::connect().await;
    let ran = Trial::default().link("workspace", "/etc").run(&engine).await;
    let ran = ran.assert_exit(6, "use another image: airlock run --image NAME");
    assert_eq!(
        ran.outcome()["message"],
        "the image cannot be used: the image has a link or a volume at /workspace, where the \
         sandbox needs its own mount; nothing was handed over"
    );
    drop(ran.assert_nothing_left_behind().await);
}

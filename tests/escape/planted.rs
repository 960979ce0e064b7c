//! Modules of the image. The sandbox is a static glibc program, and such a program loads modules
//! from where it runs as soon as it looks up a name: into the process that holds the token.

use std::process::Stdio;

use airlock_tests::Rig;
use airlock_tests::backend::{Backend, CLASSIC, answer, call, script};
use airlock_tests::rig::{PATIENCE, extracted_sandbox};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::hostile;

/// Looks up names as every program does, to show that the module is alive.
const LOOKS_UP: &str = "getent passwd nobody-has-this-name; getent hosts nobody.has.this.name
    ls /tmp | grep -q -- -$(id -u)$ && echo it is alive";

#[tokio::test]
async fn no_module_of_the_image_is_loaded_behind_the_relay() {
    let model = script![
        call("bash", json!({"command": LOOKS_UP})),
        call("list_files", json!({"path": "."})),
        // What runs as root, and what is PID 1, is the sandbox.
        call("bash", json!({"command": "ls /tmp | grep -E '^planted-(1-|[0-9]+-0$)'; echo end"})),
        answer("done"),
    ];
    let rig = Rig::new().image(hostile::image().await).model(model).prompt("x");
    let ran = rig.run().await.assert_finished("done");
    let outputs = ran.outputs();
    assert!(outputs[0].contains("it is alive"), "blind: nobody loads the module: {outputs:#?}");
    assert!(outputs[2].contains("end") && !outputs[2].contains("planted"), "{outputs:#?}");
    drop(ran.assert_nothing_left_behind().await);
}

/// Here the sandbox itself looks up the backend's name, with the image's settings.
#[tokio::test]
async fn no_module_of_the_image_is_loaded_where_the_sandbox_resolves_names() {
    let backend = Backend::scripted(script![answer("done")]);
    let binary = extracted_sandbox().await.display().to_string();
    // Plain http is for this machine alone, so the name that only a look-up turns into an address
    // is asked for in TLS, and nobody answers there.
    let here = backend.url().replace("127.0.0.1", "localhost");
    for base in [here.as_str(), "https://backend.test:1/v1"] {
        let mut child = Command::new("docker")
            .args(["run", "--rm", "-i", "--network", "host", "--label", "airlock.tests=rig"])
            .args(["--add-host", "backend.test:127.0.0.1", "--env", "LD_PRELOAD="])
            .args(["--mount", &format!("type=bind,src={binary},dst=/sandbox,ro")])
            .args([
                "--tmpfs",
                "/workspace:rw,exec,uid=64200,gid=64200",
                "--tmpfs",
                "/tmp:mode=1777",
            ])
            .args(["--entrypoint", "/bin/sh"])
            .arg(hostile::image().await)
            .args(["-c", "/sandbox; ls /tmp >&2; getent hosts backend.test >&2; ls /tmp >&2"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the docker program is there where the engine is");
        let handoff = json!({
            "protocol": 1, "session": "plain-1", "link": "none",
            "secrets": {"bearer": "sk-plain-0123456789abcdef"},
            "job": {"prompt": "x", "model": {"slug": CLASSIC}, "backend": {"base_url": base}},
        });
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin.write_all(format!("{handoff}\n").as_bytes()).await.expect("the sandbox reads");
        let ended = tokio::time::timeout(PATIENCE, child.wait_with_output());
        let ended = ended.await.expect("it ends by itself").expect("a child of ours");
        drop(stdin);
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        let events = String::from_utf8_lossy(&ended.stdout).into_owned();
        // Only `getent` made it, after us.
        assert_eq!(said.matches("planted-").count(), 1, "{base}: {said}\n{events}");
        assert!(events.contains("\"ready\""), "{base}: {events}");
        let end = if base == here { "\"finished\"" } else { "Connection refused" };
        assert!(events.contains(end), "{base}: {events}");
    }
}

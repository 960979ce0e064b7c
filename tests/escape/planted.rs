//! Modules of the image. The sandbox is a static glibc program, and such a program loads modules
//! from where it runs as soon as it looks up a name: into the process that holds the token.

use std::process::Stdio;

use airlock_tests::Rig;
use airlock_tests::backend::{Backend, CLASSIC, answer, call, script};
use airlock_tests::rig::extracted_sandbox;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::hostile;

/// Who loaded the module so far, then who loads it when a name is looked up, so that nobody can
/// say that it is dead.
const LOADED: &str = "before=$(ls /tmp | grep ^planted- | tr '\\n' ' '); echo \"before: $before.\"
    getent passwd nobody-has-this-name; getent hosts nobody.has.this.name
    ls /tmp | grep -q -- -$(id -u)$ && echo it is alive";

fn assert_not_loaded_by_us(said: &str) {
    assert!(said.contains("it is alive"), "blind: nobody loads the module: {said}");
    assert!(said.contains("before: ."), "it was loaded before anybody looked up a name: {said}");
}

#[tokio::test]
async fn no_module_of_the_image_is_loaded_behind_the_relay() {
    let model = script![
        call("bash", json!({"command": LOADED})),
        call("list_files", json!({"path": "."})),
        call("bash", json!({"command": "ls /tmp | grep -E '^planted-(1-|[0-9]+-0$)'; echo end"})),
        answer("done"),
    ];
    let rig = Rig::new().image(hostile::image().await).model(model).prompt("x");
    let ran = rig.run().await.assert_finished("done");
    let outputs = ran.outputs();
    assert_not_loaded_by_us(&outputs[0]);
    assert!(!outputs[2].contains("planted"), "{outputs:#?}");
    drop(ran.assert_nothing_left_behind().await);
}

/// Here the sandbox itself looks up the backend's name, with the image's settings.
#[tokio::test]
async fn no_module_of_the_image_is_loaded_where_the_sandbox_resolves_names() {
    let backend = Backend::scripted(script![answer("done")]);
    let binary = extracted_sandbox().await.display().to_string();
    let url = backend.url();
    let port = url.rsplit(':').next().and_then(|rest| rest.split('/').next()).unwrap_or_default();
    // A name of two labels, which only a look-up turns into an address: https, since plain http is
    // for this machine alone. The look-up comes first, then nothing answers in TLS.
    for base in [url.replace("127.0.0.1", "localhost"), format!("https://backend.test:{port}/v1")] {
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
            "protocol": 1, "run": "plain-1", "link": "none",
            "secrets": {"bearer": "sk-plain-0123456789abcdef"},
            "job": {"prompt": "x", "model": {"slug": CLASSIC}, "backend": {"base_url": base}},
        });
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin.write_all(format!("{handoff}\n").as_bytes()).await.expect("the sandbox reads");
        let ended =
            tokio::time::timeout(std::time::Duration::from_secs(90), child.wait_with_output());
        let ended = ended.await.expect("it ends by itself").expect("a child of ours");
        drop(stdin);
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        let events = String::from_utf8_lossy(&ended.stdout).into_owned();
        // Only `getent` made it, after us.
        assert_eq!(said.matches("planted-").count(), 1, "{base}: {said}\n{events}");
        assert!(events.contains("\"ready\""), "{base}: {events}");
        let is_reached = base.contains("localhost");
        assert_eq!(events.contains("\"finished\""), is_reached, "{base}: {events}");
    }
}

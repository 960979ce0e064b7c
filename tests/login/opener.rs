//! The person's browser: which program is started, and what it can access.

use airlock_tests::rig::Process;
use serde_json::Value;

use crate::browser::Ports;
use crate::machine::{Machine, event};

/// A program, for `$BROWSER`.
fn program(machine: &Machine, name: &str, script: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let file = machine.rig.home().join(name);
    std::fs::write(&file, script).expect("the home can be written");
    let executable = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(&file, executable).expect("a file of the test's");
    file.display().to_string()
}

/// A text browser would take the terminal that the sign-in is shown on.
#[tokio::test]
async fn a_text_browser_is_not_opened() {
    let ports = Ports::lock().await;
    let machine = Machine::new();
    let log = machine.rig.home().join("opened");
    let lynx = program(&machine, "lynx", &format!("#!/bin/sh\necho x > {}\n", log.display()));
    let machine = machine.variable("BROWSER", &lynx);
    let output = machine.signed_in(&["--json"]).await;
    let events: Vec<Value> = output.stdout.lines().flat_map(serde_json::from_str).collect();
    let browser = events.iter().find(|event| event["event"] == "browser").expect("a browser event");
    assert_eq!(browser["opened"], Value::Bool(false), "{output:#?}");
    assert!(!log.exists(), "it was opened");
    drop(ports);
}

#[tokio::test]
async fn a_browser_cannot_access_our_terminal() {
    let ports = Ports::lock().await;
    let machine = Machine::new();
    let log = machine.rig.home().join("has");
    let script = format!(
        "#!/bin/sh\nhas=$(readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2)\necho \"$has\" > {}\n",
        log.display()
    );
    let browser = program(&machine, "browser", &script);
    let machine = machine.variable("BROWSER", &browser);
    let mut process = Process::start(machine.signing_in(&["--browser", "--json"]).await);
    assert_eq!(event(&mut process, "browser").await["opened"], Value::Bool(true));
    let has = |_: &Process| {
        let text = std::fs::read_to_string(&log).ok()?;
        (text.lines().count() == 3).then_some(text)
    };
    let has = process.until("what a browser has", has).await;
    assert_eq!(has, "/dev/null\n/dev/null\n/dev/null\n");
    drop((process, ports));
}

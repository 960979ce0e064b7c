//! The output streams: the answer on stdout, progress on stderr, nothing that controls a terminal;
//! and stdin, which is read only if an argument needs it.

use std::fs::File;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use airlock_tests::backend::{Backend, Script, answer, call, script};
use airlock_tests::engine::Engine;
use airlock_tests::images;
use airlock_tests::rig::PATIENCE;
use airlock_tests::{Rig, clock, tree};
use rustix::process::{Pid, Signal};
use serde_json::json;
use tokio::process::Command;

use super::{flags, key_file, run_cli};

#[tokio::test]
async fn the_answer_is_on_stdout_and_in_the_file_and_progress_on_stderr() {
    let file = "last.txt";
    let rig = Rig::new().in_words().flags(&["-o", file]);
    let script = script![call("bash", json!({"command": "echo hi"})), answer("forty-two")];
    let ran = rig.model(script).prompt("x").run().await.assert_finished("forty-two");
    assert_eq!(ran.stdout, "forty-two\n");
    let written = std::fs::read_to_string(ran.rig.workspace().join(file)).unwrap_or_default();
    assert_eq!(written, "forty-two");
    let first = ran.stderr.lines().next().unwrap_or_default();
    assert!(first.starts_with("session ") && first.contains("no network"), "{}", ran.stderr);
    for part in ["$ echo hi", "done · 2 requests"] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
    assert!(!ran.stderr.contains('\u{1b}'), "colour in a pipe: {}", ran.stderr);
}

#[tokio::test]
async fn quiet_shows_only_the_answer() {
    let ran = Rig::new().in_words().flags(&["-q"]).model(script![answer("forty-two")]);
    let ran = ran.prompt("x").run().await.assert_finished("forty-two");
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("forty-two\n", ""));
}

/// A stderr on a full disk, and a closed stderr.
#[tokio::test]
async fn a_stderr_that_fails_costs_no_answer() {
    let engine = Engine::connect().await;
    images::ready(&engine).await;
    let full = || Stdio::from(File::options().write(true).open("/dev/full").expect("a full disk"));
    let closed = || Stdio::from(io::pipe().expect("a pipe").1);
    for stderr in [full(), closed()] {
        let rig = Rig::new();
        let steps = script![call("bash", json!({"command": "echo hi"})), answer("forty-two")];
        let backend = Backend::scripted(steps);
        let mut command = rig.command("run").await;
        command.args(flags(&rig, &backend)).arg("p").stdout(Stdio::piped()).stderr(stderr);
        let output = command.spawn().expect("started").wait_with_output().await.expect("ended");
        assert_eq!((output.status.code(), &*output.stdout), (Some(0), b"forty-two\n".as_slice()));
    }
}

/// With `-o /dev/stdout` the answer is printed once, and at the right place.
#[tokio::test]
async fn an_answer_for_stdout_keeps_its_order_and_is_not_doubled() {
    let engine = Engine::connect().await;
    images::ready(&engine).await;
    let rig = Rig::new();
    let steps = script![call("bash", json!({"command": "echo x > f"})), answer("forty-two")];
    let backend = Backend::scripted(steps);
    let path = rig.home().join("both");
    let both = File::create(&path).expect("a file");
    let mut command = rig.command("run").await;
    command.args(flags(&rig, &backend)).args(["p", "-o", "/dev/stdout"]);
    command.stdout(both.try_clone().expect("a descriptor")).stderr(both);
    let ended = command.spawn().expect("started").wait().await.expect("ended");
    assert_eq!(ended.code(), Some(0));
    let text = std::fs::read_to_string(&path).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    let at = |found: &dyn Fn(&str) -> bool| -> Vec<usize> {
        (0..lines.len()).filter(|at| found(lines[*at])).collect()
    };
    let answers = at(&|line| line == "forty-two");
    let done = at(&|line| line.contains("done · 2 requests"));
    let next = at(&|line| line.starts_with("changes "));
    assert_eq!((answers.len(), done.len(), next.len()), (1, 1, 1), "{text}");
    assert!(done[0] < answers[0] && answers[0] < next[0], "{text}");
}

#[tokio::test]
async fn json_lines_are_numbered_and_the_last_is_the_outcome() {
    let script = script![call("bash", json!({"command": "echo hi > f"})), answer("done")];
    let ran = Rig::new().model(script).prompt("x").run().await.assert_finished("done");
    assert_eq!(ran.stderr, "");
    let events = ran.events();
    assert_eq!(ran.stdout.lines().count(), events.len(), "a line that is not JSON");
    for (index, event) in events.iter().enumerate() {
        assert_eq!((&event["v"], &event["n"]), (&json!(1), &json!(index + 1)), "{event}");
    }
    let names: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!((names.first(), names.last()), (Some(&"started"), Some(&"outcome")));
    assert_eq!(names.iter().filter(|name| **name == "outcome").count(), 1);
    let readme = include_str!("../../README.md");
    for name in names {
        assert!(readme.contains(&format!("| `{name}` |")), "README.md has no row for {name}");
    }
    let last = ran.outcome();
    assert_eq!(
        (&last["outcome"], &last["exit"], &last["changes"]),
        (&json!("finished"), &json!(0), &json!("kept"))
    );
}

/// A session can fail early: no login, no engine, no directory, or wrong arguments.
#[tokio::test]
async fn a_session_that_never_began_has_its_last_line_too() {
    let no_engine = Rig::new().variable("DOCKER_HOST", "unix:///none");
    let key = key_file(&no_engine);
    let misconfigured = Rig::new();
    tree::write(&misconfigured.home().join("config/airlock"), &[("config.toml", "modle = 1")]);
    let no_state = Rig::new();
    let own = no_state.home().join("state");
    tree::write(&own, &[("airlock", "a file")]);
    let their_key = key_file(&no_state);
    let plain = Rig::new();
    let nowhere = ["run", "p", "-C", "/nonexistent"];
    let cases: [(&Rig, &[&str], i32, &str, &str); 6] = [
        (&plain, &["run", "p"], 3, "sign_in", "sign-in needed: no API key was given, and"),
        (&plain, &nowhere, 2, "choice", "usage: /nonexistent cannot be used: No such file"),
        (&plain, &["run", "p", "--modle"], 2, "choice", "usage: unexpected argument '--modle'"),
        (&misconfigured, &["run", "p"], 2, "choice", "usage: "),
        (
            &no_engine,
            &["run", "p", "--api-key-file", &key],
            6,
            "sandbox",
            "no container engine: there",
        ),
        (
            &no_state,
            &["run", "p", "--api-key-file", &their_key],
            1,
            "workspace",
            "no state directory",
        ),
    ];
    for (rig, line, exit, fault, message) in cases {
        let without = run_cli(rig, line).await;
        let with = run_cli(rig, &[line, &["--json"]].concat()).await;
        // The control: without the flag nothing is on stdout, and stderr is the same.
        assert_eq!((without.exit, without.stdout.as_str()), (Some(exit), ""), "{line:?}");
        assert_eq!((with.exit, &with.stderr), (Some(exit), &without.stderr), "{line:?}");
        let mut outcome: serde_json::Value = serde_json::from_str(&with.stdout).expect("one line");
        let text = outcome["message"].take();
        assert!(text.as_str().is_some_and(|it| it.starts_with(message)), "{line:?}: {text}");
        let expected = json!({"v": 1, "n": 1, "session": "", "at_ms": 0, "event": "outcome",
            "outcome": "failed", "fault": fault, "message": null, "answer": null, "requests": 0,
            "usage": {"input": 0, "cached": 0, "output": 0, "reasoning": 0}, "changes": "none",
            "exit": exit});
        assert_eq!(outcome, expected, "{line:?}");
    }
}

/// The other end of stdin stays open and silent during the whole turn.
#[tokio::test]
async fn stdin_is_not_read_without_need() {
    let rig = Rig::new();
    let mut command = rig.command("run").await;
    let mut child = command
        .arg("p")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("airlock can be started");
    let open = child.stdin.take();
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
    let code = ended.expect("it waits on stdin").ok().and_then(|status| status.code());
    assert_eq!(code, Some(3));
    drop(open);

    // A whole turn, in which a command reads its own stdin.
    let engine = Engine::connect().await;
    images::ready(&engine).await;
    let steps = script![call("bash", json!({"command": "cat; echo end"})), answer("ok")];
    let backend = Backend::scripted(steps);
    let mut command = rig.command("run").await;
    command.args(flags(&rig, &backend)).arg("p").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::inherit()).spawn().expect("airlock can be started");
    let open = child.stdin.take();
    let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = ended.expect("it waits on stdin").expect("a child of ours");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ok\n");
    drop(open);
}

/// Stdout is not read and is soon full. The turn still ends, and its container is removed. Then every
/// line can still be read, or a signal ends the process.
#[tokio::test]
async fn a_stalled_reader_holds_neither_the_run_nor_sigterm() {
    let engine = Engine::connect().await;
    images::ready(&engine).await;
    for signal in [None, Some(Signal::TERM), Some(Signal::INT)] {
        let rig = Rig::new();
        // A pipe holds 64 KiB.
        let result = json!({"command": "head -c 9000 /dev/zero | tr '\\0' x"});
        let mut steps = vec![call("bash", result); 20];
        steps.push(answer("done"));
        let backend = Backend::scripted(Script(steps));
        let mut command = rig.command("run").await;
        command.args(flags(&rig, &backend)).args(["p", "--json"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("airlock can be started");
        let deadline = clock::now() + PATIENCE;
        let record = loop {
            let listed = first_listed_session(&rig).await;
            if let Some(record) = listed.filter(|record| record["outcome"] == "finished") {
                break record;
            }
            assert!(clock::now() < deadline, "the turn does not end");
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        assert_eq!((&record["requests"], &record["answer"]), (&json!(21), &json!("done")));
        assert_eq!(
            child.try_wait().expect("a child of ours"),
            None,
            "it did not wait for the reader"
        );
        let Some(signal) = signal else {
            let output = child.wait_with_output().await.expect("a child of ours");
            let text = String::from_utf8_lossy(&output.stdout);
            let lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
            let lines: Vec<serde_json::Value> = lines.collect();
            assert!(
                lines.iter().enumerate().all(|(at, line)| line["n"] == json!(at + 1)),
                "{text}"
            );
            assert_eq!(lines.last().map(|line| &line["event"]), Some(&json!("outcome")));
            assert_eq!(output.status.code(), Some(0));
            continue;
        };
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        rustix::process::kill_process(pid.expect("it runs"), signal).expect("a child of ours");
        let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
        let code = ended.expect("it ignores the signal").expect("a child of ours").code();
        assert_eq!(code, Some(if signal == Signal::TERM { 143 } else { 130 }));
    }
}

/// The only session of a rig's home, as `sessions --json` shows it.
async fn first_listed_session(rig: &Rig) -> Option<serde_json::Value> {
    let sessions = run_cli(rig, &["sessions", "--json"]).await.stdout;
    serde_json::from_str(sessions.lines().next()?).ok()
}

/// Characters that control a terminal or are invisible.
const STEERING: &str = "\u{9b}31ma\u{1b}]52;c;cm0gLXJmIH4=\u{7}b\u{202e}c\u{200b}d\u{1b}[2Je";

#[tokio::test]
async fn nothing_of_the_model_or_the_sandbox_steers_a_terminal() {
    let engine = Engine::connect().await;
    images::ready(&engine).await;
    let rig = Rig::new();
    let command = format!("printf '%s\\n' '{STEERING}' > f; echo '{STEERING}'");
    let backend = Backend::scripted(script![
        call("bash", json!({"command": command})).text(STEERING),
        answer(STEERING),
    ]);
    let line = ["run".to_owned(), "p".to_owned()].into_iter().chain(flags(&rig, &backend));
    // The terminal has other names too.
    let named = ["-o", "/dev/fd/3", "--record", "/dev/fd/4", "3>&1", "4>&2"].map(str::to_owned);
    let shown = on_a_terminal(&rig, &line.chain(named).collect::<Vec<_>>()).await;
    // The control: the answer is there twice, and the recording was printed.
    let answer = "<U+009B>31ma␛]52;c;cm0gLXJmIH4=␇b<U+202E>c<U+200B>d␛[2Je";
    assert!(shown.matches(answer).count() >= 2, "{shown}");
    assert!(shown.contains("{\"airlock_recording\":"), "{shown}");
    assert!(shown.contains("a␛]52;c;cm0gLXJmIH4=␇b<U+202E>c<U+200B>d␛[2Je"), "{shown}");
    assert!(shown.contains("2 requests"), "{shown}");
    assert_harmless(&shown);
    let sessions = run_cli(&rig, &["sessions"]).await.stdout;
    let id = sessions.lines().nth(1).and_then(|row| row.split(' ').next()).unwrap_or_default();
    for name in ["show", "diff"] {
        let shown = on_a_terminal(&rig, &[name.to_owned(), id.to_owned()]).await;
        assert!(shown.contains("<U+202E>"), "{name}: {shown}");
        assert_harmless(&shown);
    }
    let taken = ["diff", id, "--content", "f"].map(str::to_owned);
    let shown = on_a_terminal(&rig, &taken).await;
    assert!(shown.contains("--content PATH > FILE"), "{shown}");
    assert_harmless(&shown);
}

/// The only escape sequences are our colours.
fn assert_harmless(shown: &str) {
    for (at, _) in shown.match_indices('\u{1b}') {
        let rest: String = shown[at + 1..].chars().take(8).collect();
        let sgr = rest.strip_prefix('[').and_then(|rest| rest.split_once('m'));
        let is_colour =
            sgr.is_some_and(|(codes, _)| codes.chars().all(|c| c.is_ascii_digit() || c == ';'));
        assert!(is_colour, "ESC {rest:?} in {shown:?}");
    }
    for steering in ['\u{7}', '\u{9b}', '\u{202e}', '\u{200b}'] {
        assert!(!shown.contains(steering), "{steering:?} in {shown:?}");
    }
}

/// A command whose streams are a terminal.
async fn on_a_terminal(rig: &Rig, line: &[String]) -> String {
    let airlock = rig.command(&line[0]).await;
    let program = airlock.as_std().get_program().to_string_lossy().into_owned();
    let mut command = Command::new("script");
    command.current_dir(rig.workspace()).env_clear();
    command.arg("-qec").arg(format!("{program} {}", line.join(" "))).arg("/dev/null");
    for (name, value) in airlock.as_std().get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    let output = command.env("TERM", "xterm").stdin(Stdio::null()).output().await;
    let output = output.expect("script(1) is there");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A key file that is a pipe, and no key comes: SIGTERM still ends `airlock`.
#[tokio::test]
async fn a_key_that_never_comes_does_not_delay_sigterm() {
    let engine = Engine::connect().await;
    images::ready(&engine).await;
    let rig = Rig::new();
    let pipe = rig.home().join("never");
    let made = tokio::process::Command::new("mkfifo").arg(&pipe).status().await;
    assert!(made.expect("mkfifo(1) is there").success());
    let mut command = rig.command("run").await;
    command.args(["p", "--image", images::BUSYBOX, "--api-key-file"]).arg(&pipe);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("airlock can be started");
    // It opens when `airlock` has opened its end. As long as it is open, the read waits.
    let opened = tokio::task::spawn_blocking(move || File::options().write(true).open(pipe));
    let writer = tokio::time::timeout(PATIENCE, opened).await.expect("it is opened");
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    rustix::process::kill_process(pid.expect("it works"), Signal::TERM).expect("a child of ours");
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it waits for the key");
    assert_eq!(ended.expect("a child of ours").code(), Some(143));
    drop(writer);
}

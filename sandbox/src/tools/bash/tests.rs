//! Real commands. The tests need root, because commands run as another user.

use std::collections::BTreeMap;

use airlock_shared::item::Input;
use airlock_shared::model::Model;
use tokio_util::sync::CancellationToken;

use super::super::tests::ToolFixture;
use super::*;

/// The text after `Output:`.
fn printed(result: &ToolResult) -> &str {
    result.output.split_once("Output:\n").map_or(&result.output, |(_, text)| text)
}

#[tokio::test]
async fn the_result_has_output_exit_code_and_workdir() {
    let fixture = ToolFixture::new(20);
    let run = |command: &'static str| fixture.call(NAME, json!({"command": command}));
    let result = run("mkdir sub; echo out; echo err >&2; echo out; pwd; exit 3").await;
    let root = fixture.dir.path().display();
    assert_eq!(printed(&result), format!("out\nerr\nout\n{root}\n"));
    assert_eq!((result.ok, result.exit), (false, Some(3)));
    assert!(result.output.starts_with("Exit code: 3\nWall time: "), "{}", result.output);
    let result = fixture.call(NAME, json!({"command": "pwd", "workdir": "sub"})).await;
    assert_eq!(printed(&result), format!("{root}/sub\n"));
    let result = fixture.call(NAME, json!({"command": "pwd", "workdir": "/etc"})).await;
    assert!(result.output.starts_with("/etc is outside of the workspace"), "{}", result.output);
    assert_eq!(run("kill -SEGV $$").await.exit, Some(139));
    assert_eq!(run("cat; echo after").await.exit, Some(0));
}

#[tokio::test]
async fn a_root_that_was_locked_is_opened_for_the_next_call() {
    let fixture = ToolFixture::new(19);
    let run = |command: &'static str| fixture.call(NAME, json!({"command": command}));
    for (lock, mode) in [("echo x >a; chmod -R 644 .", 744), ("chmod 0 $PWD", 700)] {
        run(lock).await;
        let result = run("stat -c %a .; chmod -R u=rwX .; cat a").await;
        assert_eq!(printed(&result), format!("{mode}\nx\n"));
    }
    // The control: a locked directory that is not the root.
    run("mkdir sub; chmod 0 sub").await;
    let locked = fixture.call(NAME, json!({"command": "true", "workdir": "sub"})).await;
    assert!(locked.output.contains("ermission denied"), "{}", locked.output);
    // A root without write permission is not changed.
    run("chmod 555 .").await;
    assert_eq!(printed(&run("stat -c %a .").await), "555\n");
}

#[tokio::test]
async fn a_command_starts_with_nothing_of_ours() {
    let env = BTreeMap::from([
        ("GIVEN".to_owned(), "yes".to_owned()),
        ("LANG".to_owned(), "C".to_owned()),
    ]);
    let fixture = ToolFixture::with(21, Model::default(), env);
    let result = fixture
        .call(NAME, json!({"command": "env | grep -v -e ^_= -e ^PWD= -e ^SHLVL= | sort"}))
        .await;
    assert_eq!(
        printed(&result),
        "CI=1\nGIT_PAGER=cat\nGIVEN=yes\nHOME=/home/agent\nLANG=C\nLOGNAME=agent\nNO_COLOR=1\nPAGER=cat\n\
         PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nTERM=dumb\nTMPDIR=/tmp\nUSER=agent\n"
    );
    let script = "for n in $(seq 0 250); do [ -e /proc/$$/fd/$n ] && echo -n \"$n \"; done; echo
        readlink /proc/$$/fd/0; [ $(readlink /proc/$$/fd/1) = $(readlink /proc/$$/fd/2) ] && echo one pipe
        cat /proc/$$/oom_score_adj; nice; umask; ulimit -c
        grep -E '^(NoNewPrivs|CapEff|CapPrm|Groups|SigIgn|SigBlk):' /proc/self/status | tr -d '\\t '
        id -u | grep -c ^0$";
    let result = fixture.call(NAME, json!({"command": format!("ulimit -c 0\n{script}")})).await;
    assert_eq!(
        printed(&result),
        "0 1 2 \n/dev/null\none pipe\n1000\n19\n0022\n0\nGroups:\nSigBlk:0000000000000000\n\
         SigIgn:0000000000000000\nCapPrm:0000000000000000\nCapEff:0000000000000000\nNoNewPrivs:1\n0\n"
    );
}

#[tokio::test]
async fn processes_of_a_command_are_gone_when_it_ends() {
    let fixture = ToolFixture::new(22);
    let result = fixture
        .call(NAME, json!({"command": "trap '' TERM; (setsid sh -c 'trap \"\" TERM; echo late; : >late; sleep 1000' &); until [ -e late ]; do sleep 0.01; done; echo done"}))
        .await;
    assert_eq!(printed(&result), "late\ndone\n");
    assert_eq!(result.exit, Some(0), "it waited for the background process");
    let left = fixture
        .call(NAME, json!({"command": "ps -o args= -u $(id -u) | grep -c '[s]leep 1000'"}))
        .await;
    assert_eq!(printed(&left), "0\n");
}

#[tokio::test]
async fn a_command_over_its_time_limit_is_ended() {
    let fixture = ToolFixture::new(23);
    let result = fixture
        .call(NAME, json!({"command": "echo start; trap '' TERM; setsid sleep 1000 & sleep 1000", "timeout_seconds": 3}))
        .await;
    assert_eq!(printed(&result), "command timed out after 3 s\nstart\n");
    assert_eq!((result.exit, result.note.as_str()), (Some(124), "timed out after 3 s"));
    let result = fixture
        .call(NAME, json!({"command": "exec >&- 2>&-; sleep 1000", "timeout_seconds": 1}))
        .await;
    assert_eq!(result.exit, Some(124));
}

#[tokio::test]
async fn a_cancelled_command_is_gone_before_the_call_returns() {
    let fixture = ToolFixture::new(24);
    let cancel = CancellationToken::new();
    let input =
        Input::Arguments(json!({"command": "echo start; : >begun; sleep 1000"}).to_string());
    let soon = async {
        while !fixture.dir.path().join("begun").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(fixture.run(NAME, input, &cancel), soon);
    assert_eq!(
        (printed(&result), result.exit, result.ok),
        ("aborted by user\nstart\n", None, false)
    );
}

#[tokio::test]
async fn a_dropped_call_is_ended_and_does_not_harm_the_next() {
    let fixture = ToolFixture::new(27);
    let call = fixture.call(NAME, json!({"command": "sleep 1000 & sleep 1000"}));
    assert!(tokio::time::timeout(Duration::from_millis(300), call).await.is_err());
    let next = "sleep 0.2; ps -o args= -u $(id -u) | grep -c '[s]leep 1000'; echo alive";
    let result = fixture.call(NAME, json!({"command": next})).await;
    assert_eq!(printed(&result), "0\nalive\n");
}

#[tokio::test]
async fn a_patch_in_a_command_is_applied() {
    let fixture = ToolFixture::new(28);
    let command = "apply_patch <<'EOF'\n*** Begin Patch\n*** Add File: a\n+x\n*** End Patch\nEOF\n";
    let result = fixture.call(NAME, json!({"command": command})).await;
    assert!(result.ok, "{}", result.output);
    assert_eq!(fixture.read("a"), "x\n");
}

#[tokio::test]
async fn endless_output_is_cut_and_costs_no_memory() {
    let fixture = ToolFixture::new(25);
    let result = fixture.call(NAME, json!({"command": "echo first; head -c 30000000 /dev/zero | tr '\\0' x; echo; printf '\\377last'"})).await;
    let text = printed(&result);
    assert!(
        text.starts_with("first\nxxx") && text.ends_with("xxx\n\u{fffd}last"),
        "{}",
        &text[..100]
    );
    assert!(text.contains(" bytes left out …]"), "no mark");
    assert!(text.len() < 10_100, "{}", text.len());
    assert!(result.output.contains("\nTotal output lines: 3\n"));
    let result = fixture.call(NAME, json!({"command": "yes", "timeout_seconds": 1})).await;
    assert_eq!(result.exit, Some(124));
}

#[tokio::test]
async fn a_command_that_the_kernel_refuses_is_explained() {
    let fixture = ToolFixture::new(26);
    let long = "x".repeat(200_000);
    let result = fixture.call(NAME, json!({"command": format!("echo {long}")})).await;
    assert!(result.output.starts_with("the command is too long"), "{}", result.output);
    let result = fixture.call(NAME, json!({"command": "echo \0"})).await;
    assert_eq!(result.output, "the command has a NUL byte in it");
}

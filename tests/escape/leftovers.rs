//! What one call leaves to the next: nothing but files.

use crate::attack::attack;

#[tokio::test]
async fn no_variable_and_no_start_file_reaches_the_next_call() {
    let leaves = "printf 'it() { :; }; printf \"it %%s\\\\n\" works\\n' >/tmp/evil
        for file in .bashrc .profile .bash_profile .bash_login .bash_logout .inputrc .zshenv; do cp /tmp/evil ~/$file; done
        export BASH_ENV=/tmp/evil ENV=/tmp/evil PROMPT_COMMAND='. /tmp/evil' LEFT=1
        ls() { works; }; export -f ls";
    let next = "[ -n \"$LEFT\" ] && works; ls >/dev/null; true";
    let same_shell = format!("{leaves}\nbash -c true; bash -c 'echo $LEFT'");
    attack(&[leaves, next, "env | grep -q evil && works; bash -c true; sh -c true"])
        .control(&[&same_shell])
        .works_only_elsewhere()
        .await;
}

#[tokio::test]
async fn neither_folder_nor_mask_nor_limits_reach_the_next_call() {
    let leaves = "cd /tmp; umask 0; ulimit -n 16; trap '' TERM";
    let finds = "[ $PWD = /tmp ] && works; [ $(umask) = 0000 ] && works; [ $(ulimit -n) = 16 ] && works; trap | grep -q TERM && works";
    let same_shell = format!("{leaves}; {finds}");
    attack(&[leaves, finds]).control(&[&same_shell]).works_only_elsewhere().await;
}

/// Left its session, forked twice, deaf to every signal, stopped: gone before the next call.
#[tokio::test]
async fn a_daemon_is_gone_before_the_next_call() {
    let daemon = "python3 - <<'EOF'
import os, signal, time
for stopped in (False, True):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in range(1, 65):
                try: signal.signal(number, signal.SIG_IGN)
                except (OSError, ValueError): pass
            for descriptor in (0, 1, 2): os.close(descriptor)
            if stopped: os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(1000)
        os._exit(0)
time.sleep(0.5)
EOF";
    let finds = "for p in /proc/[0-9]*; do grep -qs '^Name:.python3' $p/status && works; done";
    attack(&[daemon, finds]).works_only_elsewhere().await;
}

/// One that writes into the workspace as fast as it can must be gone, or a later call would see
/// its file grow.
#[tokio::test]
async fn a_background_writer_is_gone_before_the_next_call() {
    let writer =
        "nohup bash -c 'while :; do echo x >>/tmp/grows; sleep 0.01; done' >/dev/null 2>&1 & disown
        until [ -s /tmp/grows ]; do sleep 0.1; done";
    let finds = |tenths: u32| {
        format!(
            "before=$(stat -c %s /tmp/grows); for n in $(seq {tenths}); do sleep 0.1
            [ $(stat -c %s /tmp/grows) != $before ] && works && break; done"
        )
    };
    let (soon, at_last) = (finds(5), finds(300));
    attack(&[writer, &soon]).control(&[writer, &at_last]).works_only_elsewhere().await;
}

/// Programs of the command's own in front of everybody else's are not what the sandbox starts.
#[tokio::test]
async fn a_planted_program_is_not_run_by_the_next_call() {
    let plants = "mkdir -p ~/bin /tmp/bin; for name in sh bash git rg ls env; do for folder in ~/bin /tmp/bin .; do
            printf '#!/bin/dash\\nprintf \"it %%s\\\\n\" works\\n' >$folder/$name; chmod 755 $folder/$name; done; done
        export PATH=/tmp/bin:.:$PATH";
    let same_shell = format!("cd /tmp; {plants}; ls");
    attack(&[plants, "ls /etc >/dev/null; env >/dev/null; git --version"])
        .control(&[&same_shell])
        .works_only_elsewhere()
        .await;
}

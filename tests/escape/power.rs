//! What root could do, and a command must not: in the sandbox, to the kernel, to the sandbox's binary.

use serde_json::json;

use crate::attack::attack;

#[tokio::test]
async fn a_set_uid_program_gives_nothing() {
    let shell = "[ $(rootbash -p -c 'id -u') = 0 ] && works";
    let made = "cp /bin/bash /tmp/own && chmod 6755 /tmp/own && [ $(/tmp/own -p -c 'id -u') = 0 ] && works";
    let becomes = "python3 -c 'import os; os.setuid(0)' && works";
    let user =
        "chroot --userspec=64200:64200 / bash -c '[ $(rootbash -p -c \"id -u\") = 0 ]' && works";
    attack(&[shell, made, becomes]).control(&[user]).works_only_elsewhere().await;
}

#[tokio::test]
async fn a_command_is_not_root_and_has_no_capability() {
    attack(&[
        "[ $(id -u) = 0 ] && works",
        "grep -E '^Cap(Inh|Prm|Eff|Amb):' /proc/self/status | grep -qv 0000000000000000 && works",
        "id -G | tr ' ' '\\n' | grep -qx 0 && works",
    ])
    .works_only_elsewhere()
    .await;
}

#[tokio::test]
async fn a_command_cannot_make_a_device() {
    attack(&[
        "mknod /tmp/null c 1 3 && echo x >/tmp/null && works",
        "mknod /workspace/memory c 1 1 && works",
    ])
    .works_only_elsewhere()
    .await;
}

#[tokio::test]
async fn a_command_cannot_write_outside_of_the_workspace() {
    attack(&["for folder in / /etc /usr/bin /var/tmp /root /run /dev /bin /lib; do touch $folder/left && works; done", "echo x >>/etc/passwd && works"])
        .works_only_elsewhere()
        .await;
}

#[tokio::test]
async fn a_command_cannot_touch_the_sandbox_binary() {
    let touches = "folder=$(echo /.airlock*); echo x >$folder/left && works
        mv $folder/airlock-sandbox $folder/away && works; cp /bin/true $folder/airlock-sandbox && works
        chmod 777 $folder && works; mv $folder /away && works; ln -sf /bin/true $folder/airlock-sandbox && works";
    let stands = "mkdir /.airlock; cp /bin/cat /.airlock/airlock-sandbox";
    attack(&[touches]).control(&[stands, touches]).works_only_elsewhere().await;
}

#[tokio::test]
async fn a_command_cannot_mount_or_make_namespaces() {
    let call = |words: &str| {
        format!(
            "python3 -c 'import ctypes, sys\nlibc = ctypes.CDLL(None)\nsys.exit(0 if {words} == 0 else 1)' && works"
        )
    };
    let mounts = call("libc.mount(b\"none\", b\"/tmp\", b\"tmpfs\", 0, None)");
    let unmounts = call("libc.umount2(__import__(\"glob\").glob(\"/.airlock*\")[0].encode(), 2)");
    let binds = call("libc.mount(b\"/bin\", b\"/workspace\", None, 4096, None)");
    let namespaces = call("libc.unshare(0x10000000 | 0x20000)");
    let roots = "python3 -c 'import os; os.chroot(\"/tmp\")' && works";
    attack(&[&mounts, &unmounts, &binds, &namespaces, roots])
        .unconfined(
            json!({"CapAdd": ["SYS_ADMIN", "SYS_PTRACE"], "SecurityOpt": ["apparmor=unconfined"]}),
        )
        .works_only_elsewhere()
        .await;
}

/// The known doors from a container to the kernel it runs on.
#[tokio::test]
async fn the_kernel_cannot_be_steered() {
    let writes = "for file in /proc/sys/kernel/core_pattern /proc/sys/vm/overcommit_memory /proc/sysrq-trigger /proc/sys/kernel/modprobe /sys/fs/cgroup/*/release_agent /sys/kernel/uevent_helper; do
            [ -e $file ] && ( : >>$file ) && works; done";
    let reads = "for file in /proc/kcore /proc/kmsg /dev/kmsg /dev/mem /proc/keys /sys/firmware/dmi/tables/DMI; do
            [ -e $file ] && [ -n \"$(head -c 1 $file | tr '\\0' x)\" ] && works; done";
    let sockets = "find / -xdev -type s 2>/dev/null | grep -q . && works; [ -e /var/run/docker.sock ] && works";
    attack(&[writes, reads, sockets])
        .control(&[writes])
        .unconfined(json!({"ReadonlyPaths": [], "MaskedPaths": []}))
        .works_only_elsewhere()
        .await;
}

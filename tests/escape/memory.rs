//! What the sandbox knows: its memory, its environment, its descriptors.

use crate::attack::attack;

#[tokio::test]
async fn a_command_cannot_read_the_environment_of_the_sandbox() {
    attack(&[
        "cat /proc/$runner/environ >/dev/null && works",
        "for p in /proc/[0-9]*; do [ ${p#/proc/} -lt $$ ] && cat $p/environ >/dev/null && works; done",
    ])
    .works_only_elsewhere()
    .await;
}

#[tokio::test]
async fn a_command_cannot_read_the_memory_of_the_sandbox() {
    let reads = r#"python3 - $runner <<'EOF' && works
import sys
runner = sys.argv[1]
for line in open(f'/proc/{runner}/maps'):
    if '[heap]' in line or '[stack]' in line:
        first, last = (int(at, 16) for at in line.split()[0].split('-'))
        with open(f'/proc/{runner}/mem', 'rb', 0) as memory:
            memory.seek(first)
            sys.exit(0 if memory.read(last - first) else 1)
sys.exit(1)
EOF"#;
    let sections = "for file in auxv syscall stack map_files exe cwd root; do ls -l /proc/$runner/$file/ >/dev/null && works; cat /proc/$runner/$file >/dev/null && works; done";
    attack(&[reads, sections]).works_only_elsewhere().await;
}

#[tokio::test]
async fn a_command_cannot_read_what_the_sandbox_holds_open() {
    attack(&[
        "ls /proc/$runner/fd | grep -q . && works",
        "cat /proc/$runner/fd/7 && works",
        "for n in 0 1 2; do readlink /proc/$runner/fd/$n && works; done",
    ])
    .works_only_elsewhere()
    .await;
}

#[tokio::test]
async fn a_command_cannot_trace_the_sandbox() {
    let traces = |request: &str| {
        format!(
            "python3 -c 'import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
answer = libc.ptrace({request}, int(sys.argv[1]), 0, 0)
sys.exit(0 if answer == 0 else 1)' $runner && works"
        )
    };
    // PTRACE_SEIZE; process_vm_readv needs the same permission and leaves no trace.
    let reads = "python3 -c 'import ctypes, sys
class Part(ctypes.Structure):
    _fields_ = [(\"at\", ctypes.c_void_p), (\"size\", ctypes.c_size_t)]
buffer = ctypes.create_string_buffer(8)
first = int(open(f\"/proc/{sys.argv[1]}/maps\").readline().split(\"-\")[0], 16)
ours, theirs = Part(ctypes.addressof(buffer), 8), Part(first, 8)
read = ctypes.CDLL(None).process_vm_readv(int(sys.argv[1]), ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0)
sys.exit(0 if read == 8 else 1)' $runner && works";
    attack(&[&traces("0x4206"), reads]).works_only_elsewhere().await;
}

#[tokio::test]
async fn a_command_inherits_no_descriptor() {
    let looks = "for n in $(seq 3 250); do [ -e /proc/$$/fd/$n ] && works; done";
    let reads = "cat /proc/$$/fd/7 <&7 && works";
    attack(&[looks, reads]).works_only_elsewhere().await;
}

//! Which sockets commands may make: of this machine (`AF_UNIX`) and of the container's network, and
//! no others.
//!
//! The filter is put once on the thread that starts commands, beside landlock. The sandbox's own
//! threads have none of it.
//!
//! # Why not `AF_NETLINK`, not even for routes
//! The kernel charges what waits in such a socket to no container: two MB each, also of answers to
//! questions about routes. glibc and musl look up names without it. What lists the interfaces of
//! the machine gets an error.
//!
//! # Why not a crate
//! The crates that write filters know one answer for all that is denied, and not the other numbers
//! that x86-64 has for the same calls (x32).

use std::io;

use airlock_shared::outcome::Fault;

use super::{checked, unsafe_sandbox};

/// The kernel's names of the architectures that we are built for: the number of the ELF machine,
/// 64 bits, little endian.
const ARCHITECTURE: u32 = 0xc000_0000 | MACHINE as u32;
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = libc::EM_X86_64;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = libc::EM_AARCH64;

/// From here on numbers are those of x32. No other architecture has as many calls.
const X32: u32 = 0x4000_0000;

/// Where a word of `seccomp_data` lies; of an argument the lower half, as the kernel takes an `int`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

const ALLOW: libc::sock_filter = answer(libc::SECCOMP_RET_ALLOW);

/// The filter. Jumps count from the next line.
const PROGRAM: [libc::sock_filter; 15] = [
    load(ARCH),
    if_equal(ARCHITECTURE, 1, 0),
    // THREAT: 32-bit programs, which every 64-bit one can be for one call, make sockets under other
    // numbers (`socketcall`). Tried by exec::filter::tests::calls_of_another_architecture_end_it.
    answer(libc::SECCOMP_RET_KILL_PROCESS),
    load(NUMBER),
    line(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, X32, 9, 0),
    // THREAT: a ring makes sockets without the call. Tried by
    // exec::filter::tests::only_sockets_of_the_container_are_made.
    if_equal(libc::SYS_io_uring_setup as u32, 8, 0),
    if_equal(libc::SYS_socket as u32, 1, 0),
    if_equal(libc::SYS_socketpair as u32, 0, 5),
    // THREAT: AF_VSOCK leads to the hypervisor, whatever the network namespace; AF_NETLINK takes the
    // host's memory. Tried by escape::network::no_socket_is_made_that_no_namespace_holds.
    load(FIRST_ARGUMENT),
    if_equal(libc::AF_UNIX as u32, 3, 0),
    if_equal(libc::AF_INET as u32, 2, 0),
    if_equal(libc::AF_INET6 as u32, 1, 0),
    answer(libc::SECCOMP_RET_ERRNO | libc::EAFNOSUPPORT as u32),
    ALLOW,
    answer(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
];

const fn line(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

const fn load(offset: u32) -> libc::sock_filter {
    line(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

const fn if_equal(value: u32, then: u8, otherwise: u8) -> libc::sock_filter {
    line(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, then, otherwise)
}

const fn answer(action: u32) -> libc::sock_filter {
    line(libc::BPF_RET | libc::BPF_K, action, 0, 0)
}

/// Puts the filter on this thread and all that it starts from now on, for ever.
///
/// # Errors
/// When the kernel takes no filter: no command may run then.
pub(super) fn filter_this_thread() -> Result<(), Fault> {
    put().map_err(|error| unsafe_sandbox("no filter of system calls", &error))
}

fn put() -> io::Result<()> {
    let mut program = PROGRAM;
    let len = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: plain numbers; it changes this thread only. Without it the kernel takes no filter.
    checked(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())?;
    // SAFETY: the kernel copies the program, which is alive and as long as is said.
    checked(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{said, said_without_us, user};

    /// Needs root.
    #[tokio::test]
    async fn only_sockets_of_the_container_are_made() {
        // Each family, with its kinds of sockets; pairs; and the call that makes a ring.
        let script = "python3 - <<'EOF'
import ctypes, errno, socket
made, paired = [], []
for family in range(64):
    for kind in (1, 2, 3, 5):
        try: socket.socket(family, kind, 0).close()
        except OSError: continue
        made.append(family); break
    try: socket.socketpair(family, 1)
    except OSError: continue
    paired.append(family)
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall(425, 0, None)
print(*made, '-', *paired, '-', errno.errorcode[ctypes.get_errno()])
EOF";
        let (ours, theirs) = (said(script, user(11)).await, said_without_us(script, user(11)));
        assert_eq!(ours, "1 2 10 - 1 - ENOSYS\n");
        // Without us there is netlink too, and a ring fails for another reason.
        assert!(theirs.starts_with("1 2 10 16 "), "blind: {theirs}");
        assert!(theirs.ends_with(" - EFAULT\n") || theirs.ends_with(" - EPERM\n"), "{theirs}");
        // Nor do other threads have the filter.
        // SAFETY: plain numbers.
        let netlink = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, 0) };
        // SAFETY: a descriptor that was just made, or -1.
        assert_eq!((netlink >= 0, unsafe { libc::close(netlink) }), (true, 0));
    }

    /// Needs root. glibc asks for the interfaces first, and does without.
    #[tokio::test]
    async fn names_are_looked_up_without_netlink() {
        let script = "python3 - <<'EOF'
import socket
for flags in (0, socket.AI_ADDRCONFIG):
    found = socket.getaddrinfo('localhost', 80, socket.AF_INET, socket.SOCK_STREAM, 0, flags)
    print(found[0][4])
ours = socket.create_server(('127.0.0.1', 0))
theirs = socket.create_connection(ours.getsockname()); ours.accept()[0].send(b'through'); print(theirs.recv(7).decode())
EOF
        getent ahosts localhost >/dev/null && echo found";
        let expected = "('127.0.0.1', 80)\n('127.0.0.1', 80)\nthrough\nfound\n";
        assert_eq!(said(script, user(12)).await, expected);
    }

    /// Needs root. The control says its number, by a call of 32-bit programs.
    #[cfg(target_arch = "x86_64")]
    #[tokio::test]
    async fn calls_of_another_architecture_end_it() {
        // mov eax, 20 (getpid); int 0x80; ret
        let script = "python3 - <<'EOF'
import ctypes, mmap, os
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(b'\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3')
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
print('called' if call() == os.getpid() else 'not called')
EOF
        echo $?";
        let theirs = said_without_us(script, user(13));
        // A kernel without 32-bit calls ends it by itself.
        assert!(["called\n0\n", "139\n"].contains(&theirs.as_str()), "{theirs}");
        let ended = if theirs == "139\n" { "139" } else { "159" };
        // The shell says why, in words of its own.
        let ours = said(script, user(13)).await;
        assert_eq!(ours.lines().last(), Some(ended), "{ours}");
    }
}

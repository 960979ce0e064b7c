//! Which sockets commands may make: local ones (`AF_UNIX`) and those of the container's network
//! (`AF_INET` and `AF_INET6`). No others.
//!
//! The seccomp filter is set once, on the thread that starts commands, as the landlock rules are.
//! The sandbox's other threads are not restricted.
//!
//! # Why not `AF_NETLINK`, not even for routes
//! The kernel does not charge the data that waits in such a socket to any container. That can be
//! two MB for each socket, also for answers about routes. glibc and musl look up names without
//! netlink. Programs that list network interfaces get an error.
//!
//! # Why not a crate
//! The crates that write filters have only one answer for all denied calls. They do not handle the
//! second set of numbers that x86-64 has for the same calls (x32).

use std::io;

use airlock_shared::outcome::Fault;

use super::{checked, unsafe_sandbox};

/// The kernel's number for the architecture that this program is built for: the number of the ELF
/// machine, with the bits for 64 bits and little endian.
const ARCHITECTURE: u32 = 0xc000_0000 | MACHINE as u32;
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = libc::EM_X86_64;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = libc::EM_AARCH64;

/// System call numbers from here on belong to x32. Other architectures have no numbers this high.
const X32: u32 = 0x4000_0000;

/// Offsets in `seccomp_data`. Of the argument, only the lower half is read, because the kernel takes
/// it as an `int`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

const ALLOW: libc::sock_filter = answer(libc::SECCOMP_RET_ALLOW);

/// The filter. Jumps are relative to the next line.
const PROGRAM: [libc::sock_filter; 15] = [
    load(ARCH),
    if_equal(ARCHITECTURE, 1, 0),
    // THREAT: a 32-bit system call, which a 64-bit program can make too, makes a socket under
    // another number (`socketcall`). Tried by
    // exec::filter::tests::calls_of_another_architecture_end_it.
    answer(libc::SECCOMP_RET_KILL_PROCESS),
    load(NUMBER),
    line(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, X32, 9, 0),
    // THREAT: an io_uring makes sockets without a system call for each. Tried by
    // exec::filter::tests::only_sockets_of_the_container_are_made.
    if_equal(libc::SYS_io_uring_setup as u32, 8, 0),
    if_equal(libc::SYS_socket as u32, 1, 0),
    if_equal(libc::SYS_socketpair as u32, 0, 5),
    // THREAT: AF_VSOCK reaches the hypervisor from any network namespace, and AF_NETLINK uses up the
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

/// Restricts this thread and all processes that it starts from now on. This cannot be undone.
///
/// # Errors
/// If the kernel does not accept the filter. Then no command may run.
pub(super) fn filter_this_thread() -> Result<(), Fault> {
    set().map_err(|error| unsafe_sandbox("no filter of system calls", &error))
}

fn set() -> io::Result<()> {
    let mut program = PROGRAM;
    let len = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: the arguments are plain numbers, and only this thread changes. Without this call the
    // kernel may not accept the filter.
    checked(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())?;
    // SAFETY: the kernel copies the program. It is alive and as long as `len` says.
    checked(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{output, unrestricted_output, user};

    /// Needs root.
    #[tokio::test]
    async fn only_sockets_of_the_container_are_made() {
        // Every family with each type of socket, then pairs, then the call that makes an io_uring.
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
        let (ours, theirs) =
            (output(script, user(11)).await, unrestricted_output(script, user(11)));
        assert_eq!(ours, "1 2 10 - 1 - ENOSYS\n");
        // The control: without our restrictions netlink works too, and the io_uring call fails for
        // another reason.
        assert!(theirs.starts_with("1 2 10 16 "), "blind: {theirs}");
        assert!(theirs.ends_with(" - EFAULT\n") || theirs.ends_with(" - EPERM\n"), "{theirs}");
        // Other threads do not have the filter.
        // SAFETY: the arguments are plain numbers.
        let netlink = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, 0) };
        // SAFETY: the descriptor was just made, or it is -1.
        assert_eq!((netlink >= 0, unsafe { libc::close(netlink) }), (true, 0));
    }

    /// Needs root. glibc first asks netlink for the interfaces, and continues if that fails.
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
        assert_eq!(output(script, user(12)).await, expected);
    }

    /// Needs root. The script asks for its pid with a 32-bit system call. The control gets it.
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
        let theirs = unrestricted_output(script, user(13));
        // A kernel without 32-bit calls ends the process itself, with SIGSEGV.
        assert!(["called\n0\n", "139\n"].contains(&theirs.as_str()), "{theirs}");
        let ended = if theirs == "139\n" { "139" } else { "159" };
        // The shell prints the reason in its own words, so only the last line is compared.
        let ours = output(script, user(13)).await;
        assert_eq!(ours.lines().last(), Some(ended), "{ours}");
    }
}

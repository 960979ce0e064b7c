//! Where commands may write: beneath the writable mounts of the container, and to devices. They may
//! not write beneath `/proc`, where a process could make the kernel kill another one first if
//! memory runs out.
//!
//! The rules are set once, on the thread that starts commands. So all commands are in one domain
//! and may trace each other, as usual.
//!
//! Absent: rules for reading, for signals and for sockets. Separate users, the container and `filter`
//! cover those. ABI 2 is required: ABI 1 forbids renames from directory to directory.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use super::checked;
use crate::mounts::{self, Mount};

/// The flag that asks for the ABI instead of a ruleset.
const VERSION: libc::c_uint = 1;
const RULE_PATH_BENEATH: libc::c_int = 1;

const WRITE_FILE: u64 = 1 << 1;
/// Creating and removing each kind of file: the bits from `REMOVE_DIR` to `MAKE_SYM`.
const MAKE_AND_REMOVE: u64 = 0x1ff << 4;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;

/// File systems of the kernel. They never count as writable.
const KERNEL_FILE_SYSTEMS: [&str; 4] = ["proc", "sysfs", "cgroup", "cgroup2"];

#[repr(C)]
struct Ruleset {
    handled_access_fs: u64,
}

#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: i32,
}

/// Restricts this thread and all processes that it starts from now on.
///
/// # Errors
/// Why there is no restriction, for people.
pub(super) fn restrict_this_thread() -> Result<(), String> {
    // SAFETY: with this flag the kernel reads no ruleset.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<Ruleset>(),
            0_usize,
            VERSION,
        )
    };
    let handled = match abi {
        ..=0 => return Err(format!("landlock is not available: {}", io::Error::last_os_error())),
        1 => return Err("the kernel's landlock is too old (ABI 1)".to_owned()),
        2 => WRITE_FILE | MAKE_AND_REMOVE | REFER,
        _ => WRITE_FILE | MAKE_AND_REMOVE | REFER | TRUNCATE,
    };
    let mounts = mounts::all().map_err(|error| format!("/proc/self/mountinfo: {error}"))?;
    restrict(handled, &writable(mounts)).map_err(|error| format!("landlock: {error}"))
}

fn restrict(handled: u64, places: &[PathBuf]) -> io::Result<()> {
    let ruleset = Ruleset { handled_access_fs: handled };
    // SAFETY: the kernel reads `ruleset`, whose size is given, and returns a new descriptor.
    let ruleset = unsafe {
        let made = libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const ruleset,
            size_of::<Ruleset>(),
            0,
        );
        checked(made)?;
        OwnedFd::from_raw_fd(i32::try_from(made).map_err(io::Error::other)?)
    };
    for place in places {
        // If we cannot open it, a command cannot write to it either.
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let Ok(opened) = rustix::fs::open(place, flags, Mode::empty()) else { continue };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(opened.as_fd())?.st_mode);
        let of_its_kind =
            if kind == FileType::Directory { u64::MAX } else { WRITE_FILE | TRUNCATE };
        let rule =
            PathBeneath { allowed_access: handled & of_its_kind, parent_fd: opened.as_raw_fd() };
        // SAFETY: the kernel reads `rule`; both descriptors are open.
        checked(unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                ruleset.as_raw_fd(),
                RULE_PATH_BENEATH,
                &raw const rule,
                0,
            )
        })?;
    }
    // THREAT: a command lowers its own OOM score, and the kernel kills the sandbox instead, and
    // with it the changes. Tried by escape::floods::a_command_cannot_make_the_kernel_spare_it.
    // SAFETY: prctl with plain numbers. It changes this thread only.
    checked(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())?;
    // SAFETY: as above; the descriptor is open.
    checked(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) })
}

/// Where commands may write: each writable mount, and devices, also on a mount that is not
/// writable.
///
/// A rule for `/` would also cover `/proc`. If `/` is writable, the entries of `/` are listed
/// instead.
fn writable(mounts: Vec<Mount>) -> Vec<PathBuf> {
    let mut places = vec![PathBuf::from("/dev")];
    let is_rw = |options: &str| options.split(',').any(|option| option == "rw");
    for mount in mounts {
        let is_writable = is_rw(&mount.options) && is_rw(&mount.options_of_system);
        if !is_writable || KERNEL_FILE_SYSTEMS.contains(&mount.kind.as_str()) {
            continue;
        }
        if mount.at == Path::new("/") {
            places.extend(beneath_the_root());
        } else if !is_kernel_path(&mount.at) {
            places.push(mount.at);
        }
    }
    places
}

fn is_kernel_path(path: &Path) -> bool {
    path.starts_with("/proc") || path.starts_with("/sys")
}

fn beneath_the_root() -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir("/").into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| !is_kernel_path(path))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{output, unrestricted_output, user};
    use super::*;

    #[test]
    fn the_writable_mounts_are_writable() {
        let mounts = r"100 90 0:50 / / ro,relatime - overlay overlay rw,lowerdir=/x
101 100 0:60 / /proc rw,nosuid - proc proc rw
102 100 0:61 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k
103 102 0:62 / /dev/shm rw - tmpfs shm rw
104 100 0:63 / /sys ro - sysfs sysfs ro
105 104 0:64 / /sys/fs/cgroup rw - cgroup2 cgroup rw
106 100 0:65 / /my\040work rw master:1 - tmpfs tmpfs rw
107 106 0:66 / /my\040work/.git ro - ext4 /dev/vda rw
108 100 0:67 / /frozen rw - ext4 /dev/vdb ro
109 101 0:61 /null /proc/kcore rw - tmpfs tmpfs rw";
        let expected = ["/dev", "/dev", "/dev/shm", "/my work"].map(PathBuf::from);
        assert_eq!(writable(mounts::parse(mounts)), expected);
    }

    #[test]
    fn a_writable_root_does_not_make_proc_writable() {
        let places = writable(mounts::parse("1 0 8:1 / / rw - ext4 /dev/vda rw"));
        assert!(places.contains(&"/tmp".into()) && places.contains(&"/dev".into()), "{places:?}");
        assert!(!places.iter().any(|place| is_kernel_path(place) || place == Path::new("/")));
    }

    /// Needs root. Usual operations of tools in one command. Each prints a word if it works.
    #[tokio::test]
    async fn usual_operations_work() {
        let script = r#"cd "$(mktemp -d)" && mkdir a b && echo x >a/f && mv a/f b/f && ln b/f a/g && mv b c && echo renamed
            ln -s c link && rm -r c && echo removed
            mkfifo pipe && (echo through >pipe &) && cat pipe
            echo out >/dev/stdout; echo err >/dev/stderr; echo x >/dev/null; echo shared >/dev/shm/$$ && cat /dev/shm/$$ && rm /dev/shm/$$
            git init -q . && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m m && git gc -q && echo committed
            python3 - <<'EOF'
import ctypes, os, pty, tempfile
ours, theirs = pty.openpty(); os.write(theirs, b'terminal\n'); print(os.read(ours, 8).decode())
nameless = os.open('.', os.O_TMPFILE | os.O_RDWR, 0o600)
os.link(f'/proc/self/fd/{nameless}', 'named', src_dir_fd=nameless, follow_symlinks=True); os.truncate('named', 7); print('linked')
child = os.fork()
if child == 0: os.execvp('sleep', ['sleep', '100'])
libc = ctypes.CDLL(None)
print('traced' if libc.ptrace(16, child, 0, 0) == 0 else 'not traced')
os.kill(child, 9)
EOF"#;
        let printed = output(script, user(8)).await;
        let expected =
            "renamed\nremoved\nthrough\nout\nerr\nshared\ncommitted\nterminal\nlinked\ntraced\n";
        assert_eq!(printed, expected);
    }

    /// Needs root. Hostile writes fail.
    #[tokio::test]
    async fn a_command_cannot_write_beneath_proc() {
        let writes = "cat /proc/self/oom_score_adj; echo 0 >/proc/self/oom_score_adj; cat /proc/self/oom_score_adj";
        let ours = output(writes, user(9)).await;
        let lines: Vec<_> = ours.lines().collect();
        assert!(
            matches!(lines[..], ["1000", denied, "1000"] if denied.contains("ermission")),
            "{ours}"
        );
        // The control: without our restrictions the same commands lower the score.
        let theirs =
            unrestricted_output(&format!("echo 1000 >/proc/self/oom_score_adj; {writes}"), user(9));
        assert_eq!(theirs, "1000\n0\n");
    }
}

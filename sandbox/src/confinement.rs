//! What holds this process, as the kernel says it: told in the ready line, judged by the host.
//!
//! A runtime finds the place of a mount in the image's files, text by text; the kernel follows a
//! link when the path is used. So an image with a link in the place of `/tmp` can have it mounted
//! elsewhere, and only from inside can it be seen where.
//!
//! Absent: any judgment. Without a host of ours (`link` is `none`) nobody asked for these terms.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};

use airlock_shared::defaults;
use airlock_shared::handoff::{Confinement, Mounted};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use crate::mounts::{self, Mount};

/// Where a host of ours has something mounted, or must know that nothing of it lies.
const PATHS: [&str; 9] = [
    defaults::WORKSPACE_PATH,
    "/tmp",
    "/run",
    defaults::HOME_PATH,
    "/proc",
    "/proc/sys",
    "/sys",
    "/dev",
    "/dev/pts",
];

/// Settings that a host of ours asks for.
const SETTINGS: [&str; 3] = ["kernel.shm_rmid_forced", "kernel.sem", "kernel.msgmni"];

/// Looks. What cannot be read is not there: the host then misses it.
pub(crate) fn found() -> Confinement {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let all = mounts::all().unwrap_or_default();
    let mounts = PATHS.iter().map(|&path| (path.to_owned(), mounted(path, &all)));
    Confinement {
        seccomp: line(&status, "Seccomp").parse().unwrap_or(0),
        // Not every kernel has a line for it.
        no_new_privs: rustix::thread::no_new_privs().is_ok_and(|set| set).into(),
        capabilities: line(&status, "CapBnd").to_owned(),
        mounts: mounts.collect(),
        settings: SETTINGS.iter().map(|&name| (name.to_owned(), setting(name))).collect(),
    }
}

fn setting(name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The value of a line of `/proc/self/status`.
fn line<'a>(status: &'a str, name: &str) -> &'a str {
    let of = |line: &'a str| line.strip_prefix(name)?.strip_prefix(':').map(str::trim);
    status.lines().find_map(of).unwrap_or_default()
}

/// What is mounted exactly where the path leads.
fn mounted(path: &str, all: &[Mount]) -> Option<Mounted> {
    let folder = open(path)?;
    let real = fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd())).ok()?;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", folder.as_raw_fd())).ok()?;
    let id = line(&info, "mnt_id");
    let found = all.iter().find(|mount| mount.id == id && mount.at == real)?;
    Some(Mounted {
        at: found.at.display().to_string(),
        kind: found.kind.clone(),
        options: found.options.clone(),
    })
}

/// THREAT: an image whose `/tmp` is a link to `/proc/1/cwd/…` has it lead elsewhere for each
/// process. Tried by confinement::tests::a_path_through_a_link_of_proc_is_not_there.
fn open(path: &str) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_told() {
        let found = found();
        let proc = found.mounts["/proc"].as_ref().expect("a mount");
        assert_eq!((proc.at.as_str(), proc.kind.as_str()), ("/proc", "proc"));
        assert!(u64::from_str_radix(&found.capabilities, 16).is_ok(), "{found:?}");
        assert_eq!(found.mounts.len(), PATHS.len());
        let semaphores = found.settings["kernel.sem"].as_deref().expect("a setting");
        assert_eq!(semaphores.split(' ').count(), 4, "{semaphores}");
        assert_eq!((found.settings.len(), setting("kernel.none")), (SETTINGS.len(), None));
        // Whatever these tests run in, a folder below a mount is not one.
        let all = mounts::all().expect("proc");
        assert_eq!(mounted("/proc/self/task", &all), None);
    }

    #[test]
    fn a_path_through_a_link_of_proc_is_not_there() {
        let folder = tempfile::tempdir().expect("folder");
        let link = |name: &str, to: &str| {
            let path = folder.path().join(name);
            std::os::unix::fs::symlink(to, &path).expect("a link");
            path.display().to_string()
        };
        let all = mounts::all().expect("proc");
        // The control: an ordinary link is followed, and the mount is told where it is.
        let plain = mounted(&link("plain", "/proc"), &all).expect("a mount");
        assert_eq!(plain.at, "/proc");
        // Followed, this one leads to the same mount.
        let magic = link("magic", "/proc/self/root/proc");
        assert!(fs::metadata(&magic).expect("it leads there").is_dir());
        assert_eq!(mounted(&magic, &all), None);
        assert_eq!(mounted(&link("loop", "loop"), &all), None);
        assert_eq!(mounted(&link("file", "/proc/version"), &all), None);
    }
}

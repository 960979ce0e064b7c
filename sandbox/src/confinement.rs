//! The confinement of this process, as the kernel reports it. It goes into the ready line, and the
//! host checks it.
//!
//! A container runtime looks up the path of a mount in the image's files, and the kernel follows
//! links when the path is used. So an image with a link at `/tmp` can have it mounted elsewhere,
//! and only from inside can we see where.
//!
//! Absent: any judgment. Without our host (`link` is `none`) there are no terms to check.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};

use airlock_shared::defaults;
use airlock_shared::handoff::{Confinement, Mounted};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use crate::mounts::{self, Mount};

/// The paths at which our host has something mounted, or must know that nothing is.
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

/// The kernel settings that our host checks.
const SETTINGS: [&str; 3] = ["kernel.shm_rmid_forced", "kernel.sem", "kernel.msgmni"];

/// Reads the confinement. What cannot be read counts as absent, and the host refuses it.
pub(crate) fn read() -> Confinement {
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

/// The value of a kernel setting, with one space between words.
fn setting(name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The value of a line of `/proc/self/status`.
fn line<'a>(status: &'a str, name: &str) -> &'a str {
    let value = |line: &'a str| line.strip_prefix(name)?.strip_prefix(':').map(str::trim);
    status.lines().find_map(value).unwrap_or_default()
}

/// What is mounted at exactly the place where the path leads.
fn mounted(path: &str, all: &[Mount]) -> Option<Mounted> {
    let dir = open(path)?;
    let real = fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd())).ok()?;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", dir.as_raw_fd())).ok()?;
    let id = line(&info, "mnt_id");
    let found = all.iter().find(|mount| mount.id == id && mount.at == real)?;
    Some(Mounted {
        at: found.at.display().to_string(),
        kind: found.kind.clone(),
        options: found.options.clone(),
    })
}

/// THREAT: in an image whose `/tmp` is a link to `/proc/1/cwd/…`, the path leads elsewhere for each
/// process. Tried by confinement::tests::a_path_through_a_link_of_proc_is_not_there.
fn open(path: &str) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_what_the_kernel_says() {
        let found = read();
        let proc = found.mounts["/proc"].as_ref().expect("a mount");
        assert_eq!((proc.at.as_str(), proc.kind.as_str()), ("/proc", "proc"));
        assert!(u64::from_str_radix(&found.capabilities, 16).is_ok(), "{found:?}");
        assert_eq!(found.mounts.len(), PATHS.len());
        let semaphores = found.settings["kernel.sem"].as_deref().expect("a setting");
        assert_eq!(semaphores.split(' ').count(), 4, "{semaphores}");
        assert_eq!((found.settings.len(), setting("kernel.none")), (SETTINGS.len(), None));
        // A directory below a mount is not a mount.
        let all = mounts::all().expect("proc");
        assert_eq!(mounted("/proc/self/task", &all), None);
    }

    #[test]
    fn a_path_through_a_link_of_proc_is_not_there() {
        let dir = tempfile::tempdir().expect("directory");
        let link = |name: &str, to: &str| {
            let path = dir.path().join(name);
            std::os::unix::fs::symlink(to, &path).expect("a link");
            path.display().to_string()
        };
        let all = mounts::all().expect("proc");
        // The control: an ordinary link is followed, and the real path of the mount is given.
        let plain = mounted(&link("plain", "/proc"), &all).expect("a mount");
        assert_eq!(plain.at, "/proc");
        // This link leads to the same mount if it is followed.
        let magic = link("magic", "/proc/self/root/proc");
        assert!(fs::metadata(&magic).expect("it leads there").is_dir());
        assert_eq!(mounted(&magic, &all), None);
        assert_eq!(mounted(&link("loop", "loop"), &all), None);
        assert_eq!(mounted(&link("file", "/proc/version"), &all), None);
    }
}

//! TriggerKind in a live tree acts on the host by itself, before a session and after it: which repositories
//! there are, what of each git runs or obeys, files that run as their owner, sockets and fifos.
//!
//! A live tree cannot be held: git on the host takes what commands left there. So it is compared,
//! and what is new or other than it was is named. The way is by descriptor and never through a link.
//!
//! Deliberately absent: objects and refs, which are no programs; what is only run when somebody asks
//! for it; and any configuration outside of the tree, which commands cannot write.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use airlock_shared::limits;
use rustix::fs::{self, AtFlags, Dir, FileType, Stat};

use super::beneath::{self, Root};
use super::git;
use super::node::Sha;
use super::rel_path::RelPath;
use crate::session::Trigger;

/// Entries that are looked at: a tree may be as large when it goes in, and twice as large after.
const ENTRIES: u64 = 2 * limits::WORKSPACE_ENTRIES;
/// A file of more is not read: its size and its times, which nobody can set back, stand for it.
const READ_BYTES: u64 = 1 << 20;
/// A configuration of git is read no further.
const CONFIG_BYTES: u64 = 64 << 10;
/// Folders of a repository in which nothing is run or obeyed.
const INERT: [&[u8]; 3] = [b"objects", b"refs", b"logs"];
/// Files directly in a repository that say where the rest of it is, or what git runs.
const OBEYED: [&[u8]; 4] = [b"config", b"config.worktree", b"commondir", b"gitdir"];
/// Keys of git's configuration whose value is a program, or a file that may name one.
const PROGRAMS: [&str; 16] = [
    "hookspath",
    "path",
    "fsmonitor",
    "sshcommand",
    "askpass",
    "editor",
    "pager",
    "program",
    "command",
    "helper",
    "clean",
    "smudge",
    "process",
    "textconv",
    "external",
    "attributesfile",
];

/// TriggerKind was there at one time.
#[derive(Debug, Default)]
pub struct Triggers {
    seen: BTreeMap<RelPath, TriggerState>,
    /// There was more than is looked at.
    is_cut: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct TriggerState {
    what: TriggerKind,
    mark: Fingerprint,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TriggerKind {
    /// Git takes it for a repository, or for the way to one.
    Repository,
    /// Git runs or obeys it.
    OfGit,
    /// Its set-uid or set-gid bit is set.
    SetId,
    /// A socket, a fifo, a device.
    Special,
    /// It cannot be looked into.
    Closed,
}

/// TriggerKind tells one state of a path from another.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fingerprint {
    Is,
    Link(Vec<u8>),
    File { mode: u32, sha: Sha },
    Large { mode: u32, size: i64, inode: u64, changed: (i64, u64) },
}

impl Triggers {
    /// Looks through a tree.
    ///
    /// # Errors
    /// The tree itself cannot be opened.
    pub fn look(tree: &Path) -> io::Result<Self> {
        let tree = std::fs::canonicalize(tree)?;
        let root = Root::open(&tree)?;
        let mut looking = Looking {
            root: &root,
            tree,
            found: Self::default(),
            left: ENTRIES,
            pending: vec![(RelPath::root(), Within::Tree)],
            been: HashSet::new(),
        };
        while let Some((path, within)) = looking.pending.pop() {
            if looking.been.insert((path.clone(), within)) {
                looking.folder(&path, within);
            }
        }
        Ok(looking.found)
    }

    /// TriggerKind is new or other than it was, and acts by itself; what is in a new repository is
    /// the repository's.
    ///
    /// THREAT: commands make a repository, a `.git` file or a hook, or put a repository in another's
    /// place, and the person's next `git status` runs what it names.
    /// Tried by `flow::live::what_git_would_run_is_named`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Vec<Trigger> {
        let mut found = Vec::new();
        let mut new: Vec<&RelPath> = Vec::new();
        for (path, now) in &self.seen {
            let was = before.seen.get(path);
            let of_new = now.what == TriggerKind::OfGit
                && new.last().is_some_and(|over| path.is_beneath(over));
            if was == Some(now) || of_new {
                continue;
            }
            let is_other = was.is_some_and(|was| was.what == now.what);
            let what = match (now.what, is_other) {
                (TriggerKind::Repository, false) => {
                    "a repository that was not there: git runs what its settings name"
                }
                (TriggerKind::Repository, true) => "it leads to another repository now",
                (TriggerKind::OfGit, false) => "git runs or obeys it, and it was not there",
                (TriggerKind::OfGit, true) => "git runs or obeys it, and it changed",
                (TriggerKind::SetId, false) => {
                    "it runs with its owner's rights, whoever starts it, and did not before"
                }
                (TriggerKind::SetId, true) => {
                    "it runs with its owner's rights, whoever starts it, and it changed"
                }
                (TriggerKind::Special, _) => "a socket, a fifo or a device that was not there",
                (TriggerKind::Closed, _) => "it cannot be looked into, and could before",
            };
            if now.what == TriggerKind::Repository && !is_other {
                new.push(path);
            }
            found.push(Trigger { path: path.to_string(), what: what.to_owned() });
        }
        for (path, was) in before.seen.iter().filter(|(path, _)| !self.seen.contains_key(path)) {
            let what = match was.what {
                TriggerKind::Repository => "a repository that is gone",
                TriggerKind::OfGit => "git ran or obeyed it, and does no more",
                TriggerKind::SetId | TriggerKind::Special | TriggerKind::Closed => continue,
            };
            found.push(Trigger { path: path.to_string(), what: what.to_owned() });
        }
        if self.is_cut {
            let what = "there is more in it than can be looked through";
            found.push(Trigger { path: ".".to_owned(), what: what.to_owned() });
        }
        found
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Within {
    /// The person's files.
    Tree,
    /// A folder of git's.
    Git,
    /// Whatever is in it is run.
    Hooks,
}

struct Looking<'a> {
    root: &'a Root,
    tree: PathBuf,
    found: Triggers,
    left: u64,
    pending: Vec<(RelPath, Within)>,
    been: HashSet<(RelPath, Within)>,
}

impl Looking<'_> {
    fn folder(&mut self, path: &RelPath, within: Within) {
        let Ok(names) = self.names(path) else {
            // TriggerKind is gone in this moment, or is no folder, is no matter.
            if matches!(self.root.stat(path), Ok(Some(_))) || path.is_root() {
                self.see(path.clone(), TriggerKind::Closed, Fingerprint::Is);
            }
            return;
        };
        let has = |wanted: &str| {
            names.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes()))
        };
        let is_repository = git::is_repository(has);
        if within == Within::Tree && is_repository {
            self.see(path.clone(), TriggerKind::Repository, Fingerprint::Is);
            self.pending.push((path.clone(), Within::Git));
        }
        let has_head = has("head");
        for (name, stat) in &names {
            let Ok(at) = path.join(name) else { continue };
            let is = |known: &&[u8]| name.eq_ignore_ascii_case(known);
            let kind = FileType::from_raw_mode(stat.st_mode);
            let is_folder = kind == FileType::Directory;
            let is_file = kind == FileType::RegularFile;
            if !is_folder && !is_file && kind != FileType::Symlink {
                self.see(at, TriggerKind::Special, Fingerprint::Is);
                continue;
            }
            match within {
                Within::Tree if git::is_dot_git(name) => {
                    let mark = if is_folder { Fingerprint::Is } else { self.mark(&at, stat) };
                    self.see(at.clone(), TriggerKind::Repository, mark);
                    if is_folder {
                        self.pending.push((at, Within::Git));
                    } else if is_file {
                        self.follow(&at, path);
                    }
                }
                Within::Tree if is_folder => self.pending.push((at, Within::Tree)),
                Within::Tree if is_file && stat.st_mode & 0o6000 != 0 => {
                    let mark = self.mark(&at, stat);
                    self.see(at, TriggerKind::SetId, mark);
                }
                Within::Tree => {}
                Within::Git if is_folder && has_head && INERT.iter().any(is) => {}
                Within::Git if is_folder && has_head && is(&b"hooks".as_slice()) => {
                    self.pending.push((at, Within::Hooks));
                }
                Within::Git | Within::Hooks if is_folder => self.pending.push((at, within)),
                Within::Git if has_head && OBEYED.iter().any(is) => {
                    let mark = self.mark(&at, stat);
                    self.see(at.clone(), TriggerKind::OfGit, mark);
                    if is(&b"commondir".as_slice()) {
                        self.follow(&at, path);
                    } else if !is(&b"gitdir".as_slice()) {
                        self.named(&at, path);
                    }
                }
                Within::Git if is(&b"attributes".as_slice()) && path.name() == b"info" => {
                    let mark = self.mark(&at, stat);
                    self.see(at, TriggerKind::OfGit, mark);
                }
                Within::Git => {}
                Within::Hooks => {
                    let mark = self.mark(&at, stat);
                    self.see(at, TriggerKind::OfGit, mark);
                }
            }
        }
    }

    fn names(&mut self, path: &RelPath) -> io::Result<Vec<(Vec<u8>, Stat)>> {
        let opened = self.root.folder(path)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&opened)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name == b"." || name == b".." {
                continue;
            }
            if self.left == 0 {
                self.found.is_cut = true;
                break;
            }
            self.left -= 1;
            if let Ok(stat) = fs::statat(&opened, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
                names.push((name, stat));
            }
        }
        Ok(names)
    }

    fn see(&mut self, path: RelPath, what: TriggerKind, mark: Fingerprint) {
        // A repository that is found on two ways stays one.
        let seen = self
            .found
            .seen
            .entry(path)
            .or_insert_with(|| TriggerState { what, mark: mark.clone() });
        if what == TriggerKind::Repository {
            *seen = TriggerState { what, mark };
        }
    }

    fn mark(&self, path: &RelPath, stat: &Stat) -> Fingerprint {
        let mode = stat.st_mode & 0o7777;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            let target = self.root.folder(&path.parent());
            let target = target.and_then(|folder| beneath::read_link(&folder, path.name()));
            return Fingerprint::Link(target.unwrap_or_default());
        }
        let read = u64::try_from(stat.st_size).is_ok_and(|size| size <= READ_BYTES);
        let sha = || beneath::digest(&mut self.root.file(path).ok()?).ok();
        match read.then(sha).flatten() {
            Some(sha) => Fingerprint::File { mode, sha },
            None => Fingerprint::Large {
                mode,
                size: stat.st_size,
                inode: stat.st_ino,
                changed: (stat.st_ctime, stat.st_ctime_nsec),
            },
        }
    }

    /// The beginning of a small file, as text.
    fn text(&self, path: &RelPath) -> String {
        let mut text = Vec::new();
        if let Ok(file) = self.root.file(path) {
            // TriggerKind cannot be read says nothing.
            let _end = file.take(CONFIG_BYTES).read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// A `.git` file or a `commondir`: the folder of git's that it names, where it is in the tree.
    fn follow(&mut self, file: &RelPath, from: &RelPath) {
        let text = self.text(file);
        let text = text.trim();
        if let Some(at) = self.resolve(from, text.strip_prefix("gitdir:").unwrap_or(text).trim()) {
            self.pending.push((at, Within::Git));
        }
    }

    /// The files and folders of the tree that a configuration names as programs.
    fn named(&mut self, config: &RelPath, folder: &RelPath) {
        for line in self.text(config).lines() {
            let Some((key, value)) = line.rsplit(']').next().and_then(|line| line.split_once('='))
            else {
                continue;
            };
            let key = key.trim().to_ascii_lowercase();
            if !PROGRAMS.contains(&key.as_str()) {
                continue;
            }
            let value = value.trim().trim_start_matches('!').trim_matches('"');
            let value = value.split_whitespace().next().unwrap_or_default();
            for from in [folder.parent(), folder.clone()] {
                let Some(at) = self.resolve(&from, value).filter(|at| !at.is_root()) else {
                    continue;
                };
                let Ok(Some(stat)) = self.root.stat(&at) else { continue };
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    let mark = self.mark(&at, &stat);
                    self.see(at, TriggerKind::OfGit, mark);
                } else if key == "hookspath" {
                    self.pending.push((at, Within::Hooks));
                }
            }
        }
    }

    /// A path as git reads it; none where it is not in the tree.
    fn resolve(&self, from: &RelPath, text: &str) -> Option<RelPath> {
        let named = Path::new(text);
        let mut at: Vec<&[u8]> = from.components().collect();
        let beneath = if named.is_absolute() {
            at.clear();
            named.strip_prefix(&self.tree).ok()?.to_str()?
        } else {
            text
        };
        for name in beneath.as_bytes().split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => drop(at.pop()?),
                name => at.push(name),
            }
        }
        if at.is_empty() { Some(RelPath::root()) } else { RelPath::parse(&at.join(&b'/')).ok() }
    }
}

#[cfg(test)]
mod tests;

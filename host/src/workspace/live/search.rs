//! Searches a live tree, by descriptor, with one folder open at a time.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use airlock_shared::limits;
use rustix::fs::{self, AtFlags, Dir, FileType, Stat};

use super::super::autorun::{self, Aliases, RunsWhen};
use super::super::beneath::{self, Root};
use super::super::fold::folded;
use super::super::git::{self, Shape};
use super::super::git_runs::{Reader, UserConfig};
use super::super::node::Node;
use super::super::rel_path::RelPath;
use super::super::version_control;
use super::{Fingerprint, TriggerKind, TriggerState, Triggers};

/// At most this many entries are visited: a tree may grow to twice the limit of a copy.
const ENTRIES: u64 = 2 * limits::WORKSPACE_ENTRIES;
/// A larger file is not read. Its size and its change time, which cannot be set, represent it.
const READ_BYTES: u64 = 1 << 20;
/// At most this much of a `.git` file is read.
const NAMED_BYTES: u64 = 64 << 10;
/// Folders of a repository in which git runs and obeys nothing.
const INERT: [&str; 3] = ["objects", "refs", "logs"];
/// Files directly in a repository that say where the rest of it is, or what git runs.
const OBEYED: [&str; 4] = ["config", "config.worktree", "commondir", "gitdir"];
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum GitPlace {
    /// The person's files.
    Tree,
    /// A git folder.
    Git,
    /// Git runs everything in it.
    Hooks,
    /// The person's files, reached through a link that has the name of a trigger.
    Aliased,
}

pub(super) struct TriggerSearch<'a> {
    root: &'a Root,
    tree: &'a Path,
    /// Finds what git's configuration names.
    reader: Reader<'a>,
    found: Triggers,
    left: u64,
    pending: Vec<(RelPath, GitPlace)>,
    visited: HashSet<(RelPath, GitPlace)>,
    /// The links of the tree that have the name of a trigger.
    links: BTreeMap<RelPath, Node>,
    aliases: Aliases,
}

impl TriggerSearch<'_> {
    pub(super) fn through(tree: &Path, user: &UserConfig) -> io::Result<Triggers> {
        let tree = std::fs::canonicalize(tree)?;
        let root = Root::open(&tree)?;
        let mut search = TriggerSearch {
            root: &root,
            tree: &tree,
            reader: Reader::new(&tree, user),
            found: Triggers::default(),
            left: ENTRIES,
            pending: vec![(RelPath::root(), GitPlace::Tree)],
            visited: HashSet::new(),
            links: BTreeMap::new(),
            aliases: Aliases::default(),
        };
        search.all_pending();
        search.named();
        search.follow_links();
        Ok(search.found)
    }

    fn all_pending(&mut self) {
        while let Some((path, within)) = self.pending.pop() {
            if self.visited.insert((path.clone(), within)) {
                self.folder(&path, within);
            }
        }
    }

    /// Adds what git's configuration names as a program, a configuration or a folder of hooks.
    // THREAT: commands edit `tools/fmt`, which `filter.fmt.clean = sh tools/fmt` names, or the
    // script that a hook links to. The next `git add` or commit runs it.
    // Tried by workspace::live::tests::what_a_configuration_names_is_named.
    fn named(&mut self) {
        let named = self.reader.found();
        self.found.is_cut |= named.is_cut;
        for at in named.files {
            if let Ok(Some(stat)) = self.root.stat(&at)
                && !is_folder(&stat)
            {
                let mark = self.mark(&at, &stat);
                self.see(at, TriggerKind::OfGit, mark);
            }
        }
        for at in named.folders {
            if self.root.stat(&at).is_ok_and(|stat| stat.is_some_and(|stat| is_folder(&stat))) {
                self.pending.push((at, GitPlace::Hooks));
            }
        }
        self.all_pending();
    }

    /// Searches the targets of links: with `.claude -> agents`, files in `agents` run too.
    fn follow_links(&mut self) {
        let links = std::mem::take(&mut self.links);
        let mut targets = Vec::new();
        self.aliases = Aliases::of(links.keys(), |link| {
            let Some(Node::Link { target }) = links.get(link) else { return None };
            let at = self.resolve(&link.parent(), target).filter(|at| !at.is_root())?;
            targets.push(at.clone());
            Some(at)
        });
        for at in targets {
            match self.root.stat(&at) {
                Ok(Some(stat)) if is_folder(&stat) => self.pending.push((at, GitPlace::Aliased)),
                Ok(Some(stat)) => self.runs(at, &stat),
                _ => {}
            }
        }
        self.all_pending();
    }

    fn folder(&mut self, path: &RelPath, within: GitPlace) {
        let Ok(names) = self.names(path) else {
            // A path that was removed meanwhile, or is not a folder, is skipped.
            if matches!(self.root.stat(path), Ok(Some(_))) || path.is_root() {
                self.see(path.clone(), TriggerKind::Closed, Fingerprint::Is);
            }
            return;
        };
        let shape = Shape::of(names.iter().map(|(name, _)| name.as_slice()));
        if within == GitPlace::Tree && shape.is_repository() {
            self.see(path.clone(), TriggerKind::Repository, Fingerprint::Is);
            self.pending.push((path.clone(), GitPlace::Git));
        }
        let has_head = shape.has_head();
        if within == GitPlace::Git && has_head && !git::is_dot_git(path.name()) {
            self.reader.bare(&self.reader.path_of(path));
        }
        for (name, stat) in &names {
            let Ok(at) = path.join(name) else { continue };
            let is = |known: &[&str]| known.contains(&folded(name).as_str());
            let kind = FileType::from_raw_mode(stat.st_mode);
            let is_folder = kind == FileType::Directory;
            let is_file = kind == FileType::RegularFile;
            if !is_folder && !is_file && kind != FileType::Symlink {
                self.see(at, TriggerKind::Special, Fingerprint::Is);
                continue;
            }
            match within {
                GitPlace::Tree if git::is_dot_git(name) => {
                    let mark = if is_folder { Fingerprint::Is } else { self.mark(&at, stat) };
                    self.see(at.clone(), TriggerKind::Repository, mark);
                    self.reader.work_tree(&self.reader.path_of(&at));
                    if is_folder {
                        self.pending.push((at, GitPlace::Git));
                    } else if is_file {
                        self.follow(&at, path);
                    }
                }
                GitPlace::Tree if is_folder => {
                    let control = version_control::folder(&folded(name));
                    if let Some(program) = control {
                        self.see(at.clone(), TriggerKind::Control(program), Fingerprint::Is);
                    }
                    self.pending.push((at, GitPlace::Tree));
                }
                GitPlace::Aliased if is_folder => self.pending.push((at, GitPlace::Aliased)),
                GitPlace::Tree if is_file && stat.st_mode & 0o6000 != 0 => {
                    let mark = self.mark(&at, stat);
                    self.see(at, TriggerKind::SetId, mark);
                }
                GitPlace::Tree | GitPlace::Aliased => self.runs(at, stat),
                GitPlace::Git if is_folder && has_head && is(&INERT) => {}
                GitPlace::Git if is_folder && has_head && is(&["hooks"]) => {
                    self.pending.push((at, GitPlace::Hooks));
                }
                GitPlace::Git | GitPlace::Hooks if is_folder => self.pending.push((at, within)),
                GitPlace::Git if has_head && is(&OBEYED) => {
                    let mark = self.mark(&at, stat);
                    self.see(at.clone(), TriggerKind::OfGit, mark);
                    if is(&["commondir"]) {
                        self.follow(&at, path);
                    }
                }
                GitPlace::Git if is(&["attributes"]) && folded(path.name()) == "info" => {
                    let mark = self.mark(&at, stat);
                    self.see(at, TriggerKind::OfGit, mark);
                }
                GitPlace::Git => {}
                GitPlace::Hooks => {
                    let mark = self.mark(&at, stat);
                    self.see(at, TriggerKind::OfGit, mark);
                }
            }
        }
    }

    /// Adds a file or a link that a program reads by its name.
    fn runs(&mut self, at: RelPath, stat: &Stat) {
        let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        let Some(runs) = autorun::read_by_name(&at, is_link, &self.aliases) else { return };
        let what = match runs {
            // Ordinary work changes most files of a version control.
            RunsWhen::VersionControl(_) => match version_control::obeys(&at) {
                Some(program) => TriggerKind::OfControl(program),
                None => return,
            },
            runs => TriggerKind::Runs(runs),
        };
        let mark = self.mark(&at, stat);
        if let Fingerprint::Link(target) = &mark {
            self.links.insert(at.clone(), Node::Link { target: target.clone() });
        }
        self.see(at, what, mark);
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
        let state = TriggerState { what, mark };
        match self.found.seen.get_mut(&path) {
            Some(seen) if what < seen.what => *seen = state,
            Some(_) => {}
            None => _ = self.found.seen.insert(path, state),
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

    /// The beginning of a small file.
    fn beginning(&self, path: &RelPath) -> Vec<u8> {
        let mut content = Vec::new();
        if let Ok(file) = self.root.file(path) {
            // What cannot be read counts as empty.
            let _end = file.take(NAMED_BYTES).read_to_end(&mut content);
        }
        content
    }

    /// Queues the git folder that a `.git` file or a `commondir` names, if it is in the tree.
    fn follow(&mut self, file: &RelPath, from: &RelPath) {
        let content = self.beginning(file);
        let named = content.trim_ascii();
        let named = named.strip_prefix(b"gitdir:").unwrap_or(named).trim_ascii();
        if let Some(at) = self.resolve(from, named) {
            self.pending.push((at, GitPlace::Git));
        }
    }

    /// A path as git reads it. None if it is not in the tree.
    fn resolve(&self, from: &RelPath, named: &[u8]) -> Option<RelPath> {
        let mut at: Vec<&[u8]> = from.components().collect();
        let path = Path::new(OsStr::from_bytes(named));
        let beneath = if path.is_absolute() {
            at.clear();
            path.strip_prefix(self.tree).ok()?.as_os_str().as_bytes()
        } else {
            named
        };
        for name in beneath.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => drop(at.pop()?),
                name => at.push(name),
            }
        }
        if at.is_empty() { Some(RelPath::root()) } else { RelPath::parse(&at.join(&b'/')).ok() }
    }
}

fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

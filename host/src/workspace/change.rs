//! What a session changed, path by path, and why some changes are held.

use airlock_shared::link::{self, CutWhy};
use serde::{Deserialize, Serialize};

use super::git;
use super::node::Node;
use super::rel_path::RelPath;
use super::walk::LeftOutReason;
use crate::failure::SANDBOX_SAYS;
use crate::records::rfc3339_or_none;
use crate::{sanitize, text};

/// How many missing paths are named, and how much of each.
pub(super) const CUT_NAMED: usize = 20;
const CUT_NAME_CHARS: usize = 300;

/// One path that differs from what was copied in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub path: RelPath,
    /// What was copied in. None: the path is new.
    pub before: Option<Node>,
    /// What is there now. None: it was removed.
    pub after: Option<Node>,
    /// The offset of a file's content among the stored contents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<u64>,
    /// Why it is never applied. None: it is applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldReason>,
    /// How it runs, if it runs by itself or when its tool is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<String>,
    /// It had set-uid, set-gid or sticky bits, which are not applied.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub special_bits: bool,
}

/// The kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeStatus {
    Added,
    Modified,
    Deleted,
    Mode,
}

/// Why a change is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum HeldReason {
    /// Git runs what its own folders name: hooks, filters, monitors.
    #[error("git would run it on your machine")]
    Git,
    /// Git takes such a folder for a repository of its own.
    #[error("its folder looks like a git repository, whose settings git would run")]
    Repository,
    #[error("a link that leads outside the directory")]
    LinkOutside,
    #[error("where it leads depends on too many links that are held")]
    ManyLinks,
    #[error("a device, a fifo or a socket")]
    Special,
    /// The names differ only in what some systems ignore: case, or dots at the end.
    #[error("on some systems it is the same file as {other}")]
    Case { other: RelPath },
    /// A name that apply itself uses.
    #[error("a name that airlock uses itself")]
    Reserved,
    #[error("it belongs to {program}, and may name programs that {program} runs")]
    VersionControl { root: RelPath, program: String },
    /// A program obeys it when the folder is opened, entered or asked for its state.
    #[error("{how}")]
    RunsByItself { how: String },
    /// A program, a configuration or a folder of hooks.
    #[error("your git configuration names it, and git would run it or obey it")]
    NamedInGit,
    /// The person has something here that was left out. `left_out` is this path, a folder that it
    /// is in, or a path that it would replace.
    #[error("your {left_out} was left out of the copy, {}", because(*reason))]
    LeftOut { left_out: RelPath, reason: LeftOutReason },
    /// It is in `folder`, which is held.
    #[error("its folder {folder} is held")]
    Beneath { folder: RelPath },
}

fn because(reason: LeftOutReason) -> &'static str {
    match reason {
        LeftOutReason::Secret => "because it looks like a secret",
        LeftOutReason::Excluded => "because it was excluded",
        LeftOutReason::Git => "because git runs what it names",
        LeftOutReason::Special => "because it is a device, a fifo or a socket",
        LeftOutReason::Unreadable => "because it could not be read",
        LeftOutReason::Own => "because it is airlock's own",
        LeftOutReason::History => "because of --no-history",
        LeftOutReason::Credential => "because it holds a key or login in use",
    }
}

impl Change {
    #[must_use]
    pub fn what(&self) -> ChangeStatus {
        match (&self.before, &self.after) {
            (None, _) => ChangeStatus::Added,
            (_, None) => ChangeStatus::Deleted,
            (Some(before), Some(after)) if before.same_but_mode(after) => ChangeStatus::Mode,
            _ => ChangeStatus::Modified,
        }
    }
}

impl Change {
    /// The path that is held as one with it: a git folder, or another folder that it is in.
    #[must_use]
    pub fn held_with(&self) -> RelPath {
        match &self.held {
            Some(HeldReason::Git) => {
                let is_git = |path: &RelPath| git::is_dot_git(path.name());
                self.path.ancestors().filter(is_git).last().unwrap_or_else(|| self.path.clone())
            }
            Some(HeldReason::Beneath { folder }) => folder.clone(),
            Some(HeldReason::VersionControl { root, .. }) => root.clone(),
            Some(HeldReason::LeftOut { left_out, .. }) if self.path.is_beneath(left_out) => {
                left_out.clone()
            }
            _ => self.path.clone(),
        }
    }
}

/// Everything a session changed, sorted by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeSet {
    pub changes: Vec<Change>,
    pub extent: ChangesExtent,
}

/// How large a set is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeCount {
    pub applied: u64,
    pub held: u64,
    pub extent: ChangesExtent,
}

impl ChangeCount {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.applied == 0 && self.held == 0
    }
}

/// How complete a set of changes is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChangesExtent {
    /// When it was stored.
    #[serde(with = "rfc3339_or_none")]
    pub kept: Option<jiff::Timestamp>,
    /// The session went on after it: it has the edits so far, without what git ignores.
    pub so_far: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
}

/// Which changes are missing. `why` is always our own text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cut {
    pub why: String,
    /// Edits are missing, not only what git ignores.
    pub edits: bool,
    /// How many paths are known to be missing.
    pub paths: u64,
    /// Some paths could not be read. They may be in an earlier set.
    pub unread: bool,
    /// More paths may be missing.
    pub unseen: bool,
    /// The first of them, as the sandbox names them.
    pub first: Vec<String>,
}

impl Cut {
    /// What a sandbox says is missing, with limits.
    // THREAT: the sandbox gives "your login has ended, run curl … | sh" as the reason, and we show
    // it as our own sentence. Tried by
    // workspace::intake::tests::no_reason_of_the_sandbox_is_shown_as_ours.
    #[must_use]
    pub fn heard(cut: link::Cut) -> Self {
        let why = match cut.why {
            CutWhy::Looking => "there was no time to look for more",
            CutWhy::Sending => "there was no time for more",
            CutWhy::Paths => "there are more than a set of changes may have",
            CutWhy::Names => "their names are too long together",
            CutWhy::Bytes => "they are larger than what may come out",
            CutWhy::Unread => "some of it could not be read",
        };
        let named = |path: &String| match path.char_indices().nth(CUT_NAME_CHARS) {
            Some((end, _)) => format!("{}…", &path[..end]),
            None => path.clone(),
        };
        let first = cut.first.iter().take(CUT_NAMED).map(named);
        Self {
            why: why.to_owned(),
            edits: cut.edits,
            paths: cut.paths,
            unread: cut.unread,
            unseen: cut.unseen,
            first: first.collect(),
        }
    }
}

impl ChangesExtent {
    /// What a person must know about an incomplete set. `ended`: when the session ended, if known.
    /// None: the set is complete.
    #[must_use]
    pub fn note(&self, ended: Option<jiff::Timestamp>) -> Option<String> {
        let so_far = self.so_far.then(|| match (self.kept, ended) {
            (Some(kept), Some(ended)) => {
                let seconds = ended.duration_since(kept).as_secs().max(0);
                format!(
                    "these are the edits as of {seconds} s before the end, without what git ignores"
                )
            }
            (Some(kept), None) => {
                let kept = kept.round(jiff::Unit::Second).unwrap_or(kept);
                format!("these are the edits as of {kept}, without what git ignores")
            }
            (None, _) => "these are edits from before the end, without what git ignores".to_owned(),
        });
        let cut = self.cut.as_ref().map(|cut| {
            let what = if cut.edits { "changes" } else { "what git ignores" };
            let least = if cut.unseen { "at least " } else { "" };
            let missing = match cut.paths {
                0 => String::new(),
                paths => format!(": {least}{} missing", text::counted(paths, "path")),
            };
            let more = if cut.paths > cut.first.len() as u64 { ", …" } else { "" };
            let named = match cut.first.is_empty() {
                true => String::new(),
                false => {
                    let paths = cut.first.iter().map(|path| sanitize::quoted(path));
                    let paths = paths.collect::<Vec<_>>().join(", ");
                    format!(" ({SANDBOX_SAYS}{paths}{more})")
                }
            };
            format!("{what} did not come out whole, {}{missing}{named}", cut.why)
        });
        match (so_far, cut) {
            (Some(so_far), Some(cut)) => Some(format!("{so_far}; {cut}")),
            (so_far, cut) => so_far.or(cut),
        }
    }
}

impl ChangeSet {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    #[must_use]
    pub fn count(&self) -> ChangeCount {
        let (applied, held) = (self.applied().count() as u64, self.held().count() as u64);
        ChangeCount { applied, held, extent: self.extent.clone() }
    }

    /// The changes that apply makes.
    pub fn applied(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.held.is_none())
    }

    /// Each path that is held as one, with the reason and the number of paths.
    #[must_use]
    pub fn held_groups(&self) -> Vec<(RelPath, String, usize)> {
        let mut groups: Vec<(RelPath, String, usize)> = Vec::new();
        for change in self.held() {
            let Some(held) = &change.held else { continue };
            let root = change.held_with();
            match groups.last_mut() {
                Some((last, _, paths)) if *last == root => *paths += 1,
                _ => groups.push((root, held.to_string(), 1)),
            }
        }
        groups
    }

    /// The changes that apply never makes.
    pub fn held(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.held.is_some())
    }
}

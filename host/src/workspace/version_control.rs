//! The version controls other than git: the files and folders that they keep in a work tree, and
//! which of them their program obeys. The export gate holds all of them, `--no-history` leaves out
//! those with commits, and a live tree is compared for those that are obeyed.
//!
//! For git more than names counts: see `git`.

use super::fold::folded;
use super::rel_path::RelPath;

/// A file or folder that a version control keeps in a work tree.
pub(super) struct ControlEntry {
    /// In lower case. `name/` is a folder with everything in it, `a/name` a file in such a folder.
    pub(super) name: &'static str,
    pub(super) program: &'static str,
    /// It holds commits.
    pub(super) has_history: bool,
    /// The paths in a folder that say what the program runs, or where it reads that.
    pub(super) obeyed: &'static [&'static str],
}

const fn history(
    name: &'static str,
    program: &'static str,
    obeyed: &'static [&'static str],
) -> ControlEntry {
    ControlEntry { name, program, has_history: true, obeyed }
}

const fn settings(name: &'static str, program: &'static str) -> ControlEntry {
    ControlEntry { name, program, has_history: false, obeyed: &[] }
}

pub(super) const KEPT: &[ControlEntry] = &[
    history(".hg/", "Mercurial", &["hgrc", "hgrc-not-shared", "sharedpath"]),
    history(".jj/", "Jujutsu", &["repo", "repo/config.toml", "workspace-config.toml"]),
    history(".sl/", "Sapling", &["config", "hgrc", "sharedpath"]),
    history(".svn/", "Subversion", &[]),
    history("_svn/", "Subversion", &[]),
    history(".bzr/", "Breezy", &["branch/branch.conf", "branch/location"]),
    history("_darcs/", "Darcs", &["prefs/defaults"]),
    history(".pijul/", "Pijul", &["config"]),
    history(".fossil", "Fossil", &[]),
    history(".fslckout", "Fossil", &[]),
    history("_fossil_", "Fossil", &[]),
    settings(".fossil-settings/", "Fossil"),
    history("_mtn/", "Monotone", &["monotonerc"]),
    history("{arch}/", "GNU Arch", &[]),
    settings(".arch-ids/", "GNU Arch"),
    history(".repo/", "repo", &["repo/main.py", "repo/hooks.py"]),
    settings(".p4config", "Perforce"),
    // Source folders may have this name too. These are the files that CVS itself keeps there.
    settings("cvs/root", "CVS"),
    settings("cvs/repository", "CVS"),
    settings("cvs/entries", "CVS"),
    settings("cvs/entries.log", "CVS"),
    settings("cvs/tag", "CVS"),
    settings("cvs/template", "CVS"),
    settings("cvs/base/", "CVS"),
];

/// Whether a folded name is that of a file or folder with commits.
pub(super) fn has_history(folded: &str) -> bool {
    KEPT.iter().any(|kept| kept.has_history && kept.name.trim_end_matches('/') == folded)
}

/// The program whose folder has this folded name.
pub(super) fn folder(folded: &str) -> Option<&'static str> {
    let kept = KEPT.iter().find(|kept| kept.name.strip_suffix('/') == Some(folded));
    kept.map(|kept| kept.program)
}

/// The program that obeys this path.
pub(super) fn obeys(path: &RelPath) -> Option<&'static str> {
    let names: Vec<String> = path.components().map(folded).collect();
    let obeys = |kept: &&ControlEntry| match kept.name.strip_suffix('/') {
        Some(folder) => names.iter().enumerate().any(|(at, name)| {
            name == folder && kept.obeyed.contains(&names[at + 1..].join("/").as_str())
        }),
        // A file with settings, not one with commits.
        None => !kept.has_history && ends_with(&names, kept.name),
    };
    KEPT.iter().find(obeys).map(|kept| kept.program)
}

fn ends_with(names: &[String], path: &str) -> bool {
    let wanted = path.split('/').rev();
    let count = wanted.clone().count();
    names.len() >= count && names.iter().rev().zip(wanted).all(|(name, wanted)| name == wanted)
}

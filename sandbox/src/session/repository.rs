//! What git in the sandbox is told before the first turn, so that it agrees with what is there: the
//! tracked files that were left out are skipped in the index; where a repository's history was left
//! out, one commit of what came in stands for it.
//!
//! The image's git does it, as the tool user. Without one there is no mark, and no repository.
//!
//! # Why `ls-files` before `update-index`
//! One name that git does not track, and `update-index` marks none of them. A folder that was left
//! out is its tracked files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use airlock_shared::link::LEFT_OUT_HISTORY;
use airlock_shared::outcome::Fault;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::files::{NotCopied, NotThere};
use crate::tools::Toolbox;

/// The kernel takes 128 KiB as one argument, and the script is one.
const SCRIPT_BYTES: usize = 64 << 10;
const NO_GIT: i32 = 3;
const UNMARKED: &str = "git could not mark all that was left out: in the sandbox it calls those files \
                        deleted";
const COMMIT: &str = "command -v git >/dev/null 2>&1 || exit 3
git -c init.defaultBranch=main init -q --template= . && git add -A && \
git -c user.name=airlock -c user.email=airlock@localhost -c commit.gpgSign=false \
commit -q --allow-empty --no-verify -m 'The directory as it was copied in' || exit 1";

/// Tells it.
///
/// # Errors
/// The sandbox is no longer safe.
pub(super) async fn tell(
    tools: &Toolbox,
    not_there: &NotThere,
    deadline: Instant,
    cancel: &CancellationToken,
) -> Result<RepositoryNote, Fault> {
    let mut told = RepositoryNote::default();
    if has_no_history(&not_there.paths) {
        let made = tools.script(COMMIT.to_owned(), deadline, cancel).await?;
        told.wrote = true;
        if !made.ok {
            let rest = "rm -rf .git".to_owned();
            tools.script(rest, deadline, cancel).await?;
            told.notes.push(match made.exit {
                Some(NO_GIT) => "the image has no git: there is no repository in the sandbox",
                _ => "git could make no commit of the directory: there is no repository in the sandbox",
            });
        }
    }
    let mut all_marked = true;
    for script in marks(&not_there.paths, &not_there.repositories) {
        told.wrote = true;
        all_marked &= tools.script(script, deadline, cancel).await?.exit == Some(0);
    }
    if !all_marked {
        told.notes.push(UNMARKED);
    }
    Ok(told)
}

#[derive(Default)]
pub(super) struct RepositoryNote {
    /// Git was run, and may have written its own files.
    pub(super) wrote: bool,
    /// For people, where something is not as they asked.
    pub(super) notes: Vec<&'static str>,
}

/// Whether the root's repository was left out for its history.
fn has_no_history(left_out: &[NotCopied]) -> bool {
    left_out.iter().any(|it| it.path == b".git" && it.why == LEFT_OUT_HISTORY)
}

/// Scripts that mark what was left out in the index of the repository that it lies in. A name that
/// is not UTF-8 is not marked.
fn marks(left_out: &[NotCopied], repositories: &[Vec<u8>]) -> Vec<String> {
    let repositories: BTreeSet<&[u8]> = repositories.iter().map(Vec::as_slice).collect();
    let mut by_repository: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for path in left_out.iter().filter_map(|it| std::str::from_utf8(&it.path).ok()) {
        if path.split('/').any(|name| name == ".git") {
            continue;
        }
        let folders = path.match_indices('/').rev().map(|(at, _)| (&path[..at], &path[at + 1..]));
        let mut folders = folders.chain([("", path)]);
        if let Some((folder, rest)) = folders.find(|(at, _)| repositories.contains(at.as_bytes())) {
            by_repository.entry(folder).or_default().push(rest);
        }
    }
    let mut scripts = Vec::new();
    for (folder, paths) in by_repository {
        // One that begins with `-` is not a flag so, and is looked for nowhere else.
        let folder = quoted(&format!("./{folder}"));
        let mut names = String::new();
        for (at, path) in paths.iter().enumerate() {
            let _ = write!(names, " {}", quoted(path));
            if names.len() >= SCRIPT_BYTES || at + 1 == paths.len() {
                // Both ends of the pipe must work: a list that broke off marks too few. Not every
                // shell has `pipefail`.
                scripts.push(format!(
                    "command -v git >/dev/null 2>&1 || exit 0\ncd {folder} || exit 1\n\
                     listed=$({{ {{ git --literal-pathspecs ls-files -z --{names}; echo $? >&3; }} | \
                     git update-index -z --skip-worktree --stdin >&2; }} 3>&1) && \
                     [ \"$listed\" = 0 ]"
                ));
                names.clear();
            }
        }
    }
    scripts
}

/// As a shell takes it literally.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests;

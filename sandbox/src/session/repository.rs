//! Prepares git in the sandbox before the first turn, so that it agrees with the workspace. Tracked
//! files that were left out are marked in the index as skipped. If the history was left out, a new
//! repository with one commit of the workspace takes its place.
//!
//! The image's git does this, as the tool user. Without git there is no mark and no repository.
//!
//! # Why `ls-files` before `update-index`
//! If one name is not tracked, `update-index` marks none of them. And for a directory that was left
//! out its tracked files must be listed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use airlock_shared::link::LEFT_OUT_HISTORY;
use airlock_shared::outcome::Fault;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::files::{LeftOut, LeftOutPath};
use crate::tools::Toolbox;

/// The kernel takes at most 128 KiB as one argument, and the script is one argument.
const SCRIPT_BYTES: usize = 64 << 10;
const NO_GIT: i32 = 3;
const UNMARKED: &str = "git could not mark all files that were left out: in the sandbox it shows them \
                        as deleted";
const COMMIT: &str = "command -v git >/dev/null 2>&1 || exit 3
git -c init.defaultBranch=main init -q --template= . && git add -A && \
git -c user.name=airlock -c user.email=airlock@localhost -c commit.gpgSign=false \
commit -q --allow-empty --no-verify -m 'The directory as it was copied in' || exit 1";

/// Makes git agree with what was left out.
///
/// # Errors
/// If the sandbox is no longer safe.
pub(super) async fn prepare(
    tools: &Toolbox,
    left_out: &LeftOut,
    deadline: Instant,
    cancel: &CancellationToken,
) -> Result<PreparedRepository, Fault> {
    let mut result = PreparedRepository::default();
    if has_no_history(&left_out.paths) {
        let made = tools.script(COMMIT.to_owned(), deadline, cancel).await?;
        result.wrote = true;
        if !made.ok {
            let rest = "rm -rf .git".to_owned();
            tools.script(rest, deadline, cancel).await?;
            result.notes.push(match made.exit {
                Some(NO_GIT) => "the image has no git: there is no repository in the sandbox",
                _ => "git could not commit the directory: there is no repository in the sandbox",
            });
        }
    }
    let mut all_marked = true;
    for script in marks(&left_out.paths, &left_out.repositories) {
        result.wrote = true;
        all_marked &= tools.script(script, deadline, cancel).await?.exit == Some(0);
    }
    if !all_marked {
        result.notes.push(UNMARKED);
    }
    Ok(result)
}

#[derive(Default)]
pub(super) struct PreparedRepository {
    /// Git was started and may have written its own files.
    pub(super) wrote: bool,
    /// For people: what could not be done.
    pub(super) notes: Vec<&'static str>,
}

/// Whether the repository at the root was left out because of its history.
fn has_no_history(left_out: &[LeftOutPath]) -> bool {
    left_out.iter().any(|it| it.path == b".git" && it.why == LEFT_OUT_HISTORY)
}

/// Scripts that mark each path that was left out in the index of its repository. A name that is not
/// UTF-8 is not marked.
fn marks(left_out: &[LeftOutPath], repositories: &[Vec<u8>]) -> Vec<String> {
    let repositories: BTreeSet<&[u8]> = repositories.iter().map(Vec::as_slice).collect();
    let mut by_repository: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for path in left_out.iter().filter_map(|it| std::str::from_utf8(&it.path).ok()) {
        if path.split('/').any(|name| name == ".git") {
            continue;
        }
        let dirs = path.match_indices('/').rev().map(|(at, _)| (&path[..at], &path[at + 1..]));
        let mut dirs = dirs.chain([("", path)]);
        if let Some((dir, rest)) = dirs.find(|(at, _)| repositories.contains(at.as_bytes())) {
            by_repository.entry(dir).or_default().push(rest);
        }
    }
    let mut scripts = Vec::new();
    for (dir, paths) in by_repository {
        // With `./` a name that begins with `-` is not a flag, and `CDPATH` is not searched.
        let dir = quoted(&format!("./{dir}"));
        let mut names = String::new();
        for (at, path) in paths.iter().enumerate() {
            let _ = write!(names, " {}", quoted(path));
            if names.len() >= SCRIPT_BYTES || at + 1 == paths.len() {
                // Both commands of the pipe must succeed: a list that breaks off marks too few. Not
                // every shell has `pipefail`.
                scripts.push(format!(
                    "command -v git >/dev/null 2>&1 || exit 0\ncd {dir} || exit 1\n\
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

/// Quoted for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests;

//! A change of a file as counts (`+3 −1`) and a short unified diff.

use std::time::Duration;

use airlock_shared::limits;
use airlock_shared::scrub::MARK;
use similar::{ChangeTag, TextDiff};

use super::output;

/// How long to search for the shortest diff.
const SEARCH: Duration = Duration::from_millis(200);
/// Of larger files only the lines are counted.
const COMPARE_BYTES: usize = 1 << 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ChangeCounts {
    pub(super) added: u64,
    pub(super) removed: u64,
}

impl ChangeCounts {
    pub(super) fn note(self) -> String {
        format!("+{} −{}", self.added, self.removed)
    }
}

impl std::ops::AddAssign for ChangeCounts {
    fn add_assign(&mut self, other: Self) {
        self.added += other.added;
        self.removed += other.removed;
    }
}

/// How many marks of removed secrets a text has.
pub(super) fn marks(text: &[u8]) -> usize {
    String::from_utf8_lossy(text).matches(MARK).count()
}

/// Checks that a change adds no marks.
///
/// THREAT: the model reads a file without its credential and writes it back like this: the
/// credential is lost. We do not know who wrote a mark, so existing marks may stay, and new ones
/// are refused. Tried by `tools::tests::a_text_whose_secret_was_removed_is_not_written_back`.
pub(super) fn check_marks(before: usize, after: usize) -> Result<(), String> {
    if after <= before {
        return Ok(());
    }
    Err(format!(
        "the new text contains `{MARK}`: a credential was removed from what you read, and would be \
         lost. Change only the lines around it. If you mean exactly those words, write them with bash"
    ))
}

/// How many lines were added and removed, and the diff if the files are small.
pub(super) fn between(old: &[u8], new: &[u8]) -> (ChangeCounts, String) {
    if old.len() > COMPARE_BYTES || new.len() > COMPARE_BYTES {
        let lines = |bytes: &[u8]| bytes.split_inclusive(|byte| *byte == b'\n').count() as u64;
        return (ChangeCounts { added: lines(new), removed: lines(old) }, String::new());
    }
    let (old, new) = (String::from_utf8_lossy(old), String::from_utf8_lossy(new));
    let diff = TextDiff::configure().timeout(SEARCH).diff_lines(&*old, &*new);
    let mut counts = ChangeCounts::default();
    for change in diff.iter_all_changes() {
        match change.tag() {
            ChangeTag::Insert => counts.added += 1,
            ChangeTag::Delete => counts.removed += 1,
            ChangeTag::Equal => {}
        }
    }
    let text = diff.unified_diff().context_radius(2).to_string();
    (counts, output::cut(&text, limits::DIFF_BYTES))
}

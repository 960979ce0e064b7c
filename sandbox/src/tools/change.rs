//! What a change of a file looks like: `+3 −1` and a short unified diff.

use std::time::Duration;

use airlock_shared::limits;
use airlock_shared::scrub::MARK;
use similar::{ChangeTag, TextDiff};

use super::output;

/// How long a diff may look for the shortest way.
const SEARCH: Duration = Duration::from_millis(200);
/// Files over this are counted and not compared.
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

/// How often a text says that a secret was removed from it.
pub(super) fn marks(text: &[u8]) -> usize {
    String::from_utf8_lossy(text).matches(MARK).count()
}

/// Whether a change may be made that has as many marks before it, and after.
///
/// THREAT: the model reads a file without its credential and writes it back so: the credential is
/// lost. It cannot be known here who wrote a mark, so what was there may stay, and no more comes
/// to it. Tried by `tools::tests::a_text_whose_secret_was_removed_is_not_written_back`.
pub(super) fn keeps_secrets(before: usize, after: usize) -> Result<(), String> {
    if after <= before {
        return Ok(());
    }
    Err(format!(
        "the new text contains `{MARK}`: a credential was removed from what you read, and would be \
         lost. Change only the lines around it. If those very words are meant, write them with bash"
    ))
}

/// How many lines came and went, and which, if that is short to say.
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

//! Shows changes against the directory as it is now. The text is raw: it must be neutralised before
//! it is printed to a terminal.

use std::io::{self, Read, Write};
use std::time::Duration;

use airlock_shared::limits;
use similar::{ChangeTag, TextDiff};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::base::Base;
use super::beneath::Root;
use super::change::{Change, ChangeSet, ChangeStatus};
use super::node::Node;
use super::store::{self, Contents};
use crate::records::SessionFolder;

/// Which changes are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiffView {
    /// Those that apply would make.
    Applied,
    /// Those that are held.
    Held,
}

/// One change in a summary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SummaryLine {
    pub change: Change,
    /// Lines of text.
    pub added: usize,
    pub removed: usize,
    /// Its lines cannot be counted: it is not text, or too large.
    pub binary: bool,
    /// Its lines were not counted: that would take too long.
    pub uncounted: bool,
    /// Its size after the change.
    pub bytes: u64,
}

/// How long lines may be compared.
pub struct CompareDeadline {
    until: Instant,
    /// Cancelled: there is no time left.
    hurry: CancellationToken,
}

impl CompareDeadline {
    /// The usual limits. `hurry` ends them early.
    #[must_use]
    pub fn bounded(hurry: CancellationToken) -> Self {
        Self { until: Instant::now() + Duration::from_millis(limits::DIFF_ALL_MS), hurry }
    }

    /// When the comparison of one more file must end. None: there is no time left.
    fn for_one_more(&self) -> Option<Instant> {
        let now = Instant::now();
        let one = now + Duration::from_millis(limits::DIFF_FILE_MS);
        (now < self.until && !self.hurry.is_cancelled()).then(|| one.min(self.until))
    }
}

/// The content of a path, as far as it can be shown.
enum ShownContent {
    /// A folder, a link, nothing.
    None,
    Text(String),
    /// Its size.
    Opaque(u64),
}

/// Writes the changes as a unified diff. A change without lines gets one line.
///
/// # Errors
/// The session's files cannot be read, or `out` cannot be written.
pub fn diff(session: &SessionFolder, view: DiffView, out: &mut dyn Write) -> io::Result<()> {
    let Some((set, mut source)) = open(session)? else { return Ok(()) };
    if view == DiffView::Applied {
        for (path, why, _) in set.held_groups() {
            writeln!(out, "held {path}: {why}")?;
        }
    }
    let deadline = CompareDeadline::bounded(CancellationToken::new());
    for change in shown(&set, view) {
        // The lines of all files are shown. After the time limit they may be more than needed.
        let until = deadline.for_one_more().unwrap_or(deadline.until);
        show(change, &mut source, until, out)?;
    }
    Ok(())
}

/// The changes with their lines counted, as far as there is time.
///
/// # Errors
/// The session's files cannot be read.
// THREAT: each file of shuffled lines takes seconds to compare, and many of them delay the end of a
// session for minutes. Tried by
// workspace::diff::tests::what_takes_too_long_to_compare_is_not_counted.
pub fn stat(
    session: &SessionFolder,
    view: DiffView,
    effort: &CompareDeadline,
) -> io::Result<Vec<SummaryLine>> {
    let Some((set, mut source)) = open(session)? else { return Ok(Vec::new()) };
    // A large set must be in memory only once.
    let shown = set.changes.into_iter().filter(|change| is_shown(change, view));
    shown.map(|change| count(change, &mut source, effort)).collect()
}

impl SummaryLine {
    /// `src/pad.js | 4 +++-`, with at most this many signs.
    #[must_use]
    pub fn text(&self, signs: usize) -> String {
        let path = &self.change.path;
        let total = self.added + self.removed;
        if self.binary {
            return format!("{path} | binary");
        }
        if self.uncounted {
            return format!("{path} | changed, {}", crate::text::bytes(self.bytes));
        }
        if total == 0 {
            let what = match (self.change.what(), &self.change.after) {
                (ChangeStatus::Mode, _) => "mode",
                (ChangeStatus::Deleted, _) => "gone",
                (_, Some(Node::Folder { .. })) => "folder",
                (_, Some(Node::Link { .. })) => "link",
                (_, Some(Node::Special)) => "device",
                _ => "empty",
            };
            return format!("{path} | {what}");
        }
        // A side with lines keeps at least one sign.
        let scale =
            |part: usize| if total <= signs { part } else { (part * signs).div_ceil(total) };
        format!(
            "{path} | {total} {}{}",
            "+".repeat(scale(self.added)),
            "-".repeat(scale(self.removed))
        )
    }
}

struct DiffSource {
    /// None if the directory is gone.
    root: Option<Root>,
    contents: Contents,
}

fn open(session: &SessionFolder) -> io::Result<Option<(ChangeSet, DiffSource)>> {
    let Some(set) = store::load(session.path())? else { return Ok(None) };
    let root = Root::open(&Base::load(session.path())?.root).ok();
    Ok(Some((set, DiffSource { root, contents: Contents::open(session.path())? })))
}

fn shown(set: &ChangeSet, view: DiffView) -> impl Iterator<Item = &Change> {
    set.changes.iter().filter(move |change| is_shown(change, view))
}

fn is_shown(change: &Change, view: DiffView) -> bool {
    (view == DiffView::Held) == change.held.is_some()
}

impl DiffSource {
    /// What is in the directory now.
    fn there(&self, change: &Change) -> ShownContent {
        let file = self.root.as_ref().and_then(|root| root.file(&change.path).ok());
        let Some(mut file) = file else { return ShownContent::None };
        let size = file.metadata().map_or(0, |metadata| metadata.len());
        text(&mut file, size).unwrap_or(ShownContent::Opaque(size))
    }

    /// The content after the change.
    fn made(&mut self, change: &Change) -> io::Result<ShownContent> {
        match (&change.after, change.content) {
            (Some(Node::File { size, .. }), Some(offset)) => {
                text(&mut self.contents.at(offset, *size)?, *size)
            }
            // Only its mode changed.
            (Some(Node::File { .. }), None) => Ok(self.there(change)),
            _ => Ok(ShownContent::None),
        }
    }
}

fn text(from: &mut impl Read, size: u64) -> io::Result<ShownContent> {
    if size > limits::DIFF_FILE_BYTES {
        return Ok(ShownContent::Opaque(size));
    }
    let mut bytes = Vec::new();
    from.take(limits::DIFF_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => ShownContent::Text(text),
        _ => ShownContent::Opaque(size),
    })
}

/// The two texts of a change. A missing side is empty.
fn texts(old: ShownContent, new: ShownContent) -> Result<(String, String), (u64, u64)> {
    let size = |content: &ShownContent| match content {
        ShownContent::None => 0,
        ShownContent::Text(text) => text.len() as u64,
        ShownContent::Opaque(size) => *size,
    };
    let sizes = (size(&old), size(&new));
    let plain = |content| match content {
        ShownContent::None => Some(String::new()),
        ShownContent::Text(text) => Some(text),
        ShownContent::Opaque(_) => None,
    };
    plain(old).zip(plain(new)).ok_or(sizes)
}

fn compared<'a>(old: &'a str, new: &'a str, until: Instant) -> TextDiff<'a, 'a, str> {
    TextDiff::configure().deadline(until.into_std()).diff_lines(old, new)
}

fn count(
    change: Change,
    source: &mut DiffSource,
    effort: &CompareDeadline,
) -> io::Result<SummaryLine> {
    let bytes = match &change.after {
        Some(Node::File { size, .. }) => *size,
        _ => 0,
    };
    let mut line =
        SummaryLine { change, added: 0, removed: 0, binary: false, uncounted: false, bytes };
    let is_file = |node: &Option<Node>| matches!(node, Some(Node::File { .. }));
    if !is_file(&line.change.before) && !is_file(&line.change.after) {
        return Ok(line);
    }
    let Some(until) = effort.for_one_more() else {
        line.uncounted = true;
        return Ok(line);
    };
    let (old, new) = (source.there(&line.change), source.made(&line.change)?);
    let Ok((old, new)) = texts(old, new) else {
        line.binary = true;
        return Ok(line);
    };
    let compared = compared(&old, &new, until);
    // A comparison that was stopped does not say how much changed.
    if Instant::now() > until {
        line.uncounted = true;
        return Ok(line);
    }
    for change in compared.iter_all_changes() {
        match change.tag() {
            ChangeTag::Insert => line.added += 1,
            ChangeTag::Delete => line.removed += 1,
            ChangeTag::Equal => {}
        }
    }
    Ok(line)
}

fn show(
    change: &Change,
    source: &mut DiffSource,
    until: Instant,
    out: &mut dyn Write,
) -> io::Result<()> {
    let path = &change.path;
    if let Some(held) = &change.held {
        writeln!(out, "held {path}: {held}")?;
    }
    if let Some(how) = change.runs.as_ref().filter(|_| change.held.is_none()) {
        writeln!(out, "look at {path}: {how}")?;
    }
    if change.special_bits {
        writeln!(out, "set-uid, set-gid or sticky bits of {path} are not applied")?;
    }
    if let (Some(old), Some(new)) = (mode(&change.before), mode(&change.after))
        && old != new
    {
        writeln!(out, "mode of {path}: {old:04o} -> {new:04o}")?;
    }
    match (&change.before, &change.after) {
        (None, Some(Node::File { mode, .. })) if mode & 0o111 != 0 => {
            writeln!(out, "mode of {path}: {mode:04o}")?;
        }
        (_, Some(Node::Link { target })) => {
            writeln!(out, "link {path} -> {}", super::rel_path::encode(target))?;
        }
        (_, Some(Node::Folder { .. })) if change.what() != ChangeStatus::Mode => {
            writeln!(out, "new folder {path}")?;
        }
        (_, Some(Node::Special)) => writeln!(out, "device {path}")?,
        (Some(Node::Folder { .. }), None) => writeln!(out, "folder {path} is removed")?,
        (Some(Node::Link { .. }), None) => writeln!(out, "link {path} is removed")?,
        _ => {}
    }
    let (old, new) = (source.there(change), source.made(change)?);
    let names = (
        if matches!(old, ShownContent::None) {
            "/dev/null".to_owned()
        } else {
            format!("a/{path}")
        },
        if matches!(new, ShownContent::None) {
            "/dev/null".to_owned()
        } else {
            format!("b/{path}")
        },
    );
    let is_file = |node: &Option<Node>| matches!(node, Some(Node::File { .. }));
    let had_file = !matches!(old, ShownContent::None);
    match texts(old, new) {
        Err((old, new)) => writeln!(out, "binary {path}: {old} -> {new} bytes"),
        Ok((old, new)) if old == new => match (had_file, is_file(&change.after)) {
            (false, true) => writeln!(out, "new empty file {path}"),
            (true, false) => writeln!(out, "empty file {path} is removed"),
            _ => Ok(()),
        },
        Ok((old, new)) => {
            let compared = compared(&old, &new, until);
            write!(out, "{}", compared.unified_diff().header(&names.0, &names.1))
        }
    }
}

fn mode(node: &Option<Node>) -> Option<u32> {
    node.as_ref().and_then(Node::mode)
}

#[cfg(test)]
mod tests;

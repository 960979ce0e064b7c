//! What `apply` and `discard` did, in lines.

use crate::cli::progress::labelled;
use crate::cli::style::Style;
use crate::exit::Exit;
use crate::neutral;
use crate::text::{self, COLUMNS};

/// The end of one `apply`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppliedView {
    pub short: String,
    /// The directory, as a person would write it.
    pub dir: String,
    /// Files, directories and links written or removed. 0 where there are conflicts.
    pub files: u64,
    /// The user who owns them now.
    pub owner: String,
    /// Path and why: it changed on the host since the copy. Any of them, and nothing was written.
    pub conflicts: Vec<Held>,
    /// Path and why: never written.
    pub kept_back: Vec<Held>,
    /// Path and whose program: applied, and it runs by itself.
    pub careful: Vec<Held>,
    /// Whether an interrupted apply was finished first.
    pub finished_earlier: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub path: String,
    pub why: String,
}

impl AppliedView {
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.conflicts.is_empty() { Exit::Finished } else { Exit::Failed }
    }

    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let mut said = String::new();
        let mut say = |label: &str, text: &str| {
            said.push_str(&labelled(label, text, COLUMNS, style));
            said.push('\n');
        };
        if self.finished_earlier {
            say("note", "an apply that was interrupted has been finished first");
        }
        for Held { path, why } in &self.conflicts {
            say("conflict", &neutral::line(&format!("{path} ({why})")));
        }
        let dir = neutral::line(&self.dir);
        if self.conflicts.is_empty() {
            let files = text::counted(self.files, "file");
            say("applied", &format!("{files} changed in {dir}, owner {}, mode kept", self.owner));
        } else {
            say("nothing", &format!("was written to {dir}: airlock diff {}", self.short));
        }
        if !self.careful.is_empty() {
            let named = self.careful.iter().take(5).map(|it| format!("{} ({})", it.path, it.why));
            let more = self.careful.len().saturating_sub(5);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let named = neutral::line(&named.collect::<Vec<_>>().join(", "));
            say("look", &format!("{named}{more}: such files run by themselves"));
        }
        for Held { path, why } in &self.kept_back {
            let path = neutral::line(&format!("{path} ({why})"));
            say("kept back", &format!("{path}: airlock diff {} --held", self.short));
        }
        said
    }
}

/// `airlock discard RUN`.
#[must_use]
pub fn discarded(short: &str, files: u64, style: Style) -> String {
    let files = text::counted(files, "changed file");
    let said = format!("{files} of run {short}; its record stays: airlock show {short}");
    format!("{}\n", labelled("discarded", &said, COLUMNS, style))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(path: &str, why: &str) -> Held {
        Held { path: path.into(), why: why.into() }
    }

    #[test]
    fn applied_kept_back_and_in_conflict() {
        let applied = AppliedView {
            short: "7c41".into(),
            dir: "~/src/left-pad-ng".into(),
            files: 1,
            owner: "ada".into(),
            kept_back: vec![held(".git/hooks/post-checkout", "new, would run on your machine")],
            ..AppliedView::default()
        };
        assert_eq!(
            applied.text(Style::default()),
            "applied    1 file changed in ~/src/left-pad-ng, owner ada, mode kept\n\
             kept back  .git/hooks/post-checkout (new, would run on your machine): airlock diff 7c41 --held\n"
        );
        assert_eq!(applied.exit(), Exit::Finished);
        let conflicts = vec![held("a\u{1b}", "changed in your directory since the copy")];
        let conflict =
            AppliedView { conflicts, kept_back: vec![], finished_earlier: true, ..applied };
        assert_eq!(
            conflict.text(Style::default()),
            "note       an apply that was interrupted has been finished first\n\
             conflict   a␛ (changed in your directory since the copy)\n\
             nothing    was written to ~/src/left-pad-ng: airlock diff 7c41\n"
        );
        assert_eq!(conflict.exit(), Exit::Failed);
        assert_eq!(
            discarded("7c41", 1, Style::default()),
            "discarded  1 changed file of run 7c41; its record stays: airlock show 7c41\n"
        );
    }
}

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
    /// Path and why: it changed on the host since the copy. Any of them, and nothing was written.
    pub conflicts: Vec<Held>,
    /// Path and why: it cannot be written. Any of them, and nothing was.
    pub obstacles: Vec<Held>,
    /// Path and why: all else was written, this was not, and is kept.
    pub left: Vec<Held>,
    /// Paths, in one text, and what one would not think of them.
    pub remarks: Vec<Held>,
    /// Path and why: never written.
    pub kept_back: Vec<Held>,
    /// Paths, in one text, and when they run: applied.
    pub careful: Vec<Held>,
    /// Whether an interrupted apply was finished first.
    pub finished_earlier: bool,
    /// A folder of ours that could not be removed.
    pub staging_stays: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub path: String,
    pub why: String,
}

impl AppliedView {
    #[must_use]
    pub fn exit(&self) -> Exit {
        let failed = [&self.conflicts, &self.obstacles, &self.left];
        if failed.iter().all(|all| all.is_empty()) { Exit::Finished } else { Exit::Failed }
    }

    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let mut said = String::new();
        let mut say = |label: &str, text: &str| {
            said.push_str(&labelled(label, text, COLUMNS, style));
            said.push('\n');
        };
        if self.finished_earlier {
            say("note", "an apply that was interrupted has been gone on with");
        }
        let listed =
            [("conflict", &self.conflicts), ("blocked", &self.obstacles), ("not done", &self.left)];
        for (label, Held { path, why }) in
            listed.iter().flat_map(|(label, all)| all.iter().map(move |it| (label, it)))
        {
            say(label, &neutral::line(&format!("{path} ({why})")));
        }
        let (dir, short) = (neutral::line(&self.dir), &self.short);
        if !self.conflicts.is_empty() {
            say("nothing", &format!("was written to {dir}: airlock diff {short}"));
        } else if !self.obstacles.is_empty() {
            say("nothing", &format!("was written to {dir}; once it can be: airlock apply {short}"));
        } else if self.files == 0 && self.left.is_empty() && !self.kept_back.is_empty() {
            say("nothing", &format!("was written to {dir}: all of it is kept back"));
        } else {
            let files = text::counted(self.files, "file");
            let modes = "edited ones keep their mode and owner, new ones follow your umask";
            say("applied", &format!("{files} changed in {dir}; {modes}"));
        }
        if !self.left.is_empty() {
            let how = format!("airlock diff {short}, or give it up: airlock discard {short}");
            say("note", &format!("what was not done is kept: {how}"));
        }
        for Held { path, why } in &self.remarks {
            say("note", &neutral::line(&format!("{path}: {why}")));
        }
        if let Some(folder) = &self.staging_stays {
            say("note", &neutral::line(&format!("{folder} is of no use any more: remove it")));
        }
        for Held { path, why } in &self.careful {
            say("look", &neutral::line(&format!("{path}: {why}")));
        }
        for Held { path, why } in &self.kept_back {
            let path = neutral::line(&format!("{path} ({why})"));
            say("kept back", &path);
        }
        if !self.kept_back.is_empty() {
            let take = format!("to take one: airlock diff {short} --content PATH > PATH");
            say("note", &format!("what is kept back: airlock diff {short} --held; {take}"));
        }
        said
    }
}

/// `airlock discard RUN`.
#[must_use]
pub fn discarded(short: &str, files: u64, was_begun: bool, style: Style) -> String {
    let files = text::counted(files, "changed file");
    let said = format!("{files} of run {short}; its record stays: airlock show {short}");
    let mut said = format!("{}\n", labelled("discarded", &said, COLUMNS, style));
    if was_begun {
        let note = "an apply of them had begun: what it did stays in your directory";
        said.push_str(&format!("{}\n", labelled("note", note, COLUMNS, style)));
    }
    said
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
            remarks: vec![held("run", "its mode was 0644 and is 0755")],
            careful: vec![held("Makefile, a/Makefile", "make runs it")],
            kept_back: vec![held(".git/hooks/post-checkout", "new, would run on your machine")],
            ..AppliedView::default()
        };
        insta::assert_snapshot!(applied.text(Style::default()), @r"
        applied    1 file changed in ~/src/left-pad-ng; edited ones keep their mode and owner, new ones
                   follow your umask
        note       run: its mode was 0644 and is 0755
        look       Makefile, a/Makefile: make runs it
        kept back  .git/hooks/post-checkout (new, would run on your machine)
        note       what is kept back: airlock diff 7c41 --held; to take one: airlock diff 7c41 --content
                   PATH > PATH
        ");
        assert_eq!(applied.exit(), Exit::Finished);
        let plain = AppliedView {
            remarks: vec![],
            careful: vec![],
            kept_back: vec![],
            finished_earlier: true,
            ..applied
        };
        let conflict = AppliedView {
            conflicts: vec![held("a\u{1b}", "changed in your directory since the copy")],
            ..plain.clone()
        };
        assert_eq!(
            conflict.text(Style::default()),
            "note       an apply that was interrupted has been gone on with\n\
             conflict   a␛ (changed in your directory since the copy)\n\
             nothing    was written to ~/src/left-pad-ng: airlock diff 7c41\n"
        );
        assert_eq!(conflict.exit(), Exit::Failed);
        let obstacle =
            AppliedView { obstacles: vec![held("d", "you may not write")], ..plain.clone() };
        let left = AppliedView { left: vec![held("a", "it changed here")], ..plain };
        insta::assert_snapshot!(obstacle.text(Style::default()) + &left.text(Style::default()), @r"
        note       an apply that was interrupted has been gone on with
        blocked    d (you may not write)
        nothing    was written to ~/src/left-pad-ng; once it can be: airlock apply 7c41
        note       an apply that was interrupted has been gone on with
        not done   a (it changed here)
        applied    1 file changed in ~/src/left-pad-ng; edited ones keep their mode and owner, new ones
                   follow your umask
        note       what was not done is kept: airlock diff 7c41, or give it up: airlock discard 7c41
        ");
        assert_eq!((obstacle.exit(), left.exit()), (Exit::Failed, Exit::Failed));
    }

    #[test]
    fn discarded_says_what_stays() {
        let said = discarded("7c41", 1, true, Style::default());
        assert_eq!(
            said,
            "discarded  1 changed file of run 7c41; its record stays: airlock show 7c41\n\
             note       an apply of them had begun: what it did stays in your directory\n"
        );
        assert!(said.starts_with(&discarded("7c41", 1, false, Style::default())));
    }
}

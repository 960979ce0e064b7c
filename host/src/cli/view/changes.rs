//! What `apply` and `discard` did, in lines.

use std::collections::BTreeMap;

use crate::cli::progress::labelled;
use crate::cli::style::Style;
use crate::exit::Exit;
use crate::neutral;
use crate::text::{self, COLUMNS};

/// Paths of one line.
const PATHS_SHOWN: usize = 20;

/// The end of one `apply`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppliedView {
    pub short: String,
    /// The directory, as a person would write it.
    pub dir: String,
    /// Files, directories and links written or removed. 0 where there are conflicts.
    pub files: u64,
    /// Path and why: it changed on the host since the copy. Any of them, and nothing was written.
    pub conflicts: Vec<HeldView>,
    /// Path and why: it cannot be written. Any of them, and nothing was.
    pub obstacles: Vec<HeldView>,
    /// Path and why: all else was written, this was not, and is kept.
    pub left: Vec<HeldView>,
    /// Path and where it is now: what a program wrote into the old file meanwhile.
    pub saved: Vec<HeldView>,
    /// The first paths, in one text, and what one would not think of them.
    pub remarks: Vec<HeldView>,
    /// Path and why: never written.
    pub kept_back: Vec<HeldView>,
    /// The first paths, in one text, and when they run: applied.
    pub careful: Vec<HeldView>,
    /// There is nothing but what is kept back.
    pub all_kept_back: bool,
    /// Whether an interrupted apply was finished first.
    pub finished_earlier: bool,
    /// A folder of ours that could not be removed.
    pub staging_stays: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldView {
    pub path: String,
    pub why: String,
}

impl AppliedView {
    #[must_use]
    pub fn exit(&self) -> Exit {
        let failed = [&self.conflicts, &self.obstacles, &self.left, &self.saved];
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
        for (label, HeldView { path, why }) in
            listed.iter().flat_map(|(label, all)| all.iter().map(move |it| (label, it)))
        {
            say(label, &neutral::line(&format!("{path} ({why})")));
        }
        let (dir, short) = (neutral::line(&self.dir), &self.short);
        if !self.conflicts.is_empty() {
            say("nothing", &format!("was written to {dir}: airlock diff {short}"));
        } else if !self.obstacles.is_empty() {
            say("nothing", &format!("was written to {dir}; once it can be: airlock apply {short}"));
        } else if self.all_kept_back {
            say("nothing", &format!("was written to {dir}: all of it is kept back"));
        } else if self.files == 0 && self.left.is_empty() {
            say("nothing", &format!("was to be written to {dir}: it has the changes already"));
        } else {
            let files = text::counted(self.files, "file");
            let modes = "edited ones keep their mode and owner, new ones follow your umask";
            say("applied", &format!("{files} changed in {dir}; {modes}"));
        }
        if !self.left.is_empty() {
            let how = format!("airlock diff {short}, or give it up: airlock discard {short}");
            say("note", &format!("what was not done is kept: {how}"));
        }
        for HeldView { path, why } in &self.saved {
            say("saved", &neutral::line(&format!("{path}: {why}")));
        }
        for HeldView { path, why } in &self.remarks {
            say("note", &neutral::line(&format!("{path}: {why}")));
        }
        if let Some(folder) = &self.staging_stays {
            say("note", &neutral::line(&format!("{folder} is of no use any more: remove it")));
        }
        for HeldView { path, why } in &self.careful {
            say("look", &neutral::line(&format!("{path}: {why}")));
        }
        for HeldView { path, why } in &self.kept_back {
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

/// One line for each reason, with its first paths and how many there are more.
#[must_use]
pub fn by_reason(all: impl Iterator<Item = (String, String)>) -> Vec<HeldView> {
    let mut reasons: BTreeMap<String, Vec<String>> = BTreeMap::new();
    all.for_each(|(path, why)| reasons.entry(why).or_default().push(path));
    let line = |(why, paths): (String, Vec<String>)| {
        let mut path = paths[..paths.len().min(PATHS_SHOWN)].join(", ");
        if paths.len() > PATHS_SHOWN {
            path.push_str(&format!(" and {} more", paths.len() - PATHS_SHOWN));
        }
        HeldView { path, why }
    };
    reasons.into_iter().map(line).collect()
}

/// What `airlock discard RUN` threw away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discarded {
    All,
    /// All, after an apply that was cut short.
    Begun,
    /// What apply kept back; the rest was applied.
    KeptBack,
}

impl Discarded {
    /// `saved`: what of the person's files is under another name now, and where.
    #[must_use]
    pub fn text(self, short: &str, files: u64, saved: &[HeldView], style: Style) -> String {
        let files = text::counted(files, "changed file");
        let (which, note) = match self {
            Self::All => ("", None),
            Self::Begun => ("", Some("an apply of them had begun: what it did stays")),
            Self::KeptBack => (" that apply kept back", Some("what was applied stays")),
        };
        let said = format!("{files}{which} of run {short}; its record stays: airlock show {short}");
        let mut said = format!("{}\n", labelled("discarded", &said, COLUMNS, style));
        if let Some(note) = note {
            let note = labelled("note", &format!("{note} in your directory"), COLUMNS, style);
            said.push_str(&format!("{note}\n"));
        }
        for HeldView { path, why } in saved {
            let line = neutral::line(&format!("{path}: {why}"));
            said.push_str(&format!("{}\n", labelled("saved", &line, COLUMNS, style)));
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(path: &str, why: &str) -> HeldView {
        HeldView { path: path.into(), why: why.into() }
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
        let none = AppliedView { files: 0, remarks: vec![], careful: vec![], ..applied.clone() };
        let said = none.text(Style::default());
        let already =
            "nothing    was to be written to ~/src/left-pad-ng: it has the changes already\n";
        assert!(said.starts_with(already), "{said}");
        let said = AppliedView { all_kept_back: true, ..none }.text(Style::default());
        let all = "nothing    was written to ~/src/left-pad-ng: all of it is kept back\n";
        assert!(said.starts_with(all), "{said}");
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
        let said = |what: Discarded| what.text("7c41", 1, &[], Style::default());
        let all = "discarded  1 changed file of run 7c41; its record stays: airlock show 7c41\n";
        let begun = "note       an apply of them had begun: what it did stays in your directory\n";
        assert_eq!(said(Discarded::All), all);
        assert_eq!(said(Discarded::Begun), format!("{all}{begun}"));
        let saved = [held("f", "what was here is in f.airlock-saved")];
        assert_eq!(
            Discarded::Begun.text("7c41", 1, &saved, Style::default()),
            format!("{all}{begun}saved      f: what was here is in f.airlock-saved\n")
        );
        assert_eq!(
            said(Discarded::KeptBack),
            "discarded  1 changed file that apply kept back of run 7c41; its record stays: airlock show \
             7c41\nnote       what was applied stays in your directory\n"
        );
    }

    #[test]
    fn a_line_names_the_first_paths_and_counts_the_rest() {
        let lines = |count: usize| {
            let all = (0..count).map(|at| (format!("{at}/Makefile"), "make runs it".to_owned()));
            by_reason(all.chain([("x".to_owned(), "cargo runs it".to_owned())]))
        };
        let two = [held("x", "cargo runs it"), held("0/Makefile, 1/Makefile", "make runs it")];
        assert_eq!(lines(2), two);
        let path = &lines(1_000)[1].path;
        assert!(path.ends_with(", 19/Makefile and 980 more"), "{path}");
    }
}

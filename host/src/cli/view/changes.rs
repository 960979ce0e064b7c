//! The output of `apply` and `discard`.

use std::collections::BTreeMap;

use crate::cli::progress::labelled;
use crate::cli::style::Style;
use crate::exit::Exit;
use crate::sanitize;
use crate::text::{self, COLUMNS};

/// The most paths in one line.
const PATHS_SHOWN: usize = 20;

/// The result of one `apply`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppliedView {
    pub short: String,
    /// The directory, with `~` for the home.
    pub dir: String,
    /// Files, directories and links that were written or removed. 0 if there are conflicts.
    pub files: u64,
    /// Path and why: it changed on the host since the copy. If there is one, nothing was written.
    pub conflicts: Vec<HeldView>,
    /// Path and why: it cannot be written. If there is one, nothing was written.
    pub obstacles: Vec<HeldView>,
    /// Path and why: everything else was written, and this change is still stored.
    pub left: Vec<HeldView>,
    /// Path and where it is now: what a program wrote into the old file meanwhile.
    pub saved: Vec<HeldView>,
    /// The first paths, in one text, and a note about them.
    pub remarks: Vec<HeldView>,
    /// Path and why: never written.
    pub held: Vec<HeldView>,
    /// The first paths, in one text, and when they run. They were applied.
    pub careful: Vec<HeldView>,
    /// All changes are held.
    pub all_held: bool,
    /// Whether an interrupted apply was finished first.
    pub finished_earlier: bool,
    /// Our staging directory, if it could not be removed.
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
        let mut lines = String::new();
        let mut add = |label: &str, text: &str| {
            lines.push_str(&labelled(label, text, COLUMNS, style));
            lines.push('\n');
        };
        if self.finished_earlier {
            add("note", "an interrupted apply was continued");
        }
        let listed =
            [("conflict", &self.conflicts), ("blocked", &self.obstacles), ("not done", &self.left)];
        for (label, HeldView { path, why }) in
            listed.iter().flat_map(|(label, all)| all.iter().map(move |it| (label, it)))
        {
            add(label, &sanitize::line(&format!("{path} ({why})")));
        }
        let (dir, short) = (sanitize::line(&self.dir), &self.short);
        if !self.conflicts.is_empty() {
            add("nothing", &format!("was written to {dir}: airlock diff {short}"));
        } else if !self.obstacles.is_empty() {
            add(
                "nothing",
                &format!("was written to {dir}; when this is solved: airlock apply {short}"),
            );
        } else if self.all_held {
            add("nothing", &format!("was written to {dir}: all changes are held"));
        } else if self.files == 0 && self.left.is_empty() {
            add("nothing", &format!("to write to {dir}: it already has the changes"));
        } else {
            let files = text::counted(self.files, "file");
            let modes = "edited ones keep their mode and owner, new ones follow your umask";
            add("applied", &format!("{files} changed in {dir}; {modes}"));
        }
        if !self.left.is_empty() {
            let how = format!("airlock diff {short}; to give it up: airlock discard {short}");
            add("note", &format!("what was not done is still stored: {how}"));
        }
        for HeldView { path, why } in &self.saved {
            add("saved", &sanitize::line(&format!("{path}: {why}")));
        }
        for HeldView { path, why } in &self.remarks {
            add("note", &sanitize::line(&format!("{path}: {why}")));
        }
        if let Some(directory) = &self.staging_stays {
            add(
                "note",
                &sanitize::line(&format!(
                    "{directory} is not needed any more and could not be removed: remove it"
                )),
            );
        }
        for HeldView { path, why } in &self.careful {
            add("look", &sanitize::line(&format!("{path}: {why}")));
        }
        for HeldView { path, why } in &self.held {
            let path = sanitize::line(&format!("{path} ({why})"));
            add("held", &path);
        }
        if !self.held.is_empty() {
            let take = format!("to take one file: airlock diff {short} --content PATH > PATH");
            add("note", &format!("to see what is held: airlock diff {short} --held; {take}"));
        }
        lines
    }
}

/// One line for each reason, with its first paths and the number of others.
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

/// What `airlock discard SESSION` deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discarded {
    All,
    /// All, after an interrupted apply.
    Interrupted,
    /// What apply held; the rest was applied.
    Held,
}

impl Discarded {
    /// `saved`: the person's files that have another name now, and where they are.
    #[must_use]
    pub fn text(self, short: &str, files: u64, saved: &[HeldView], style: Style) -> String {
        let files = text::counted(files, "changed file");
        let (which, note) = match self {
            Self::All => ("", None),
            Self::Interrupted => ("", Some("an apply had begun: what it wrote stays")),
            Self::Held => (" that apply held", Some("what was applied stays")),
        };
        let text =
            format!("{files}{which} of session {short}; its record stays: airlock show {short}");
        let mut lines = format!("{}\n", labelled("discarded", &text, COLUMNS, style));
        if let Some(note) = note {
            let note = labelled("note", &format!("{note} in your directory"), COLUMNS, style);
            lines.push_str(&format!("{note}\n"));
        }
        for HeldView { path, why } in saved {
            let line = sanitize::line(&format!("{path}: {why}"));
            lines.push_str(&format!("{}\n", labelled("saved", &line, COLUMNS, style)));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(path: &str, why: &str) -> HeldView {
        HeldView { path: path.into(), why: why.into() }
    }

    #[test]
    fn applied_held_and_in_conflict() {
        let applied = AppliedView {
            short: "7c41".into(),
            dir: "~/src/left-pad-ng".into(),
            files: 1,
            remarks: vec![held("run", "its mode was 0644 and is 0755")],
            careful: vec![held("Makefile, a/Makefile", "make runs it")],
            held: vec![held(".git/hooks/post-checkout", "new, would run on your machine")],
            ..AppliedView::default()
        };
        insta::assert_snapshot!(applied.text(Style::default()), @r"
        applied    1 file changed in ~/src/left-pad-ng; edited ones keep their mode and owner, new ones
                   follow your umask
        note       run: its mode was 0644 and is 0755
        look       Makefile, a/Makefile: make runs it
        held       .git/hooks/post-checkout (new, would run on your machine)
        note       to see what is held: airlock diff 7c41 --held; to take one file: airlock diff 7c41
                   --content PATH > PATH
        ");
        assert_eq!(applied.exit(), Exit::Finished);
        let none = AppliedView { files: 0, remarks: vec![], careful: vec![], ..applied.clone() };
        let text = none.text(Style::default());
        let already = "nothing    to write to ~/src/left-pad-ng: it already has the changes\n";
        assert!(text.starts_with(already), "{text}");
        let text = AppliedView { all_held: true, ..none }.text(Style::default());
        let all = "nothing    was written to ~/src/left-pad-ng: all changes are held\n";
        assert!(text.starts_with(all), "{text}");
        let plain = AppliedView {
            remarks: vec![],
            careful: vec![],
            held: vec![],
            finished_earlier: true,
            ..applied
        };
        let conflict = AppliedView {
            conflicts: vec![held("a\u{1b}", "changed in your directory since the copy")],
            ..plain.clone()
        };
        assert_eq!(
            conflict.text(Style::default()),
            "note       an interrupted apply was continued\n\
             conflict   a␛ (changed in your directory since the copy)\n\
             nothing    was written to ~/src/left-pad-ng: airlock diff 7c41\n"
        );
        assert_eq!(conflict.exit(), Exit::Failed);
        let obstacle =
            AppliedView { obstacles: vec![held("d", "you may not write")], ..plain.clone() };
        let left = AppliedView { left: vec![held("a", "it changed here")], ..plain };
        insta::assert_snapshot!(obstacle.text(Style::default()) + &left.text(Style::default()), @r"
        note       an interrupted apply was continued
        blocked    d (you may not write)
        nothing    was written to ~/src/left-pad-ng; when this is solved: airlock apply 7c41
        note       an interrupted apply was continued
        not done   a (it changed here)
        applied    1 file changed in ~/src/left-pad-ng; edited ones keep their mode and owner, new ones
                   follow your umask
        note       what was not done is still stored: airlock diff 7c41; to give it up: airlock discard
                   7c41
        ");
        assert_eq!((obstacle.exit(), left.exit()), (Exit::Failed, Exit::Failed));
    }

    #[test]
    fn the_output_of_discard_says_what_stays() {
        let text_of = |what: Discarded| what.text("7c41", 1, &[], Style::default());
        let all =
            "discarded  1 changed file of session 7c41; its record stays: airlock show 7c41\n";
        let begun = "note       an apply had begun: what it wrote stays in your directory\n";
        assert_eq!(text_of(Discarded::All), all);
        assert_eq!(text_of(Discarded::Interrupted), format!("{all}{begun}"));
        let saved = [held("f", "what was here is in f.airlock-saved")];
        assert_eq!(
            Discarded::Interrupted.text("7c41", 1, &saved, Style::default()),
            format!("{all}{begun}saved      f: what was here is in f.airlock-saved\n")
        );
        assert_eq!(
            text_of(Discarded::Held),
            "discarded  1 changed file that apply held of session 7c41; its record stays: airlock show 7c41\n\
             note       what was applied stays in your directory\n"
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

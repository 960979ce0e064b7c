//! `apply_patch`: changes several files, all of them or none.
//!
//! The new content is computed in memory first, hunk by hunk. Then it is written, file by file, and
//! undone if a write fails. Absent: changes of links themselves.

use std::collections::BTreeMap;

use airlock_shared::item::{Call, Input};
use airlock_shared::limits;
use airlock_shared::model::PatchForm;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::change::{self, ChangeCounts};
use super::patch::{self, Hunk};
use super::path::{FileFound, Root, WorkspacePath};
use super::write_file::NEW_FILE_MODE;
use super::{Files, ToolResult, fit, output};

pub(super) const NAME: &str = "apply_patch";

const DESCRIPTION: &str = "Changes files of the workspace: adds, updates, moves, deletes. All of the \
    patch is applied or nothing. Paths start at the workspace's root.";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    #[serde(alias = "patch")]
    input: String,
}

pub(super) fn definition(form: PatchForm) -> Value {
    match form {
        PatchForm::Freeform => json!({
            "type": "custom",
            "name": NAME,
            "description": DESCRIPTION,
            "format": {"type": "grammar", "syntax": "lark", "definition": patch::GRAMMAR},
        }),
        PatchForm::Function => super::function(
            NAME,
            &format!("{DESCRIPTION} The input is of this grammar:\n{}", patch::GRAMMAR),
            json!({"input": {"type": "string", "description": "The whole patch, from *** Begin Patch to *** End Patch"}}),
            &["input"],
        ),
    }
}

/// The patch of a call in either form, because models mix them up.
pub(super) fn text(call: &Call) -> Result<String, String> {
    let (Input::Raw(text) | Input::Arguments(text)) = &call.input;
    let is_json = matches!(call.input, Input::Arguments(_)) || text.trim_start().starts_with('{');
    if is_json && !text.trim_start().starts_with("***") {
        return super::arguments::<Arguments>(call).map(|arguments| arguments.input);
    }
    Ok(text.clone())
}

pub(super) fn title(text: &str) -> String {
    match patch::parse(text) {
        Ok(hunks) => {
            let more = if hunks.len() > 1 {
                format!(" and {} more", hunks.len() - 1)
            } else {
                String::new()
            };
            let first = hunks.first().map(Hunk::path).unwrap_or_default();
            format!("patch {}{more}", output::title(first))
        }
        Err(_) => "patch".to_owned(),
    }
}

pub(super) fn call(files: &Files<'_>, text: String) -> ToolResult {
    let started = Instant::now();
    match run(files, &text) {
        Ok((list, counts)) => {
            let wall = started.elapsed().as_secs_f64();
            let text = format!(
                "Exit code: 0\nWall time: {wall:.1} seconds\nOutput:\nSuccess. Updated the following files:\n{list}"
            );
            ToolResult::done(output::cut(&text, files.limit), counts.note())
        }
        Err(why) => {
            let why = output::cut(&why, files.limit);
            let mut result = ToolResult::failed(format!("apply_patch verification failed: {why}"));
            result.note = "not applied".to_owned();
            result
        }
    }
}

fn run(files: &Files<'_>, text: &str) -> Result<(String, ChangeCounts), String> {
    if text.len() as u64 > limits::EDIT_BYTES {
        return Err(format!("the patch is longer than {} bytes", limits::EDIT_BYTES));
    }
    let mut plan = PatchPlan { root: files.root, states: BTreeMap::new(), list: String::new() };
    for hunk in patch::parse(text)? {
        files.check_stopped()?;
        plan.add(hunk)?;
    }
    plan.check_marks()?;
    let counts = plan.counts();
    plan.write()?;
    Ok((plan.list, counts))
}

/// One file before and after the patch.
struct FileEdit {
    before: Option<FileFound>,
    /// Content and mode.
    after: Option<(Vec<u8>, u32)>,
}

/// The result of the hunks so far.
struct PatchPlan<'a> {
    root: &'a Root,
    states: BTreeMap<WorkspacePath, FileEdit>,
    list: String,
}

impl PatchPlan<'_> {
    fn add(&mut self, hunk: Hunk) -> Result<(), String> {
        match hunk {
            Hunk::Add { path, content } => {
                let path = self.root.within(&path)?;
                let state = self.state(&path)?;
                if state.after.is_some() {
                    return Err(format!(
                        "{} exists already: update it, or delete it first",
                        path.shown()
                    ));
                }
                state.after = Some((content.into_bytes(), NEW_FILE_MODE));
                self.list('A', &path);
            }
            Hunk::Delete { path } => {
                let path = self.root.within(&path)?;
                if self.root.resolve(&path)? != path {
                    return Err(format!("{} is a link: remove it with a command", path.shown()));
                }
                self.existing(&path)?.after = None;
                self.list('D', &path);
            }
            Hunk::Update { path, move_to, chunks } => {
                let path = self.root.resolve(&self.root.within(&path)?)?;
                let shown = path.shown();
                let (bytes, mode) = self.existing(&path)?.after.clone().unwrap_or_default();
                let text = String::from_utf8(bytes)
                    .map_err(|_| format!("{shown} is not UTF-8 text: change it with a command"))?;
                let text =
                    if chunks.is_empty() { text } else { fit::apply(&shown, &text, &chunks)? };
                let to = match move_to {
                    None => path.clone(),
                    Some(to) => self.root.within(&to)?,
                };
                if to != path {
                    self.existing(&path)?.after = None;
                    if self.state(&to)?.after.is_some() {
                        return Err(format!(
                            "{} exists already: it cannot be moved to",
                            to.shown()
                        ));
                    }
                }
                self.state(&to)?.after = Some((text.into_bytes(), mode));
                self.list('M', &to);
            }
        }
        Ok(())
    }

    fn list(&mut self, letter: char, path: &WorkspacePath) {
        let line = format!("{letter} {}\n", path.shown());
        if !self.list.contains(&line) {
            self.list.push_str(&line);
        }
    }

    fn state(&mut self, path: &WorkspacePath) -> Result<&mut FileEdit, String> {
        if !self.states.contains_key(path) {
            let before = self.root.whole(path)?;
            let after = before.as_ref().map(|found| (found.bytes.clone(), found.mode));
            self.states.insert(path.clone(), FileEdit { before, after });
        }
        self.states.get_mut(path).ok_or_else(|| format!("{} is gone", path.shown()))
    }

    fn existing(&mut self, path: &WorkspacePath) -> Result<&mut FileEdit, String> {
        let state = self.state(path)?;
        if state.after.is_none() {
            return Err(format!("{} does not exist", path.shown()));
        }
        Ok(state)
    }

    /// Checks all files together, so that a file can be moved with its marks.
    fn check_marks(&self) -> Result<(), String> {
        let states = self.states.values();
        let marks = states.map(|FileEdit { before, after }| {
            let before = before.as_ref().map_or(0, |found| change::marks(&found.bytes));
            (before, after.as_ref().map_or(0, |(bytes, _)| change::marks(bytes)))
        });
        let (before, after) = marks.fold((0, 0), |sum, (b, a)| (sum.0 + b, sum.1 + a));
        change::check_marks(before, after)
    }

    fn counts(&self) -> ChangeCounts {
        let mut counts = ChangeCounts::default();
        for state in self.states.values() {
            let before =
                state.before.as_ref().map(|found| found.bytes.as_slice()).unwrap_or_default();
            let after = state.after.as_ref().map(|(bytes, _)| bytes.as_slice()).unwrap_or_default();
            counts += change::between(before, after).0;
        }
        counts
    }

    /// Writes every file. If a write fails, the files written before are restored.
    fn write(&self) -> Result<(), String> {
        let mut written: Vec<(&WorkspacePath, &FileEdit)> = Vec::new();
        for (path, state) in &self.states {
            let answer = match &state.after {
                Some((bytes, mode)) => self.root.replace(path, bytes, *mode),
                None if state.before.is_some() => self.root.remove(path),
                None => Ok(()),
            };
            if let Err(why) = answer {
                let not_restored: Vec<String> = written
                    .iter()
                    .rev()
                    .filter_map(|(path, state)| self.restore(path, state).err())
                    .collect();
                return Err(match not_restored.as_slice() {
                    [] => format!("{why}; nothing was changed"),
                    some => format!("{why}; and could not be undone: {}", some.join("; ")),
                });
            }
            written.push((path, state));
        }
        Ok(())
    }

    fn restore(&self, path: &WorkspacePath, state: &FileEdit) -> Result<(), String> {
        match (&state.before, &state.after) {
            (Some(found), _) => self.root.replace(path, &found.bytes, found.mode),
            (None, Some(_)) => self.root.remove(path),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use airlock_shared::item::Input;
    use tokio_util::sync::CancellationToken;

    use super::super::tests::ToolFixture;
    use super::*;

    async fn patched(fixture: &ToolFixture, hunks: &str) -> ToolResult {
        let text = format!("*** Begin Patch\n{hunks}\n*** End Patch\n");
        fixture.run(NAME, Input::Raw(text), &CancellationToken::new()).await
    }

    #[tokio::test]
    async fn files_are_added_updated_moved_and_deleted() {
        let fixture = ToolFixture::new(50);
        fixture.put("a", "one\ntwo\n").await;
        fixture.put("old", "x\n").await;
        fixture.put("b", "moved\n").await;
        let result = patched(
            &fixture,
            "*** Update File: a\n@@\n-two\n+2\n*** Add File: new/file\n+n\n*** Delete File: old\n\
             *** Update File: b\n*** Move to: c/d\n-moved\n+there\n*** Update File: a\n-one\n+1",
        )
        .await;
        let (head, list) = result.output.split_once("Output:\n").expect("output");
        assert!(head.starts_with("Exit code: 0\nWall time: 0."), "{head}");
        assert_eq!(list, "Success. Updated the following files:\nM a\nA new/file\nD old\nM c/d\n");
        assert_eq!(result.note, "+4 −4");
        let read = ["a", "new/file", "c/d"].map(|path| fixture.read(path));
        assert_eq!(read, ["1\n2\n", "n\n", "there\n"]);
        assert!(!fixture.dir.path().join("old").exists() && !fixture.dir.path().join("b").exists());
    }

    #[tokio::test]
    async fn a_patch_is_applied_whole_or_not_at_all() {
        let fixture = ToolFixture::new(51);
        fixture.put("a", "one\n").await;
        fixture.put("shut/b", "two\n").await;
        let stale =
            patched(&fixture, "*** Update File: a\n-one\n+1\n*** Update File: shut/b\n-three\n+3")
                .await;
        assert_eq!(
            stale.output,
            "apply_patch verification failed: Failed to find expected lines in shut/b:\nthree\nNone of these lines is there: read shut/b again"
        );
        assert_eq!((stale.ok, fixture.read("a").as_str()), (false, "one\n"));
        for (hunks, why) in [
            ("*** Add File: a\n+x", "a exists already: update it, or delete it first"),
            ("*** Delete File: c", "c does not exist"),
            ("*** Update File: ../c\n+x", "is outside of the workspace"),
            ("*** Update File: a\n*** Move to: shut/b\n-one\n+1", "shut/b exists already"),
        ] {
            let refused = patched(&fixture, hunks).await;
            assert!(refused.output.contains(why), "{}", refused.output);
        }
        // If a write fails, the writes before it are undone.
        assert!(fixture.call("bash", json!({"command": "chmod 555 shut"})).await.ok);
        let undone =
            patched(&fixture, "*** Update File: a\n-one\n+1\n*** Update File: shut/b\n-two\n+2")
                .await;
        assert_eq!(
            undone.output,
            "apply_patch verification failed: shut/b: permission denied; nothing was changed"
        );
        assert_eq!(fixture.read("a"), "one\n");
    }

    #[tokio::test]
    async fn both_forms_are_accepted() {
        let fixture = ToolFixture::new(52);
        let text = "*** Begin Patch\n*** Add File: a\n+x\n*** End Patch";
        let never = CancellationToken::new();
        fixture.put("b", "").await;
        let text_b = text.replace("File: a", "File: b2");
        assert!(patched(&fixture, "*** Add File: c\n+x").await.ok);
        let quoted = Input::Arguments(json!({"input": text}).to_string());
        let result = fixture.run(NAME, quoted, &never).await;
        assert!(result.ok, "{}", result.output);
        let result = fixture.run(NAME, Input::Arguments(text_b), &never).await;
        assert!(result.ok, "{}", result.output);
        assert_eq!(title(text), "patch a");
    }
}

//! `write_file`: writes a whole file, new or in place of the old one, in one step.

use airlock_shared::limits;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Files, ToolResult, change, output};

pub(super) const NAME: &str = "write_file";

/// The mode of a new file.
pub(super) const NEW_FILE_MODE: u32 = 0o644;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Arguments {
    path: String,
    content: String,
}

pub(super) fn definition() -> Value {
    super::function(
        NAME,
        "Writes a whole file of the workspace: makes it, with the directories it is in, or replaces what \
         it held. Answers with what changed. For small changes of long files use apply_patch.",
        json!({
            "path": {"type": "string", "description": "From the workspace's root"},
            "content": {"type": "string", "description": "All of the file"},
        }),
        &["path", "content"],
    )
}

pub(super) fn title(arguments: &Arguments) -> String {
    format!("write {}", output::title(&arguments.path))
}

pub(super) fn call(files: &Files<'_>, arguments: Arguments) -> ToolResult {
    write(files, &arguments).unwrap_or_else(ToolResult::failed)
}

fn write(files: &Files<'_>, arguments: &Arguments) -> Result<ToolResult, String> {
    let new = arguments.content.as_bytes();
    if new.len() as u64 > limits::EDIT_BYTES {
        return Err(format!("the content is longer than {} bytes", limits::EDIT_BYTES));
    }
    let path = files.root.resolve(&files.root.within(&arguments.path)?)?;
    let old = files.root.whole(&path)?;
    let before = old.as_ref().map_or(0, |old| change::marks(&old.bytes));
    change::check_marks(before, change::marks(new))?;
    files.check_stopped()?;
    let mode = old.as_ref().map_or(NEW_FILE_MODE, |old| old.mode);
    files.root.replace(&path, new, mode)?;
    let shown = path.shown();
    let Some(old) = old else {
        let lines = arguments.content.lines().count() as u64;
        let text =
            format!("created {shown} ({}, {} bytes)", output::counted(lines, "line"), new.len());
        return Ok(ToolResult::done(text, format!("new, +{lines}")));
    };
    if old.bytes == new {
        return Ok(ToolResult::done(format!("{shown} already held this"), "no change".to_owned()));
    }
    let (counts, diff) = change::between(&old.bytes, new);
    let text = output::cut(&format!("updated {shown} {}\n{diff}", counts.note()), files.limit);
    Ok(ToolResult::done(text, counts.note()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::super::tests::ToolFixture;
    use super::*;

    #[tokio::test]
    async fn a_file_is_made_changed_and_keeps_its_mode() {
        let fixture = ToolFixture::new(35);
        let write = |content: &'static str| {
            fixture.call(NAME, json!({"path": "a/b/c", "content": content}))
        };
        let made = write("one\ntwo\n").await;
        assert_eq!(
            (made.output.as_str(), made.note.as_str()),
            ("created a/b/c (2 lines, 8 bytes)", "new, +2")
        );
        assert!(fixture.call("bash", json!({"command": "chmod 755 a/b/c"})).await.ok);
        let changed = write("one\nthree\n").await;
        assert_eq!(changed.output, "updated a/b/c +1 −1\n@@ -1,2 +1,2 @@\n one\n-two\n+three\n");
        let there = fixture.dir.path().join("a/b/c");
        let there = std::fs::metadata(there).expect("file");
        let dir = std::fs::metadata(fixture.dir.path()).expect("directory");
        assert_eq!(
            (there.mode() & 0o7777, there.uid(), there.gid()),
            (0o755, dir.uid(), dir.gid())
        );
        assert_eq!(write("one\nthree\n").await.note, "no change");
        assert_eq!(
            std::fs::read_dir(fixture.dir.path().join("a/b")).expect("directory").count(),
            1
        );
        let refused = fixture.call(NAME, json!({"path": "a", "content": ""})).await;
        assert_eq!(refused.output, "a is a directory: use list_files");
    }
}

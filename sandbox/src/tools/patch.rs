//! The grammar of a patch (codex protocol, G.5): parses text to hunks.
//!
//! ```text
//! *** Begin Patch
//! *** Add File: path        then lines with `+`
//! *** Delete File: path
//! *** Update File: path     then optionally `*** Move to: path`, then chunks:
//! @@ a line to search for     any number; the first chunk may have none
//!  kept  -old  +new           an empty line is a kept empty line
//! *** End of File             the chunk ends the file
//! *** End Patch
//! ```

/// The change of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hunk {
    Add { path: String, content: String },
    Delete { path: String },
    Update { path: String, move_to: Option<String>, chunks: Vec<Chunk> },
}

impl Hunk {
    pub(super) fn path(&self) -> &str {
        match self {
            Self::Add { path, .. } | Self::Delete { path } | Self::Update { path, .. } => path,
        }
    }
}

/// Lines that are found together, and their changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Lines to search for first, one after the other.
    pub(super) after: Vec<String>,
    pub(super) lines: Vec<PatchLine>,
    pub(super) at_end: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PatchLine {
    Kept(String),
    Removed(String),
    Added(String),
}

const BEGIN: &str = "*** Begin Patch";
const END: &str = "*** End Patch";
const ADD: &str = "*** Add File:";
const DELETE: &str = "*** Delete File:";
const UPDATE: &str = "*** Update File:";
const MOVE: &str = "*** Move to:";
const END_OF_FILE: &str = "*** End of File";

/// The grammar in lark, for the model's decoder.
pub(super) const GRAMMAR: &str = r#"start: begin_patch hunk+ end_patch
begin_patch: "*** Begin Patch" LF
end_patch: "*** End Patch" LF?

hunk: add_hunk | delete_hunk | update_hunk
add_hunk: "*** Add File: " filename LF add_line+
delete_hunk: "*** Delete File: " filename LF
update_hunk: "*** Update File: " filename LF change_move? change?

filename: /(.+)/
add_line: "+" /(.*)/ LF -> line

change_move: "*** Move to: " filename LF
change: (change_context | change_line)+ eof_line?
change_context: ("@@" | "@@ " /(.+)/) LF
change_line: ("+" | "-" | " ") /(.*)/ LF
eof_line: "*** End of File" LF

%import common.LF
"#;

/// Parses a patch.
///
/// # Errors
/// What is wrong, with the number of the line, for the model.
pub(super) fn parse(text: &str) -> Result<Vec<Hunk>, String> {
    let lines: Vec<&str> = without_heredoc(text.trim()).trim().lines().collect();
    if lines.first().is_none_or(|line| line.trim() != BEGIN) {
        return Err(format!("invalid patch: The first line of the patch must be '{BEGIN}'"));
    }
    if lines.len() < 2 || lines.last().is_none_or(|line| line.trim() != END) {
        return Err(format!("invalid patch: The last line of the patch must be '{END}'"));
    }
    let mut parser = Parser { lines: &lines[..lines.len() - 1], at: 1 };
    let mut hunks = Vec::new();
    while parser.at < parser.lines.len() {
        if parser.lines[parser.at].trim().is_empty() {
            parser.at += 1;
            continue;
        }
        hunks.push(parser.hunk()?);
    }
    if hunks.is_empty() {
        return Err("invalid patch: it has no hunk".to_owned());
    }
    Ok(hunks)
}

/// Models often write a patch as in a shell: `apply_patch <<'EOF'`, lines, `EOF`.
fn without_heredoc(text: &str) -> &str {
    let rest = text.strip_prefix("apply_patch").map_or(text, str::trim_start);
    let Some(rest) = rest.strip_prefix("<<") else { return text };
    let Some((word, body)) = rest.split_once('\n') else { return text };
    let word = word.trim().trim_matches(['\'', '"']);
    match body.trim_end().strip_suffix(word) {
        Some(body) if !word.is_empty() && body.ends_with('\n') => body,
        _ => text,
    }
}

struct Parser<'a> {
    lines: &'a [&'a str],
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.lines.get(self.at).copied()
    }

    fn error<T>(&self, at: usize, why: &str) -> Result<T, String> {
        Err(format!("invalid hunk at line {}, {why}", at + 1))
    }

    fn hunk(&mut self) -> Result<Hunk, String> {
        let at = self.at;
        let line = self.lines[at].trim();
        self.at += 1;
        let path = |header| line.strip_prefix(header).map(|path: &str| path.trim().to_owned());
        let (header, path) = match (path(ADD), path(DELETE), path(UPDATE)) {
            (Some(path), _, _) => (ADD, path),
            (_, Some(path), _) => (DELETE, path),
            (_, _, Some(path)) => (UPDATE, path),
            (None, None, None) => {
                let why = format!(
                    "'{line}' is not a valid hunk header. Valid hunk headers: '{ADD} {{path}}', '{DELETE} {{path}}', '{UPDATE} {{path}}'"
                );
                return self.error(at, &why);
            }
        };
        if path.is_empty() {
            return self.error(at, "the header names no path");
        }
        match header {
            ADD => self.added(path, at),
            DELETE => Ok(Hunk::Delete { path }),
            _ => self.updated(path, at),
        }
    }

    fn added(&mut self, path: String, at: usize) -> Result<Hunk, String> {
        let mut content = String::new();
        while let Some(line) = self.peek().and_then(|line| line.strip_prefix('+')) {
            content.push_str(line);
            content.push('\n');
            self.at += 1;
        }
        if content.is_empty() {
            return self.error(at, "a file is added without a line; its lines start with '+'");
        }
        Ok(Hunk::Add { path, content })
    }

    fn updated(&mut self, path: String, at: usize) -> Result<Hunk, String> {
        let mut move_to = None;
        if let Some(to) = self.peek().and_then(|line| line.trim().strip_prefix(MOVE)) {
            move_to = Some(to.trim().to_owned());
            self.at += 1;
        }
        let mut chunks: Vec<Chunk> = Vec::new();
        while let Some(line) = self.peek() {
            let trimmed = line.trim_end();
            let is_header = trimmed == "@@" || trimmed.starts_with("@@ ");
            if trimmed == END_OF_FILE {
                let Some(chunk) = chunks.last_mut().filter(|chunk| !chunk.lines.is_empty()) else {
                    return self.error(self.at, "the file ends here, but no line is given");
                };
                chunk.at_end = true;
            } else if trimmed.starts_with("*** ") {
                break;
            } else if is_header {
                if chunks.last().is_none_or(|chunk| !chunk.lines.is_empty()) {
                    chunks.push(Chunk::default());
                }
                let after = trimmed[2..].trim_start().to_owned();
                if let (Some(chunk), false) = (chunks.last_mut(), after.is_empty()) {
                    chunk.after.push(after);
                }
            } else {
                let line = match line.split_at_checked(1) {
                    None => PatchLine::Kept(String::new()),
                    Some((" ", rest)) => PatchLine::Kept(rest.to_owned()),
                    Some(("-", rest)) => PatchLine::Removed(rest.to_owned()),
                    Some(("+", rest)) => PatchLine::Added(rest.to_owned()),
                    _ => {
                        let why = format!(
                            "unexpected line in an update: '{line}'. Every line starts with ' ' (kept), '+' (added) or '-' (removed)"
                        );
                        return self.error(self.at, &why);
                    }
                };
                if chunks.last().is_none_or(|chunk| chunk.at_end) {
                    chunks.push(Chunk::default());
                }
                if let Some(chunk) = chunks.last_mut() {
                    chunk.lines.push(line);
                }
            }
            self.at += 1;
        }
        chunks.retain(|chunk| !chunk.lines.is_empty());
        if chunks.is_empty() && move_to.is_none() {
            return self.error(at, &format!("the update of '{path}' has no lines"));
        }
        Ok(Hunk::Update { path, move_to, chunks })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunk(after: &[&str], lines: &[&str], at_end: bool) -> Chunk {
        let line = |line: &&str| match line.split_at(1) {
            (" ", rest) => PatchLine::Kept(rest.into()),
            ("-", rest) => PatchLine::Removed(rest.into()),
            (_, rest) => PatchLine::Added(rest.into()),
        };
        let after = after.iter().map(|&text| text.to_owned()).collect();
        Chunk { after, lines: lines.iter().map(line).collect(), at_end }
    }

    #[test]
    fn every_kind_of_hunk() {
        let text = "*** Begin Patch\n*** Add File: a b\n+one\n+\n*** Delete File: c\n*** Update File: d\n*** Move to: e\n\
            @@ fn x\n@@ inner\n kept\n-old\n+new\n\n@@\n+end\n*** End of File\n*** End Patch\n";
        let expected = vec![
            Hunk::Add { path: "a b".into(), content: "one\n\n".into() },
            Hunk::Delete { path: "c".into() },
            Hunk::Update {
                path: "d".into(),
                move_to: Some("e".into()),
                chunks: vec![
                    chunk(&["fn x", "inner"], &[" kept", "-old", "+new", " "], false),
                    chunk(&[], &["+end"], true),
                ],
            },
        ];
        assert_eq!(parse(text), Ok(expected.clone()));
        for (head, tail) in
            [("<<EOF\n", "EOF"), ("<<'EOF'\n", "EOF\n"), ("apply_patch <<\"X\"\n", "X")]
        {
            assert_eq!(parse(&format!("{head}{text}{tail}")), Ok(expected.clone()), "{head}");
        }
    }

    #[test]
    fn an_invalid_patch_is_explained() {
        let inside = |text: &str| parse(&format!("*** Begin Patch\n{text}\n*** End Patch"));
        let starts = |answer: Result<Vec<Hunk>, String>, start: &str| {
            let error = answer.expect_err(start);
            assert!(error.starts_with(start), "{error}");
        };
        starts(parse("x"), "invalid patch: The first line");
        starts(parse("*** Begin Patch"), "invalid patch: The last line");
        starts(parse("*** Begin Patch\n*** End Patch"), "invalid patch: it has no hunk");
        starts(inside("x"), "invalid hunk at line 2, 'x' is not a valid hunk header");
        starts(
            inside("*** Update File: a"),
            "invalid hunk at line 2, the update of 'a' has no lines",
        );
        starts(inside("*** Update File: a\n@@\n+x\ny"), "invalid hunk at line 5, unexpected line");
        starts(inside("*** Add File: a"), "invalid hunk at line 2, a file is added without a line");
        starts(inside("*** Add File: "), "invalid hunk at line 2, the header names no path");
    }

    proptest! {
        #[test]
        fn no_text_causes_a_panic(text in "(\\*\\*\\* (Begin Patch|End Patch|Add File: a|Update File: b|Delete File: c|Move to: d|End of File)|@@|@@ x|[-+ ]x|<<E|E|\\PC{0,9}|\n){0,30}") {
            let _ = parse(&text);
            let _ = parse(&format!("*** Begin Patch\n{text}\n*** End Patch"));
        }

        #[test]
        fn an_added_file_is_parsed_exactly(lines in prop::collection::vec("[^\r\n]{0,20}", 1..10)) {
            let body: String = lines.iter().map(|line| format!("+{line}\n")).collect();
            let content: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let parsed = parse(&format!("*** Begin Patch\n*** Add File: a\n{body}*** End Patch\n"));
            prop_assert_eq!(parsed, Ok(vec![Hunk::Add { path: "a".into(), content }]));
        }
    }
}

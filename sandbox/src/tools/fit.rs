//! Applies the chunks of a patch to the text of a file. Pure.
//!
//! Lines are searched for after the previous chunk: exactly, then without trailing space, then
//! without space around them, then with typographic dashes, quotes and spaces replaced by plain
//! ones. Kept lines stay as they are in the file.

use super::patch::{Chunk, PatchLine};

/// How many comparisons the search for the nearest lines may take.
const NEAREST_WORK: usize = 20_000_000;
/// How many lines of the file are shown if a chunk does not fit.
const NEAREST_LINES: usize = 20;

/// The file after the chunks. It ends with a newline.
///
/// # Errors
/// What was not found, and what is there instead, for the model.
pub(super) fn apply(shown: &str, text: &str, chunks: &[Chunk]) -> Result<String, String> {
    let mut lines: Vec<&str> = text.split('\n').collect();
    if lines.last() == Some(&"") {
        lines.pop();
    }
    let carriage = lines.first().is_some_and(|line| line.ends_with('\r'));
    let mut from = 0;
    let mut edits: Vec<(usize, usize, Vec<String>)> = Vec::new();
    for chunk in chunks {
        for after in &chunk.after {
            let at = seek(&lines, &[after], from, false);
            let at = at.ok_or_else(|| format!("Failed to find context '{after}' in {shown}"))?;
            from = at + 1;
        }
        let mut kept_or_removed: Vec<&str> = chunk.lines.iter().filter_map(expected_text).collect();
        if kept_or_removed.is_empty() {
            edits.push((lines.len(), 0, replacement(&chunk.lines, &[], carriage)));
            continue;
        }
        let mut script: &[PatchLine] = &chunk.lines;
        let mut found = seek(&lines, &kept_or_removed, from, chunk.at_end);
        while found.is_none()
            && matches!(script.last(), Some(PatchLine::Kept(last)) if last.is_empty())
        {
            // Empty last lines are often only the layout of the patch.
            kept_or_removed.pop();
            script = &script[..script.len() - 1];
            if kept_or_removed.is_empty() {
                break;
            }
            found = seek(&lines, &kept_or_removed, from, chunk.at_end);
        }
        let Some(at) = found else {
            return Err(not_found(
                shown,
                &lines,
                &chunk.lines.iter().filter_map(expected_text).collect::<Vec<_>>(),
            ));
        };
        let end = at + kept_or_removed.len();
        edits.push((at, kept_or_removed.len(), replacement(script, &lines[at..end], carriage)));
        from = end;
    }
    // Additions at the end come last, wherever they are in the patch.
    edits.sort_by_key(|(at, ..)| *at);
    let mut out = String::with_capacity(text.len());
    let mut next = 0;
    let mut push = |line: &str| {
        out.push_str(line);
        out.push('\n');
    };
    for (at, length, new) in edits {
        lines[next..at].iter().for_each(|line| push(line));
        new.iter().for_each(|line| push(line));
        next = at + length;
    }
    lines[next..].iter().for_each(|line| push(line));
    Ok(out)
}

/// The text that a line of a patch expects in the file.
fn expected_text(line: &PatchLine) -> Option<&str> {
    match line {
        PatchLine::Kept(text) | PatchLine::Removed(text) => Some(text),
        PatchLine::Added(_) => None,
    }
}

/// The new lines of a chunk. Kept lines are taken from `present`.
fn replacement(script: &[PatchLine], present: &[&str], carriage: bool) -> Vec<String> {
    let mut present = present.iter();
    let new = |line: &PatchLine| match line {
        PatchLine::Kept(text) => {
            Some(present.next().map_or_else(|| text.clone(), |line| (*line).to_owned()))
        }
        PatchLine::Removed(_) => {
            present.next();
            None
        }
        PatchLine::Added(text) if carriage => Some(format!("{text}\r")),
        PatchLine::Added(text) => Some(text.clone()),
    };
    script.iter().filter_map(new).collect()
}

/// The first position at or after `from` at which all lines of `wanted` are.
fn seek(lines: &[&str], wanted: &[impl AsRef<str>], from: usize, at_end: bool) -> Option<usize> {
    let last = lines.len().checked_sub(wanted.len()).filter(|last| *last >= from)?;
    let ladder: [fn(&str, &str) -> bool; 4] = [
        |a, b| a == b,
        |a, b| a.trim_end() == b.trim_end(),
        |a, b| a.trim() == b.trim(),
        |a, b| plain(a.trim()).eq(plain(b.trim())),
    ];
    let fits = |at: usize, same: fn(&str, &str) -> bool| {
        wanted.iter().zip(&lines[at..]).all(|(wanted, line)| same(line, wanted.as_ref()))
    };
    if at_end && ladder.iter().any(|same| fits(last, *same)) {
        return Some(last);
    }
    ladder.iter().find_map(|same| (from..=last).find(|at| fits(*at, *same)))
}

/// Typographic characters as plain ones.
fn plain(text: &str) -> impl Iterator<Item = char> {
    text.chars().map(|letter| match letter {
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        '\u{2018}'..='\u{201b}' => '\'',
        '\u{201c}'..='\u{201f}' => '"',
        '\u{a0}' | '\u{2002}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => ' ',
        other => other,
    })
}

/// An error that shows the nearest lines, so that the model can fix its patch without reading
/// again.
fn not_found(shown: &str, lines: &[&str], wanted: &[&str]) -> String {
    let head = format!("Failed to find expected lines in {shown}:\n{}", wanted.join("\n"));
    if lines.is_empty() {
        return format!("{head}\n{shown} is empty");
    }
    let score = |at: usize| {
        wanted
            .iter()
            .zip(&lines[at..])
            .filter(|(a, b)| !a.trim().is_empty() && a.trim() == b.trim())
            .count()
    };
    let most = NEAREST_WORK / wanted.len().max(1);
    let nearest = (0..lines.len().min(most))
        .map(|at| (score(at), at))
        .max_by_key(|(score, at)| (*score, std::cmp::Reverse(*at)));
    match nearest {
        Some((score, at)) if score > 0 => {
            let end = lines.len().min(at + wanted.len().min(NEAREST_LINES));
            format!(
                "{head}\nThe nearest lines are {} to {end}:\n{}",
                at + 1,
                lines[at..end].join("\n")
            )
        }
        _ => format!("{head}\nNone of these lines is there: read {shown} again"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::patch::{Hunk, parse};
    use super::*;

    fn fitted(text: &str, changes: &str) -> Result<String, String> {
        let hunks =
            parse(&format!("*** Begin Patch\n*** Update File: f\n{changes}\n*** End Patch"));
        match hunks?.as_slice() {
            [Hunk::Update { chunks, .. }] => apply("f", text, chunks),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lines_are_found_exactly_then_loosely() {
        let cases = [
            ("a\nb\nc\n", "-b\n+B", "a\nB\nc\n"),
            ("b\na\nb\n", "@@ a\n-b\n+B", "b\na\nB\n"),
            ("b \nb\n", "-b\n+B", "b \nB\n"),
            ("  b  \n", "-b\n+B", "B\n"),
            ("say “no”\u{a0}– he\n", "-say \"no\" - he\n+x", "x\n"),
            // Kept lines stay as they are in the file.
            ("keep  \nold\n", " keep\n-old\n+new", "keep  \nnew\n"),
            ("a\r\nb\r\n", " a\n-b\n+B", "a\r\nB\r\n"),
            ("x\ny\nx\n", "@@\n-x\n+z\n*** End of File", "x\ny\nz\n"),
            ("a", "+b", "a\nb\n"),
            ("", "+b", "b\n"),
            ("a\n\nb\n", "-a\n+A\n\n", "A\n\nb\n"),
            ("a\nb\n", "-b\n+B\n\n", "a\nB\n"),
            ("a\nb\nc\nd\n", "-a\n+A\n@@\n-d\n+D", "A\nb\nc\nD\n"),
        ];
        for (text, changes, expected) in cases {
            assert_eq!(fitted(text, changes).as_deref(), Ok(expected), "{text:?} {changes:?}");
        }
    }

    #[test]
    fn a_stale_patch_is_refused_with_the_nearest_lines() {
        assert_eq!(
            fitted("fn a() {\n    one();\n    two();\n}\n", " fn a() {\n-    uno();\n     two();"),
            Err("Failed to find expected lines in f:\nfn a() {\n    uno();\n    two();\n\
                 The nearest lines are 1 to 3:\nfn a() {\n    one();\n    two();"
                .to_owned())
        );
        assert_eq!(fitted("a\n", "@@ b\n-a"), Err("Failed to find context 'b' in f".to_owned()));
        assert_eq!(
            fitted("a\n", "-b"),
            Err("Failed to find expected lines in f:\nb\nNone of these lines is there: read f again".to_owned())
        );
        assert!(fitted("", "-b").is_err_and(|error| error.ends_with("f is empty")));
        // Chunks must be in order.
        assert!(fitted("a\nb\n", "-b\n@@\n-a").is_err());
    }

    proptest! {
        #[test]
        fn replacing_one_unique_line_changes_that_line_alone(before in prop::collection::vec("[a-m]{1,4}", 0..20), after in prop::collection::vec("[a-m]{1,4}", 0..20)) {
            let join = |middle: &str| {
                let all = before.iter().map(String::as_str).chain([middle]).chain(after.iter().map(String::as_str));
                all.map(|line| format!("{line}\n")).collect::<String>()
            };
            prop_assert_eq!(fitted(&join("xyz"), "-xyz\n+new"), Ok(join("new")));
        }

        #[test]
        fn no_chunks_cause_a_panic(text in "[ab \n]{0,40}", changes in "(([-+ ][ab ]{0,3}|@@|@@ a|)\n){1,12}") {
            let _ = fitted(&text, &changes);
        }
    }
}

//! `read_file`: shows a page of a text file, with line numbers and totals. A file of any size takes
//! the memory of one page.

use std::fmt::Write as _;
use std::io::Read as _;

use airlock_shared::limits;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Files, ToolResult, output};

pub(super) const NAME: &str = "read_file";

/// How many bytes at the start of a file decide whether it is text.
const PROBE_BYTES: usize = 8 << 10;
const CHUNK_BYTES: usize = 64 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Arguments {
    path: String,
    offset: Option<usize>,
    limit: Option<usize>,
}

pub(super) fn definition() -> Value {
    super::function(
        NAME,
        "Reads a text file of the workspace. Lines are numbered; long lines and long files are cut, \
         and the answer says how to read on.",
        json!({
            "path": {"type": "string", "description": "From the workspace's root"},
            "offset": {"type": "integer", "description": "The first line to show, from 1"},
            "limit": {"type": "integer", "description": format!("How many lines to show; {} by default", limits::READ_LINES)},
        }),
        &["path"],
    )
}

pub(super) fn title(arguments: &Arguments) -> String {
    format!("read {}", output::title(&arguments.path))
}

pub(super) fn call(files: &Files<'_>, arguments: Arguments) -> ToolResult {
    match read(files, &arguments) {
        Ok((text, lines)) => ToolResult::done(text, output::counted(lines as u64, "line")),
        Err(why) => ToolResult::failed(why),
    }
}

fn read(files: &Files<'_>, arguments: &Arguments) -> Result<(String, usize), String> {
    let path = files.root.within(&arguments.path)?;
    let (file, stat) = files.root.file(&path)?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let shown = path.shown();
    let mut file = file.take(limits::READ_SCAN_BYTES);
    let first = arguments.offset.unwrap_or(1).max(1);
    let most = arguments.limit.unwrap_or(limits::READ_LINES).clamp(1, limits::READ_LINES);
    let mut page = Page::new(first, most, files.limit);
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut seen = 0;
    loop {
        files.check_stopped()?;
        let count = match file.read(&mut chunk) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(format!("{shown}: {error}")),
        };
        if seen == 0 && chunk[..count.min(PROBE_BYTES)].contains(&0) {
            let start: Vec<String> =
                chunk[..count.min(8)].iter().map(|byte| format!("{byte:02x}")).collect();
            return Err(format!(
                "{shown} is binary ({size} bytes, starts with {}): not shown",
                start.join(" ")
            ));
        }
        if count == 0 {
            break;
        }
        seen += count as u64;
        page.feed(&chunk[..count]);
    }
    page.end();
    // Files of /proc report a size of 0: then the size is what was read.
    let size = size.max(seen);
    let more = if seen < size { "more than " } else { "" };
    let total = page.lines;
    let mut text =
        format!("{shown}: {more}{}, {size} bytes\n", output::counted(total as u64, "line"));
    text.push_str(&page.text);
    if page.shown == 0 && total > 0 {
        let far = if more.is_empty() { "" } else { " in what this tool reads; use a command" };
        let _ = writeln!(text, "[there is no line {first}{far}]");
    } else if page.next <= total {
        let _ = writeln!(
            text,
            "[lines {} to {total} not shown: read on with offset {}]",
            page.next, page.next
        );
    }
    Ok((text, page.shown))
}

/// Collects the lines of one page from a stream.
struct Page {
    first: usize,
    most: usize,
    room: usize,
    text: String,
    /// The start of the current line, and the line's whole length.
    line: Vec<u8>,
    length: usize,
    /// Lines that ended.
    lines: usize,
    shown: usize,
    /// The first line after the page.
    next: usize,
}

impl Page {
    fn new(first: usize, most: usize, room: usize) -> Self {
        let (text, line) = (String::new(), Vec::new());
        Self { first, most, room, text, line, length: 0, lines: 0, shown: 0, next: first }
    }

    fn feed(&mut self, mut chunk: &[u8]) {
        while let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            self.grow(&chunk[..end]);
            self.end_line();
            chunk = &chunk[end + 1..];
        }
        self.grow(chunk);
    }

    fn grow(&mut self, piece: &[u8]) {
        self.length += piece.len();
        // A little more than is shown, so that a cut does not split a character.
        let room = (limits::READ_LINE_BYTES + 4).saturating_sub(self.line.len());
        self.line.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    fn end_line(&mut self) {
        self.lines += 1;
        let number = self.lines;
        if number >= self.first && number == self.next && self.shown < self.most {
            let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
            let line = String::from_utf8_lossy(line);
            let kept = &line[..line.floor_char_boundary(limits::READ_LINE_BYTES)];
            // Invalid bytes take more bytes as text.
            let over = self.length.saturating_sub(limits::READ_LINE_BYTES);
            let over = over.max(line.len() - kept.len());
            let mark = if over > 0 { format!("… [+{over} bytes]") } else { String::new() };
            let line = format!("{number:>6}\t{kept}{mark}\n");
            // At least one line, so that reading on makes progress.
            if self.text.len() + line.len() <= self.room || self.shown == 0 {
                self.text.push_str(&line);
                self.shown += 1;
                self.next = number + 1;
            }
        }
        self.line.clear();
        self.length = 0;
    }

    /// Call this at the end of the stream. A last line without a newline counts.
    fn end(&mut self) {
        if self.length > 0 {
            self.end_line();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ToolFixture;
    use super::*;

    #[tokio::test]
    async fn pages_totals_and_long_lines() {
        let fixture = ToolFixture::new(30);
        fixture.put("a", "one\r\ntwo\nthree").await;
        let read = |arguments| fixture.call(NAME, arguments);
        let result = read(json!({"path": "a"})).await;
        assert_eq!(
            result.output,
            "a: 3 lines, 14 bytes\n     1\tone\n     2\ttwo\n     3\tthree\n"
        );
        let result = read(json!({"path": "./a", "offset": 2, "limit": 1})).await;
        assert_eq!(
            result.output,
            "a: 3 lines, 14 bytes\n     2\ttwo\n[lines 3 to 3 not shown: read on with offset 3]\n"
        );
        let result = read(json!({"path": "a", "offset": 9})).await;
        assert_eq!(result.output, "a: 3 lines, 14 bytes\n[there is no line 9]\n");
        fixture.put("long", &format!("{}\nend\n", "é".repeat(3000))).await;
        let result = read(json!({"path": "long"})).await;
        let line = format!("     1\t{}… [+4000 bytes]\n     2\tend\n", "é".repeat(1000));
        assert_eq!(result.output, format!("long: 2 lines, 6005 bytes\n{line}"));
        // 700 invalid bytes become 2,100, and the cut is marked too.
        let made = "head -c 700 /dev/zero | tr '\\0' '\\377' >bytes; printf 0123456789 >>bytes";
        assert!(fixture.call("bash", json!({"command": made})).await.ok);
        let result = read(json!({"path": "bytes"})).await;
        assert!(result.output.ends_with("… [+112 bytes]\n"), "{}", result.output);
        fixture.put("many", &"0123456789\n".repeat(5000)).await;
        let result = read(json!({"path": "many"})).await;
        assert!(result.output.len() < 10_200 && result.output.contains("read on with offset"));
        assert_eq!(read(json!({"path": "none"})).await.output, "none does not exist");
    }

    #[tokio::test]
    async fn binary_and_huge_files_are_bounded() {
        let fixture = ToolFixture::new(31);
        let made =
            "truncate -s 1T holes; printf '\\177ELF\\0' >program; yes a | head -c 100000000 >huge";
        assert!(fixture.call("bash", json!({"command": made})).await.ok);
        let result = fixture.call(NAME, json!({"path": "program"})).await;
        assert_eq!(
            result.output,
            "program is binary (5 bytes, starts with 7f 45 4c 46 00): not shown"
        );
        let result = fixture.call(NAME, json!({"path": "holes"})).await;
        assert!(result.output.starts_with("holes is binary (1099511627776 bytes"));
        let result = fixture.call(NAME, json!({"path": "huge", "limit": 1})).await;
        assert!(
            result
                .output
                .starts_with("huge: more than 33554432 lines, 100000000 bytes\n     1\ta\n"),
            "{}",
            result.output
        );
    }
}

//! `list_files`: lists the workspace, page by page, without what git ignores.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::rc::Rc;

use airlock_shared::limits;
use globset::{GlobBuilder, GlobMatcher};
use rustix::fs::OFlags;
use serde::Deserialize;
use serde_json::{Value, json};

use super::ignored::{IgnoreRules, is_ignored, rules_in};
use super::path::Root;
use super::walk::{self, Entry, Kind};
use super::{Files, ToolResult, output};

pub(super) const NAME: &str = "list_files";

/// How many levels are shown if neither a depth nor a pattern is given.
const DEPTH: usize = 2;
/// The most entries of one page.
const PAGE_ENTRIES: usize = 2_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Arguments {
    path: Option<String>,
    pattern: Option<String>,
    depth: Option<usize>,
    offset: Option<usize>,
    limit: Option<usize>,
    #[serde(default)]
    ignored: bool,
}

pub(super) fn definition() -> Value {
    super::function(
        NAME,
        "Lists the files of a directory of the workspace: `name/` is a directory, `name@ -> target` a \
         link, `name?` something else, and a file has its size in bytes. Leaves out `.git` and what \
         .gitignore names.",
        json!({
            "path": {"type": "string", "description": "The directory, from the workspace's root; the root by default"},
            "pattern": {"type": "string", "description": "A glob: of a name (`*.rs`), or with a slash of a path from the workspace's root (`src/**/*.rs`)"},
            "depth": {"type": "integer", "description": format!("How many levels; {DEPTH} by default, all with a pattern")},
            "offset": {"type": "integer", "description": "The first entry to show, from 1"},
            "limit": {"type": "integer", "description": format!("How many entries to show; {} by default", limits::LIST_ENTRIES)},
            "ignored": {"type": "boolean", "description": "Also what is left out otherwise"},
        }),
        &[],
    )
}

pub(super) fn title(arguments: &Arguments) -> String {
    let path = arguments.path.as_deref().unwrap_or(".");
    let pattern = arguments.pattern.as_ref().map(|glob| format!(" {glob}")).unwrap_or_default();
    format!("list {}", output::title(&format!("{path}{pattern}")))
}

pub(super) fn call(files: &Files<'_>, arguments: Arguments) -> ToolResult {
    match list(files, &arguments) {
        Ok((text, shown)) => ToolResult::done(text, output::counted(shown as u64, "entry")),
        Err(why) => ToolResult::failed(why),
    }
}

fn list(files: &Files<'_>, arguments: &Arguments) -> Result<(String, usize), String> {
    let start = files.root.within(arguments.path.as_deref().unwrap_or_default())?;
    let start = files.root.resolve(&start)?;
    // A file or a missing directory is an error.
    files.root.open_dir(&start, OFlags::PATH)?;
    let pattern = arguments.pattern.as_deref().map(Pattern::parse).transpose()?;
    let depth = match (arguments.depth, &pattern) {
        (Some(depth), _) => depth.max(1),
        (None, Some(_)) => usize::MAX,
        (None, None) => DEPTH,
    };
    let mut walk = Walk {
        files,
        pattern,
        depth,
        ignored: arguments.ignored,
        scanned: 0,
        cut: false,
        found: Vec::new(),
    };
    walk.run(start.as_str().as_bytes())?;

    let first = arguments.offset.unwrap_or(1).max(1);
    let most = arguments.limit.unwrap_or(limits::LIST_ENTRIES).clamp(1, PAGE_ENTRIES);
    let total = walk.found.len();
    let mut page = String::new();
    let mut shown = 0;
    for (path, kind) in walk.found.iter().skip(first - 1).take(most) {
        let line = line(files.root, path, *kind);
        if page.len() + line.len() > files.limit && shown > 0 {
            break;
        }
        page.push_str(&line);
        shown += 1;
    }
    let more = if walk.cut { "more than " } else { "" };
    let mut text =
        format!("{}: {more}{}\n{page}", start.shown(), output::counted(total as u64, "entry"));
    let next = first.saturating_add(shown);
    if shown > 0 && next <= total {
        text.push_str(&format!(
            "[entries {next} to {total} not shown: go on with offset {next}]\n"
        ));
    } else if shown == 0 && total > 0 {
        text.push_str(&format!("[there is no entry {first}]\n"));
    }
    if walk.cut {
        text.push_str(&format!(
            "[looked at {} entries and no further: name a directory]\n",
            walk.scanned
        ));
    }
    Ok((text, shown))
}

fn line(root: &Root, path: &[u8], kind: Kind) -> String {
    let shown = output::escaped(path);
    let opened = || walk::open(root.as_fd(), path, OFlags::PATH | OFlags::NOFOLLOW);
    match kind {
        Kind::Dir => format!("{shown}/\n"),
        Kind::Other => format!("{shown}?\n"),
        Kind::File => match opened().and_then(rustix::fs::fstat) {
            Ok(stat) => format!("{shown}  {}\n", stat.st_size),
            Err(_) => format!("{shown}\n"),
        },
        Kind::Link => {
            match opened().and_then(|link| rustix::fs::readlinkat(link, "", Vec::new())) {
                Ok(target) => format!(
                    "{shown}@ -> {}\n",
                    output::start(&output::escaped(target.to_bytes()), 200)
                ),
                Err(_) => format!("{shown}@\n"),
            }
        }
    }
}

/// A glob for names, or for whole paths if it has a slash.
struct Pattern {
    glob: GlobMatcher,
    on_paths: bool,
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let glob = GlobBuilder::new(text.trim_start_matches("./")).literal_separator(true).build();
        let glob = glob.map_err(|error| format!("the pattern cannot be read: {error}"))?;
        Ok(Self { glob: glob.compile_matcher(), on_paths: text.contains('/') })
    }

    fn matches(&self, path: &[u8], name: &[u8]) -> bool {
        self.glob.is_match(OsStr::from_bytes(if self.on_paths { path } else { name }))
    }
}

struct Walk<'a> {
    files: &'a Files<'a>,
    pattern: Option<Pattern>,
    depth: usize,
    ignored: bool,
    scanned: usize,
    /// There is more than we scan.
    cut: bool,
    found: Vec<(Vec<u8>, Kind)>,
}

/// A directory that is being walked.
struct OpenDir {
    path: Vec<u8>,
    rest: std::vec::IntoIter<Entry>,
    rules: Option<Rc<IgnoreRules>>,
}

impl Walk<'_> {
    /// Walks depth first. Each directory comes before its content.
    fn run(&mut self, start: &[u8]) -> Result<(), String> {
        let mut outer = None;
        if !self.ignored {
            let ends =
                start.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
            let above = std::iter::once(0).chain(ends).filter(|_| !start.is_empty());
            for end in above {
                outer = rules_in(self.files.root, &start[..end], outer);
            }
        }
        let mut levels = Vec::from_iter(self.level(start.to_vec(), outer));
        while let Some(level) = levels.last_mut() {
            let Some(entry) = level.rest.next() else {
                levels.pop();
                continue;
            };
            let path = walk::joined(&level.path, &entry.name);
            let is_dir = entry.kind == Kind::Dir;
            if !self.ignored
                && (entry.name == b".git" || is_ignored(level.rules.as_ref(), &path, is_dir))
            {
                continue;
            }
            let rules = level.rules.clone();
            if self.pattern.as_ref().is_none_or(|pattern| pattern.matches(&path, &entry.name)) {
                self.found.push((path.clone(), entry.kind));
            }
            if is_dir && levels.len() < self.depth && !self.cut {
                self.files.check_stopped()?;
                levels.extend(self.level(path, rules));
            }
        }
        Ok(())
    }

    /// Reads a directory. One that cannot be read has no entries.
    fn level(&mut self, path: Vec<u8>, outer: Option<Rc<IgnoreRules>>) -> Option<OpenDir> {
        let root = self.files.root;
        let dir = walk::open(root.as_fd(), &path, OFlags::RDONLY | OFlags::DIRECTORY).ok()?;
        let (entries, more) = walk::entries(dir, limits::LIST_SCAN_ENTRIES - self.scanned).ok()?;
        self.scanned += entries.len();
        self.cut |= more;
        let has_rules = !self.ignored && entries.iter().any(|entry| entry.name == b".gitignore");
        let rules = if has_rules { rules_in(root, &path, outer) } else { outer };
        Some(OpenDir { path, rest: entries.into_iter(), rules })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ToolFixture;
    use super::*;

    #[tokio::test]
    async fn labels_order_ignore_rules_globs_and_pages() {
        let fixture = ToolFixture::new(32);
        let made = "mkdir -p .git src/deep/er target node_modules; printf 'target/\\n*.log\\n!keep.log\\n' >.gitignore;
            printf 'local\\n' >src/.gitignore; echo 1 >src/a.rs; echo 22 >src/deep/b.rs; echo 3 >src/deep/er/c.rs; touch src/local x.log keep.log;
            touch target/x; ln -s /etc out; mkfifo pipe; touch $'odd\\n\\e[2J'";
        assert!(fixture.call("bash", json!({"command": made})).await.ok);
        let list = |arguments| fixture.call(NAME, arguments);
        let all = list(json!({})).await;
        assert_eq!(
            all.output,
            ".: 10 entries\n.gitignore  24\nkeep.log  0\nnode_modules/\nodd\\n\\u{1b}[2J  0\nout@ -> /etc\npipe?\nsrc/\n\
             src/.gitignore  6\nsrc/a.rs  2\nsrc/deep/\n"
        );
        let globbed = list(json!({"pattern": "*.rs", "path": "src"})).await;
        assert_eq!(
            globbed.output,
            "src: 3 entries\nsrc/a.rs  2\nsrc/deep/b.rs  3\nsrc/deep/er/c.rs  2\n"
        );
        let globbed = list(json!({"pattern": "src/*.rs"})).await;
        assert_eq!(globbed.output, ".: 1 entry\nsrc/a.rs  2\n");
        let page = list(json!({"pattern": "*.rs", "offset": 2, "limit": 1})).await;
        assert_eq!(
            page.output,
            ".: 3 entries\nsrc/deep/b.rs  3\n[entries 3 to 3 not shown: go on with offset 3]\n"
        );
        let ignored = list(json!({"ignored": true, "depth": 1})).await;
        assert!(ignored.output.contains("\n.git/\n") && ignored.output.contains("\ntarget/\n"));
        assert_eq!(list(json!({"path": "src/a.rs"})).await.output, "src/a.rs is not a directory");
        // The rules of the directories above count too.
        assert!(!list(json!({"path": "src"})).await.output.contains("local"));
    }

    #[tokio::test]
    async fn a_large_directory_is_bounded() {
        let fixture = ToolFixture::new(33);
        let made = "mkdir crowd; cd crowd; seq -f %06g 3000 | xargs touch";
        assert!(fixture.call("bash", json!({"command": made})).await.ok);
        let page = fixture.call(NAME, json!({"path": "crowd", "limit": 5000})).await;
        assert!(page.output.starts_with("crowd: 3000 entries\ncrowd/000001  0\n"));
        assert!(page.output.len() < 10_200, "{}", page.output.len());
    }
}

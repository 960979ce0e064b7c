//! Parses git's configuration: its settings, and what each may name. It works on text only: it
//! opens nothing and does not run git. Used by `git_runs` (what git runs) and by `git` (the
//! format).

/// Keys whose value is a command, so that a word without a slash may be a file of the work tree
/// (`clean = sh fmt.sh`). A word with a slash counts under every key: other programs read the same
/// file, and new versions of git add keys.
const PROGRAMS: [&str; 30] = [
    "alternaterefscommand",
    "args",
    "askpass",
    "attributesfile",
    "browser",
    "clean",
    "cmd",
    "command",
    "defaultkeycommand",
    "difffilter",
    "driver",
    "editor",
    "external",
    "fsmonitor",
    "gitproxy",
    "helper",
    "httpd",
    "packobjectshook",
    "pager",
    "path",
    "process",
    "program",
    "receivepack",
    "sendmailcmd",
    "smtpserver",
    "smudge",
    "sshcommand",
    "textconv",
    "update",
    "uploadpack",
];
/// The characters that end a word in a shell command.
const BETWEEN: &[u8] = b" \t\r\n\"'`;&|()<>{}=,:$";

/// One setting. Section and key are in lower case.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) section: String,
    pub(super) has_subsection: bool,
    pub(super) key: String,
    pub(super) value: Vec<u8>,
}

/// What the value of a setting is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Another configuration, relative to this one.
    Include,
    /// A folder of hooks.
    Hooks,
    /// The work tree, relative to the repository's own folder.
    WorkTree,
    Program,
    /// Names of branches and remotes.
    Refs,
    Other,
}

impl Setting {
    /// The condition of an `includeIf` is ignored: it may hold in another place or later.
    pub(super) fn kind(&self) -> Value {
        let ends = |ending: &str| self.key.ends_with(ending);
        match (self.section.as_str(), self.key.as_str()) {
            ("include" | "includeif", "path") => Value::Include,
            // A new repository gets the hooks of the template.
            ("core", "hookspath") | ("init", "templatedir") => Value::Hooks,
            ("core", "worktree") => Value::WorkTree,
            ("branch", _) | ("remote", "fetch" | "push") => Value::Refs,
            ("alias", _) if self.value.trim_ascii_start().starts_with(b"!") => Value::Program,
            ("pager", _) => Value::Program,
            (_, key) if PROGRAMS.contains(&key) => Value::Program,
            _ if ends("command") || ends("cmd") || ends("hook") => Value::Program,
            _ => Value::Other,
        }
    }

    /// Everything in the value that may be a path: the whole value, the parts in quotes, and each
    /// word as a shell reads it.
    pub(super) fn words(&self) -> Vec<Vec<u8>> {
        let takes_names = self.kind() == Value::Program;
        let value = self.value.strip_prefix(b"!").unwrap_or(&self.value);
        let mut words = vec![value.to_vec()];
        words.extend(value.split(|byte| matches!(byte, b'"' | b'\'')).map(<[u8]>::to_vec));
        let (mut word, mut bytes) = (Vec::new(), value.iter());
        while let Some(byte) = bytes.next() {
            match byte {
                b'\\' => word.extend(bytes.next()),
                between if BETWEEN.contains(between) => words.push(std::mem::take(&mut word)),
                other => word.push(*other),
            }
        }
        words.push(word);
        words.sort_unstable();
        words.dedup();
        let is_flag = |word: &[u8]| word.is_empty() || word.starts_with(b"-");
        words.retain(|word| !is_flag(word) && (takes_names || word.contains(&b'/')));
        words
    }
}

/// All settings of a configuration. A line that git would refuse is skipped.
pub(super) fn settings(text: &[u8]) -> Vec<Setting> {
    let mut rest = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let (mut section, mut has_subsection) = (String::new(), false);
    let mut settings = Vec::new();
    while let Some(first) = rest.first() {
        match first {
            byte if byte.is_ascii_whitespace() => rest = &rest[1..],
            b'[' => (section, has_subsection, rest) = header(&rest[1..]),
            byte if byte.is_ascii_alphabetic() => {
                let is_key = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
                let (key, after) = split(rest, |byte| !is_key(byte));
                let (_, after) = split(after, |byte| !matches!(byte, b' ' | b'\t'));
                let Some(given) = after.strip_prefix(b"=") else {
                    rest = line_end(after);
                    continue;
                };
                let (value, after) = value(given);
                rest = after;
                let key = String::from_utf8_lossy(key).to_ascii_lowercase();
                settings.push(Setting { section: section.clone(), has_subsection, key, value });
            }
            _ => rest = line_end(rest),
        }
    }
    settings
}

/// `core]`, `filter "fmt"]`, `filter.fmt]`, and the text after it.
fn header(text: &[u8]) -> (String, bool, &[u8]) {
    let (line, _) = split(text, |byte| *byte == b'\n');
    let (mut is_quoted, mut end, mut at) = (false, line.len(), 0);
    while at < line.len() {
        match line[at] {
            b'\\' if is_quoted => at += 1,
            b'"' => is_quoted = !is_quoted,
            b']' if !is_quoted => {
                end = at;
                break;
            }
            _ => {}
        }
        at += 1;
    }
    let (name, sub) = split(&line[..end], |byte| matches!(byte, b'.' | b'"' | b' ' | b'\t'));
    let section = String::from_utf8_lossy(name).trim().to_ascii_lowercase();
    (section, !sub.trim_ascii().is_empty(), &text[(end + 1).min(text.len())..])
}

/// A value without its quotes, escapes and comment, and the text after it.
fn value(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let (mut value, mut is_quoted, mut kept) = (Vec::new(), false, 0);
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        at += 1;
        match byte {
            b'\n' => break,
            b'#' | b';' if !is_quoted => {
                at = text.len() - line_end(&text[at..]).len();
                break;
            }
            b'"' => {
                is_quoted = !is_quoted;
                kept = value.len();
            }
            b'\\' => {
                let escaped = text.get(at).copied();
                at += 1;
                match escaped {
                    // The value goes on in the next line.
                    Some(b'\n') => continue,
                    Some(b'\r') if text.get(at) == Some(&b'\n') => {
                        at += 1;
                        continue;
                    }
                    Some(b'n') => value.push(b'\n'),
                    Some(b't') => value.push(b'\t'),
                    Some(b'b') => _ = value.pop(),
                    Some(other) => value.push(other),
                    None => break,
                }
                kept = value.len();
            }
            byte if byte.is_ascii_whitespace() && !is_quoted => {
                if !value.is_empty() {
                    value.push(*byte);
                }
            }
            byte => {
                value.push(*byte);
                kept = value.len();
            }
        }
    }
    value.truncate(kept);
    (value, &text[at.min(text.len())..])
}

fn split(text: &[u8], ends: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(ends).unwrap_or(text.len()))
}

/// What comes behind the line.
fn line_end(text: &[u8]) -> &[u8] {
    let (_, rest) = split(text, |byte| *byte == b'\n');
    rest.get(1..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, bool, String, String)> {
        let all = settings(text.as_bytes()).into_iter();
        let text = |value| String::from_utf8(value).unwrap();
        all.map(|it| (it.section, it.has_subsection, it.key, text(it.value))).collect()
    }

    #[test]
    fn settings_are_read_as_git_reads_them() {
        let text = "\u{feff}; a comment\n[Core] bare = false # no\n\tHooksPath = \"a b\" ; c\n\
            [filter \"x]\\\"y\"]\n clean = sh \\\n  \"-c 'q;#'\"  \r\n\trequired\n\
            [include.old]\npath=../more\n= nothing\n[a\n  k = \\\"v\\\\\\n\\t|  ";
        let told = |section: &str, sub, key: &str, value: &str| {
            (section.to_owned(), sub, key.to_owned(), value.to_owned())
        };
        let expected = [
            told("core", false, "bare", "false"),
            told("core", false, "hookspath", "a b"),
            told("filter", true, "clean", "sh   -c 'q;#'"),
            told("include", true, "path", "../more"),
            told("a", false, "k", "\"v\\\n\t|"),
        ];
        assert_eq!(read(text), expected);
        for broken in ["", "[", "[\"", "a=\\", "x", "\u{0}=1", "[a \"\\", "a=\"", "a=#"] {
            read(broken);
        }
    }

    #[test]
    fn every_word_that_may_be_a_file_is_found() {
        let words = |text: &str| -> Vec<String> {
            let all = settings(text.as_bytes());
            let all = all.iter().flat_map(Setting::words);
            all.map(|word| String::from_utf8(word).unwrap()).collect()
        };
        for (text, word) in [
            ("[filter \"f\"]\nclean = sh fmt.sh %f", "fmt.sh"),
            ("[merge \"m\"]\ndriver = tools/merge %O %A", "tools/merge"),
            ("[core]\nsshCommand = \"'my tools/ssh' -x\"", "my tools/ssh"),
            ("[core]\nsshCommand = my\\\\ tools/ssh -x", "my tools/ssh"),
            ("[core]\nfsmonitor = my tools/x", "my tools/x"),
            ("[diff \"d\"]\ntextconv = env A=b ./conv", "./conv"),
            ("[pager]\nlog = less.sh", "less.sh"),
            ("[alias]\nx = \"!f() { sh up.sh; }; f\"", "up.sh"),
            ("[new \"thing\"]\nof-tomorrow = --with=tools/x", "tools/x"),
            ("[gpg \"ssh\"]\ndefaultKeyCommand = k.sh", "k.sh"),
            ("[hook \"x\"]\ncommand = h.sh", "h.sh"),
            ("[submodule \"s\"]\nupdate = !up.sh", "up.sh"),
        ] {
            assert!(words(text).iter().any(|it| it == word), "{text}: {:?}", words(text));
        }
        for text in
            ["[branch \"b\"]\nremote = origin", "[alias]\nco = checkout", "[core]\nbare = true"]
        {
            assert_eq!(words(text), [""; 0], "{text}");
        }
    }
}

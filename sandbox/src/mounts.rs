//! The mounts, as the kernel lists them in `/proc/self/mountinfo`.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) id: String,
    pub(crate) at: PathBuf,
    /// Options of the mount: `ro,nosuid,…`.
    pub(crate) options: String,
    pub(crate) kind: String,
    /// Options of the file system, which are the same for all its mounts.
    pub(crate) options_of_system: String,
}

/// All mounts that this process sees, in mount order.
pub(crate) fn all() -> io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read_to_string("/proc/self/mountinfo")?))
}

pub(crate) fn parse(table: &str) -> Vec<Mount> {
    table.lines().filter_map(line).collect()
}

/// The fields are: id, parent, device, root, point, options, optional fields, `-`, kind, source,
/// options of the file system.
fn line(line: &str) -> Option<Mount> {
    let (mount, system) = line.split_once(" - ")?;
    let mount: Vec<&str> = mount.split(' ').collect();
    let system: Vec<&str> = system.split(' ').collect();
    Some(Mount {
        id: (*mount.first()?).to_owned(),
        at: unescaped(mount.get(4)?),
        options: (*mount.get(5)?).to_owned(),
        kind: (*system.first()?).to_owned(),
        options_of_system: (*system.get(2)?).to_owned(),
    })
}

/// The kernel writes blanks and backslashes as `\` and three octal digits.
fn unescaped(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut pieces = text.split('\\');
    bytes.extend_from_slice(pieces.next().unwrap_or_default().as_bytes());
    for piece in pieces {
        match piece.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(code) => {
                bytes.push(code);
                bytes.extend_from_slice(&piece.as_bytes()[3..]);
            }
            None => bytes.extend_from_slice(piece.as_bytes()),
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_parsed() {
        let table = r"106 100 0:65 /a /my\040work ro,nosuid master:1 shared:2 - tmpfs none rw,size=1k
a line of another form";
        let expected = Mount {
            id: "106".to_owned(),
            at: "/my work".into(),
            options: "ro,nosuid".to_owned(),
            kind: "tmpfs".to_owned(),
            options_of_system: "rw,size=1k".to_owned(),
        };
        assert_eq!(parse(table), [expected]);
    }
}

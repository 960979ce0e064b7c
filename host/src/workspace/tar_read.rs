//! Reads a tar stream that may be hostile: one block at a time, and every length is checked before
//! it is used. Supported: ustar, GNU's long names, pax's `path`, `linkpath`, `size`.
//!
//! # Why not the `tar` crate's reader
//! It reads long names and pax headers of any size into memory, uses the last of two that disagree,
//! and accepts a stream without the end marker.

use std::io::{self, Read};

use airlock_shared::limits;
use tar::{EntryType, Header as Block};

use super::tar_write::BLOCK;

/// The largest pax header.
const PAX_BYTES: u64 = 64 << 10;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryKind {
    Folder,
    File,
    Link,
    /// A device or a fifo.
    Special,
}

/// One entry. The content of a file follows, see [`TarReader::content`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TarHeader {
    pub(super) kind: EntryKind,
    pub(super) path: Vec<u8>,
    pub(super) target: Vec<u8>,
    /// As sent, set-uid and all.
    pub(super) mode: u32,
    pub(super) size: u64,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum TarError {
    #[error("it was cut short")]
    Cut,
    #[error("it is not a tar stream that we accept: {0}")]
    Malformed(&'static str),
    #[error("it could not be read: {0}")]
    Read(io::Error),
}

pub(super) struct TarReader<R> {
    stream: R,
    /// What is left of the current entry's content; `padding` fills its last block.
    left: u64,
    padding: u64,
}

/// What comes before an entry and applies to it.
#[derive(Default)]
struct EntryPrefix {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
}

impl<R: Read> TarReader<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream, left: 0, padding: 0 }
    }

    /// The next entry. None after the end marker, when the stream has ended.
    pub(super) fn next(&mut self) -> Result<Option<TarHeader>, TarError> {
        if self.left > 0 {
            return Err(TarError::Malformed("a content was not read"));
        }
        self.skip_padding()?;
        let mut before = EntryPrefix::default();
        loop {
            let block = self.block()?;
            if block == [0; BLOCK] {
                if before.path.is_some() || before.target.is_some() || before.size.is_some() {
                    return Err(TarError::Malformed("it ends after a long name"));
                }
                return self.end().map(|()| None);
            }
            let header = Block::from_byte_slice(&block);
            let size = checked(header)?;
            match header.entry_type() {
                EntryType::GNULongName => {
                    let name = self.long_name(size, limits::PATH_BYTES)?;
                    set(&mut before.path, name)?;
                }
                EntryType::GNULongLink => {
                    let name = self.long_name(size, limits::LINK_TARGET_BYTES)?;
                    set(&mut before.target, name)?;
                }
                EntryType::XHeader => self.pax(size, &mut before)?,
                kind => return self.entry(header, kind, size, before).map(Some),
            }
        }
    }

    /// The current entry's content, whole or in part.
    pub(super) fn content(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        loop {
            return match self.stream.read(&mut buffer[..most]) {
                Ok(0) => Err(TarError::Cut),
                Ok(count) => {
                    self.left -= count as u64;
                    Ok(count)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(TarError::Read(error)),
            };
        }
    }

    fn entry(
        &mut self,
        header: &Block,
        kind: EntryType,
        size: u64,
        before: EntryPrefix,
    ) -> Result<TarHeader, TarError> {
        let kind = match kind {
            EntryType::Regular | EntryType::Continuous => EntryKind::File,
            EntryType::Directory => EntryKind::Folder,
            EntryType::Symlink => EntryKind::Link,
            EntryType::Char | EntryType::Block | EntryType::Fifo => EntryKind::Special,
            // THREAT: the sandbox sends a hard link to `../../.ssh/id_rsa`, or 8 EiB of holes in
            // one block.
            // Tried by workspace::intake::tests::what_is_not_a_file_a_folder_or_a_link_is_refused.
            EntryType::Link => return Err(TarError::Malformed("a hard link")),
            EntryType::GNUSparse => return Err(TarError::Malformed("a sparse file")),
            _ => return Err(TarError::Malformed("an entry of an unknown type")),
        };
        let size = before.size.unwrap_or(size);
        if kind != EntryKind::File && size > 0 {
            return Err(TarError::Malformed("a content on an entry that cannot have one"));
        }
        let mode = header.mode().map_err(|_| TarError::Malformed("a mode that is not a number"))?;
        let path = before.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let target = match before.target {
            Some(target) => target,
            None => header.link_name_bytes().map(|target| target.into_owned()).unwrap_or_default(),
        };
        (self.left, self.padding) = (size, filling(size));
        Ok(TarHeader { kind, path, target, mode, size })
    }

    fn long_name(&mut self, size: u64, most: usize) -> Result<Vec<u8>, TarError> {
        let mut name = self.bounded(size, most as u64 + 1, "a name that is too long")?;
        if name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    // THREAT: `path=../../x` in a pax header replaces a harmless name that was checked.
    // Tried by workspace::intake::tests::a_path_that_leaves_the_root_is_refused.
    fn pax(&mut self, size: u64, before: &mut EntryPrefix) -> Result<(), TarError> {
        let records = self.bounded(size, PAX_BYTES, "a pax header that is too long")?;
        let mut rest = records.as_slice();
        while !rest.is_empty() {
            let (key, value) =
                record(&mut rest).ok_or(TarError::Malformed("a broken pax header"))?;
            match key {
                b"path" => set(&mut before.path, value.to_vec())?,
                b"linkpath" => set(&mut before.target, value.to_vec())?,
                b"size" => {
                    let number = number(value).ok_or(TarError::Malformed("a broken size"))?;
                    set(&mut before.size, number)?;
                }
                key if key.starts_with(b"GNU.sparse") => {
                    return Err(TarError::Malformed("a sparse file"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn bounded(&mut self, size: u64, most: u64, over: &'static str) -> Result<Vec<u8>, TarError> {
        if size > most {
            return Err(TarError::Malformed(over));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        self.exactly(&mut bytes)?;
        self.padding = filling(size);
        self.skip_padding()?;
        Ok(bytes)
    }

    fn skip_padding(&mut self) -> Result<(), TarError> {
        let mut padding = [0; BLOCK];
        let count = usize::try_from(std::mem::take(&mut self.padding)).unwrap_or(0);
        self.exactly(&mut padding[..count])
    }

    /// After a second empty block only empty blocks may follow: tar writes at most twenty.
    fn end(&mut self) -> Result<(), TarError> {
        if self.block()? != [0; BLOCK] {
            return Err(TarError::Malformed("it goes on after its end"));
        }
        let mut rest = Vec::new();
        let most = 20 * BLOCK as u64;
        (&mut self.stream).take(most + 1).read_to_end(&mut rest).map_err(TarError::Read)?;
        if rest.len() as u64 > most || rest.iter().any(|byte| *byte != 0) {
            return Err(TarError::Malformed("it goes on after its end"));
        }
        Ok(())
    }

    fn block(&mut self) -> Result<[u8; BLOCK], TarError> {
        let mut block = [0; BLOCK];
        self.exactly(&mut block)?;
        Ok(block)
    }

    fn exactly(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        self.stream.read_exact(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => TarError::Cut,
            _ => TarError::Read(error),
        })
    }
}

/// The size in a header, if its checksum is right.
fn checked(header: &Block) -> Result<u64, TarError> {
    let sum = header.as_bytes().iter().enumerate();
    let sum: u32 =
        sum.map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum();
    if header.cksum().ok() != Some(sum) {
        return Err(TarError::Malformed("a wrong checksum"));
    }
    header.entry_size().map_err(|_| TarError::Malformed("a size that is not a number"))
}

fn filling(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

fn set<T>(place: &mut Option<T>, value: T) -> Result<(), TarError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(TarError::Malformed("a name or a size twice for one entry")),
    }
}

/// Takes `length key=value\n` off the front.
fn record<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let space = rest.iter().take(8).position(|byte| *byte == b' ')?;
    let length = usize::try_from(number(&rest[..space])?).ok()?;
    let record = rest.get(space + 1..length)?.strip_suffix(b"\n")?;
    *rest = &rest[length..];
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..]))
}

fn number(digits: &[u8]) -> Option<u64> {
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    plain.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

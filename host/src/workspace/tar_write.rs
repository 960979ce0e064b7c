//! Writes a tar stream: folders, regular files and links, names of any bytes and length. No
//! owner, no device, no time finer than a second.

use std::io::{self, Write};

use tar::{EntryType, Header};

/// The unit of a tar stream.
pub(super) const BLOCK: usize = 512;

/// One entry's head; the content of a file follows, then [`pad`].
pub(super) struct TarEntry<'a> {
    pub(super) kind: EntryType,
    pub(super) path: &'a [u8],
    pub(super) target: &'a [u8],
    pub(super) mode: u32,
    pub(super) mtime: i64,
    pub(super) size: u64,
}

pub(super) fn head(out: &mut impl Write, entry: &TarEntry<'_>) -> io::Result<()> {
    let mut header = Header::new_gnu();
    let old = header.as_old_mut();
    for (field, bytes, long) in [
        (&mut old.name, entry.path, EntryType::GNULongName),
        (&mut old.linkname, entry.target, EntryType::GNULongLink),
    ] {
        if bytes.len() > field.len() {
            long_name(out, long, bytes)?;
        }
        let fits = bytes.len().min(field.len());
        field[..fits].copy_from_slice(&bytes[..fits]);
    }
    header.set_entry_type(entry.kind);
    header.set_mode(entry.mode);
    header.set_mtime(u64::try_from(entry.mtime).unwrap_or(0));
    header.set_size(entry.size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    out.write_all(header.as_bytes())
}

/// A name that does not fit its field goes before the entry, as GNU's tar writes it.
fn long_name(out: &mut impl Write, kind: EntryType, name: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    let field = &mut header.as_old_mut().name;
    field[..13].copy_from_slice(b"././@LongLink");
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(name.len() as u64 + 1);
    header.set_cksum();
    out.write_all(header.as_bytes())?;
    out.write_all(name)?;
    out.write_all(&[0])?;
    pad(out, name.len() as u64 + 1)
}

/// Fills the last block of a content.
pub(super) fn pad(out: &mut impl Write, size: u64) -> io::Result<()> {
    let over = (size % BLOCK as u64) as usize;
    if over == 0 { Ok(()) } else { out.write_all(&[0; BLOCK][over..]) }
}

/// The end of the stream.
pub(super) fn end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

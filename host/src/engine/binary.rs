//! The sandbox's binary, as the build script made it: part of this very file, so that there is one
//! thing to install and the two halves cannot drift apart.

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The static binary.
pub static SANDBOX: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/airlock-sandbox"));

/// Its SHA-256, in lower-case hexadecimal.
pub const SANDBOX_SHA256: &str = env!("AIRLOCK_SANDBOX_SHA256");

/// Writes the binary out, executable, for hosts that are not ours. A file that is there is
/// replaced as a whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn extract(file: &Path) -> io::Result<()> {
    use std::io::Write;
    let folder = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut staged =
        tempfile::Builder::new().prefix(".airlock-sandbox-").make_in(folder, |path| {
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(path)
        })?;
    staged.write_all(SANDBOX)?;
    staged.as_file().sync_all()?;
    staged.persist(file).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_extracted_is_what_is_carried() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sandbox");
        std::fs::write(&file, "older").unwrap();
        extract(&file).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), SANDBOX);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o111, 0o111);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_digest_is_the_binarys() {
        use sha2::{Digest, Sha256};
        let digest: String = Sha256::digest(SANDBOX).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(digest, SANDBOX_SHA256);
    }
}

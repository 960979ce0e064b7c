//! The sandbox's binary, as the build script made it. It is part of the host's binary, so that there
//! is one file to install, and host and sandbox always match.

/// The static binary.
pub static SANDBOX: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/airlock-sandbox"));

/// Its SHA-256, in lower-case hexadecimal.
pub const SANDBOX_SHA256: &str = env!("AIRLOCK_SANDBOX_SHA256");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_the_binarys() {
        use sha2::{Digest, Sha256};
        let digest: String = Sha256::digest(SANDBOX).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(digest, SANDBOX_SHA256);
    }
}

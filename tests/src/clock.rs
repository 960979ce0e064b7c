//! The one place of the rig that reads clocks: tests measure real processes, and an issuer dates
//! what it signs.

use std::time::Instant;

/// Now.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the rig measures other processes: its one clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// Unix seconds, now.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the issuer dates its tokens by the wall clock")]
pub fn unix() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

//! The one place of the rig that reads a clock: tests measure real processes.

use std::time::Instant;

/// Now.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the rig measures other processes: its one clock")]
pub fn now() -> Instant {
    Instant::now()
}

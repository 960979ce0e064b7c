//! The one place that asks the system for the time. Everything below the command line takes the
//! time as an argument, so that a test can say what time it is.

use jiff::Timestamp;

/// Now, to the second: nothing of ours is recorded more finely.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default()
}

/// The same as seconds since 1970.
#[must_use]
pub fn seconds() -> u64 {
    u64::try_from(now().as_second()).unwrap_or_default()
}

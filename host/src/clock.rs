//! The only place that reads the system's clock. Everything below the command line takes the time
//! as an argument, so that tests can set it.

use jiff::Timestamp;

/// Now, in whole seconds: records have no finer times.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default()
}

/// The same as seconds since 1970.
#[must_use]
pub fn seconds() -> u64 {
    u64::try_from(now().as_second()).unwrap_or_default()
}

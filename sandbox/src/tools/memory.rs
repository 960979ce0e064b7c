//! Whether the kernel killed a process because memory ran out while a command ran. This is known
//! from the container's counters: `memory.events` of cgroup v2, `memory.oom_control` of v1. Without
//! them nothing is known.

use std::path::Path;

/// The files with the counter and with the limit: of v2, then of v1.
const PLACES: [(&str, &str); 2] = [
    ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory.max"),
    ("/sys/fs/cgroup/memory/memory.oom_control", "/sys/fs/cgroup/memory/memory.limit_in_bytes"),
];

/// The counter as it was before the command.
pub(super) struct OomCounter(Option<Counter>);

struct Counter {
    kills: &'static str,
    limit: &'static str,
    before: u64,
}

impl OomCounter {
    pub(super) fn begin() -> Self {
        let counter = |(kills, limit): (&'static str, &'static str)| {
            Some(Counter { kills, limit, before: killed(&read(kills)?)? })
        };
        Self(PLACES.into_iter().find_map(counter))
    }

    /// The message if the kernel killed something since.
    pub(super) fn message(&self) -> Option<String> {
        let Counter { kills, limit, before } = self.0.as_ref()?;
        let count = killed(&read(kills)?)?.checked_sub(*before)?;
        // This is the usual case, and reading the limit costs another file.
        if count == 0 {
            return None;
        }
        Some(message(count, read(limit)?.trim().parse().ok()))
    }
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(Path::new(path)).ok()
}

/// The counter. Both files have this line.
fn killed(text: &str) -> Option<u64> {
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
    count.trim().parse().ok()
}

fn message(count: u64, limit: Option<u64>) -> String {
    let what = match count {
        1 => "killed".to_owned(),
        count => format!("{count} processes killed"),
    };
    let limit = limit.map(|bytes| format!(" of {} MiB", bytes >> 20)).unwrap_or_default();
    format!("{what}: the container's memory limit{limit} was reached")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_cgroup_versions_are_read() {
        let v1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n";
        let v2 = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n";
        assert_eq!((killed(v1), killed(v2), killed("")), (Some(7), Some(2), None));
        assert_eq!(
            message(1, Some(256 << 20)),
            "killed: the container's memory limit of 256 MiB was reached"
        );
        assert_eq!(
            message(3, None),
            "3 processes killed: the container's memory limit was reached"
        );
    }
}

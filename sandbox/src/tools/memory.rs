//! Whether the kernel ended something for want of memory while a command ran, by the container's own
//! counters: `memory.events` of cgroup v2, `memory.oom_control` of v1. Elsewhere nothing is known.

use std::path::Path;

/// What counts what was ended, and what says how much there is: v2, then v1.
const PLACES: [(&str, &str); 2] = [
    ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory.max"),
    ("/sys/fs/cgroup/memory/memory.oom_control", "/sys/fs/cgroup/memory/memory.limit_in_bytes"),
];

/// The counter as it stood.
pub(super) struct OomCounter(Option<Counter>);

struct Counter {
    kills: &'static str,
    limit: &'static str,
    before: u64,
}

impl OomCounter {
    pub(super) fn begin() -> Self {
        let there = |(kills, limit): (&'static str, &'static str)| {
            Some(Counter { kills, limit, before: killed(&read(kills)?)? })
        };
        Self(PLACES.into_iter().find_map(there))
    }

    /// What is to be said if the kernel ended something since.
    pub(super) fn ran_out(&self) -> Option<String> {
        let Counter { kills, limit, before } = self.0.as_ref()?;
        let count = killed(&read(kills)?)?.checked_sub(*before)?;
        // Nearly always: what the limit is costs another file.
        if count == 0 {
            return None;
        }
        Some(said(count, read(limit)?.trim().parse().ok()))
    }
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(Path::new(path)).ok()
}

/// Both files have a line for it.
fn killed(text: &str) -> Option<u64> {
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
    count.trim().parse().ok()
}

fn said(count: u64, limit: Option<u64>) -> String {
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
    fn both_kernels_are_read() {
        let v1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n";
        let v2 = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n";
        assert_eq!((killed(v1), killed(v2), killed("")), (Some(7), Some(2), None));
        assert_eq!(
            said(1, Some(256 << 20)),
            "killed: the container's memory limit of 256 MiB was reached"
        );
        assert_eq!(said(3, None), "3 processes killed: the container's memory limit was reached");
    }
}

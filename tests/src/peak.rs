//! How much memory a process ever had.

use std::time::Duration;

use tokio::task::JoinHandle;

/// Watches a process to its end. The kernel keeps the number, so that a short peak is seen too.
///
/// # Panics
/// When it was not seen once.
#[must_use]
pub fn watch(pid: u32) -> JoinHandle<u64> {
    tokio::spawn(async move {
        let mut most = 0;
        while let Some(now) = of(&pid.to_string()) {
            most = most.max(now);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(most > 0, "blind: the process had ended before it was looked at");
        most
    })
}

/// The most bytes a process ever had resident; none once it has ended.
#[must_use]
pub fn of(pid: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

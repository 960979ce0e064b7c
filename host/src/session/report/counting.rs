//! Progress while a large directory is counted.

use std::time::Duration;

use tokio::time::Instant;

use crate::text;
use crate::workspace::Counted;

/// When progress is reported first, and how often after that.
const FIRST_REPORT: Duration = Duration::from_secs(2);
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Calls `say` at these times.
pub(super) fn counting(mut say: impl FnMut(String)) -> impl FnMut(Counted) {
    let mut due = Instant::now() + FIRST_REPORT;
    move |counted| {
        if Instant::now() < due {
            return;
        }
        due = Instant::now() + REPORT_INTERVAL;
        let (entries, bytes) = (text::thousands(counted.entries), text::bytes(counted.bytes));
        say(format!("the directory is still being counted: {entries} entries, {bytes} so far"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No report for a directory that is counted quickly; for others, one every ten seconds.
    #[tokio::test(start_paused = true)]
    async fn progress_is_reported_only_while_counting_takes_long() {
        let mut reports = Vec::new();
        let mut report = counting(|text| reports.push(text));
        for second in 0..30 {
            report(Counted { entries: second * 1_000, bytes: second << 20, is_all: false });
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        drop(report);
        let so_far = |what: &str| format!("the directory is still being counted: {what} so far");
        let expected = [
            so_far("2,000 entries, 2.0 MB"),
            so_far("12,000 entries, 12.5 MB"),
            so_far("22,000 entries, 23.0 MB"),
        ];
        assert_eq!(reports, expected);
    }
}

//! A directory that takes long to count: that it is counted is said now and then.

use std::time::Duration;

use tokio::time::Instant;

use crate::text;
use crate::workspace::Counted;

/// How long a directory is counted before that is said, and how often from then on.
const COUNTING_FIRST: Duration = Duration::from_secs(2);
const COUNTING: Duration = Duration::from_secs(10);

/// Tells it first after a while, and then now and then.
pub(super) fn counting(mut say: impl FnMut(String)) -> impl FnMut(Counted) {
    let mut due = Instant::now() + COUNTING_FIRST;
    move |counted| {
        if Instant::now() < due {
            return;
        }
        due = Instant::now() + COUNTING;
        let (entries, bytes) = (text::thousands(counted.entries), text::bytes(counted.bytes));
        say(format!("the directory is being looked through: {entries} entries, {bytes} so far"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that is counted soon is not spoken of, and one that is not is now and then.
    #[tokio::test(start_paused = true)]
    async fn a_directory_that_takes_long_to_count_is_told_now_and_then() {
        let mut said = Vec::new();
        let mut tell = counting(|text| said.push(text));
        for second in 0..30 {
            tell(Counted { entries: second * 1_000, bytes: second << 20, is_all: false });
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        drop(tell);
        let so_far = |what: &str| format!("the directory is being looked through: {what} so far");
        let expected = [
            so_far("2,000 entries, 2.0 MB"),
            so_far("12,000 entries, 12.5 MB"),
            so_far("22,000 entries, 23.0 MB"),
        ];
        assert_eq!(said, expected);
    }
}

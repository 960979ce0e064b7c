//! Plain mode: our host is not on the pipe, so events are printed to stdout, one JSON line each,
//! the outcome last.

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::stdio::Output;

/// Prints until the last reporter is gone, or until stdout is closed.
pub(crate) async fn print(mut lines: mpsc::Receiver<Bytes>, mut output: Output) {
    while let Some(line) = lines.recv().await {
        let printed = output.write_all(&line).await;
        if printed.is_err() || output.flush().await.is_err() {
            return;
        }
    }
}

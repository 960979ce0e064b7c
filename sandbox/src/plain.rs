//! Plain mode: no host of ours is on the pipe, so what happens is printed on stdout, one JSON line
//! an event, the outcome last.

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::stdio::Output;

/// Prints until the last reporter is gone. A reader that went away ends the printing, and with it
/// everybody who still has something to say goes on unheard.
pub(crate) async fn print(mut lines: mpsc::Receiver<Bytes>, mut output: Output) {
    while let Some(line) = lines.recv().await {
        let printed = output.write_all(&line).await;
        if printed.is_err() || output.flush().await.is_err() {
            return;
        }
    }
}

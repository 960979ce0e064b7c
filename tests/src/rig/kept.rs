//! What `airlock` says of a run that is over: its record, its changes, what of them was applied.

use serde_json::Value;

use super::Ran;

/// A command that has ended.
#[derive(Clone, Debug)]
pub struct Said {
    pub exit: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// `airlock NAME RUN FLAGS…`, in the same home.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn airlock(&self, name: &str, flags: &[&str]) -> Said {
        let mut command = self.rig.command(name).await;
        let ended = command.arg(self.id()).args(flags).output().await;
        let ended = ended.expect("airlock can be started");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { exit: ended.status.code(), stdout: text(&ended.stdout), stderr: text(&ended.stderr) }
    }

    /// The record, as `airlock show --json` prints it.
    ///
    /// # Panics
    /// When there is none.
    pub async fn record(&self) -> Value {
        let said = self.airlock("show", &["--json"]).await;
        serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("no record: {said:#?}"))
    }
}

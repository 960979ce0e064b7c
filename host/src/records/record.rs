//! The record of a session: its login, its model and limits, and how it ended. It is replaced as a
//! whole, so a reader never sees half a record.

use airlock_shared::outcome::Outcome;
use airlock_shared::stream::Usage;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The version of the format. A later release may add fields; readers ignore fields that they do
/// not know.
pub const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub v: u32,
    pub session: String,
    #[serde(with = "rfc3339")]
    pub started: Timestamp,
    /// The beginning of the prompt.
    #[serde(default)]
    pub prompt: String,
    /// How long it took, in milliseconds.
    #[serde(default)]
    pub ms: u64,
    /// None: it is still running, or it was killed; the lock tells which.
    #[serde(default, with = "rfc3339_or_none")]
    pub ended: Option<Timestamp>,
    #[serde(default)]
    pub login: LoginRecord,
    /// The resolved base URL of the backend.
    #[serde(default)]
    pub base: String,
    #[serde(default)]
    pub model: String,
    #[serde(default)]
    pub effort: Option<String>,
    /// `relay` or `handoff`.
    #[serde(default)]
    pub credentials: String,
    #[serde(default)]
    pub image: ImageRecord,
    #[serde(default)]
    pub limits: LimitsRecord,
    /// Limits and protections that the engine cannot hold, each as a sentence.
    #[serde(default)]
    pub waivers: Vec<String>,
    #[serde(default)]
    pub usage: Usage,
    /// Some of the usage is an estimate from the traffic.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
    /// Model requests that the backend answered or the sandbox gave up.
    #[serde(default)]
    pub steps: u32,
    #[serde(default)]
    pub outcome: Option<Outcome>,
    #[serde(default)]
    pub workspace: WorkspaceRecord,
    #[serde(default)]
    pub changes: ChangesRecord,
    /// The exit code.
    #[serde(default)]
    pub exit: Option<u8>,
}

/// The login that was used. It has no secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoginRecord {
    pub name: String,
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageRecord {
    pub name: String,
    /// Its digest, or its id if it has no digest.
    pub digest: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitsRecord {
    pub steps: u32,
    pub tokens: u64,
    pub seconds: u64,
    pub memory_bytes: u64,
    pub cpus: f64,
    pub pids: u32,
    pub disk_bytes: u64,
    /// `tmpfs` or `engine`.
    pub disk_on: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkspaceRecord {
    pub path: String,
    pub mode: TreeMode,
    pub entries: u64,
    pub bytes: u64,
    /// How many paths were left out.
    pub left_out: u64,
    /// Files that commands left in a live directory and that may run by themselves on the host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<Trigger>,
}

/// How the sandbox got the directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TreeMode {
    #[default]
    Copy,
    /// The directory itself.
    Live,
}

/// A file in a live directory that may run by itself on the host, and is new or has changed. A
/// person should read it before git or anything else runs there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    pub path: String,
    /// For people: what it is, and whether it is new or changed.
    pub what: String,
}

/// The state of the changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ChangesRecord {
    /// Nothing changed, or the agent never began.
    #[default]
    None,
    /// They wait for `apply` or `discard`.
    Kept {
        files: u64,
        held: u64,
        /// Why they are not all of the changes, if some are missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// The sandbox did not send them.
    Lost {
        why: String,
    },
    Applied {
        #[serde(with = "rfc3339")]
        at: Timestamp,
    },
    Discarded,
}

impl Record {
    /// A session that has just begun. All other fields are set later.
    #[must_use]
    pub fn begun(session: &str, started: Timestamp) -> Self {
        Self {
            v: VERSION,
            session: session.to_owned(),
            started,
            prompt: String::new(),
            ms: 0,
            ended: None,
            login: LoginRecord::default(),
            base: String::new(),
            model: String::new(),
            effort: None,
            credentials: String::new(),
            image: ImageRecord::default(),
            limits: LimitsRecord::default(),
            waivers: Vec::new(),
            usage: Usage::default(),
            estimated: false,
            steps: 0,
            outcome: None,
            workspace: WorkspaceRecord::default(),
            changes: ChangesRecord::default(),
            exit: None,
        }
    }
}

mod rfc3339 {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(time)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

pub(crate) mod rfc3339_or_none {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => to.collect_str(time),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_a_later_release_is_read() {
        let time: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let mut record = Record::begun("ab", time);
        record.ended = Some(time);
        record.changes = ChangesRecord::Applied { at: time };
        let mut json = serde_json::to_value(&record).unwrap();
        assert_eq!(json["started"], "2026-11-21T10:00:00Z");
        json["later_field"] = "x".into();
        assert_eq!(serde_json::from_value::<Record>(json).unwrap(), record);
        let least = r#"{"v":1,"session":"ab","started":"2026-11-21T10:00:00Z"}"#;
        let least: Record = serde_json::from_str(least).unwrap();
        assert_eq!(least, Record::begun("ab", time));
    }
}

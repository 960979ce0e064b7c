//! The record of a run: who paid, what ran under which limits, and how it ended. It is replaced
//! whole, so a reader sees the record of some moment and never half of one.

use airlock_shared::outcome::Outcome;
use airlock_shared::stream::Usage;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The form of a record. A later one may have more fields; readers pass over what they do not
/// know.
pub const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub v: u32,
    pub session: String,
    #[serde(with = "rfc3339")]
    pub started: Timestamp,
    /// What was asked for, its beginning.
    #[serde(default)]
    pub prompt: String,
    /// How long it took.
    #[serde(default)]
    pub ms: u64,
    /// None: it goes on, or was killed; the lock knows.
    #[serde(default, with = "rfc3339_or_none")]
    pub ended: Option<Timestamp>,
    #[serde(default)]
    pub login: LoginRecord,
    /// Where the model was asked, resolved.
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
    /// What the engine could not hold and the user let pass, in words.
    #[serde(default)]
    pub waivers: Vec<String>,
    #[serde(default)]
    pub usage: Usage,
    /// Some of the usage is estimated by what passed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
    /// Model requests that were answered, or given up by the sandbox.
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

/// Who paid; nothing of it is secret.
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
    /// Its digest, or its id where it never had one.
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
    /// How many paths stayed at home.
    pub left_out: u64,
    /// What commands left in a live tree that acts by itself on the host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<Trigger>,
}

/// What of the directory the sandbox had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TreeMode {
    #[default]
    Copy,
    /// The directory itself.
    Live,
}

/// Something in a live tree that acts by itself on the host, and did not, or otherwise, before:
/// to be looked at before git, or anything, runs there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    pub path: String,
    /// In words: what it is, and what became of it.
    pub what: String,
}

/// What became of the changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ChangesRecord {
    /// Nothing changed, or nothing could have been.
    #[default]
    None,
    /// They wait for `apply` or `discard`.
    Kept {
        files: u64,
        held: u64,
        /// What a person must know where they are not all of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// They never came out of the sandbox.
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
    /// A run that has just begun; everything else is filled in as it becomes known.
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
        json["mood"] = "good".into();
        assert_eq!(serde_json::from_value::<Record>(json).unwrap(), record);
        let least = r#"{"v":1,"session":"ab","started":"2026-11-21T10:00:00Z"}"#;
        let least: Record = serde_json::from_str(least).unwrap();
        assert_eq!(least, Record::begun("ab", time));
    }
}

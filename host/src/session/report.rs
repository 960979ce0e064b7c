//! Reports a session: numbers its events, writes them to disk and shows them; writes its record.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use airlock_shared::event::Event;
use airlock_shared::outcome::{Fault, FaultKind, Outcome};
use airlock_shared::scrub::Needles;
use airlock_shared::stream::Usage;
use tokio::time::Instant;

use super::credentials::{Credentials, remedy};
use super::public::{self, EventLine, OutcomeEvent, PublicEvent};
use super::settings::CredentialChoice::Login;
use super::settings::{CredentialsMode, SessionSettings, WorkspaceMode};
use super::{HostContext, SessionError, Stop};
use crate::auth::Signer;
use crate::clock;
use crate::engine::docker::ResolvedImage;
use crate::engine::{ContainerSpec, Waiver};
use crate::exit::Exit;
use crate::gate;
use crate::records::{
    EventLog, LimitsRecord, LoginRecord, Record, SessionFolder, TreeMode, WorkspaceRecord,
};
use crate::workspace::{CopySummary, Counted, LeftOutReason};

mod changes; // the state of the changes, and their lines
mod counting; // progress while a large directory is counted
mod stored_key; // the command that stores a refused key again

use stored_key::key_again;

pub use changes::{changes_event, changes_state, list_held_and_triggers};

/// Gets every public line, in order.
pub type EventSink<'a> = &'a mut (dyn FnMut(&EventLine) + Send);

/// A session that is over.
pub struct EndedSession {
    pub session: String,
    pub outcome: Outcome,
    pub exit: Exit,
    pub changes: public::ChangesAre,
    /// Whether the agent began, which means that it asked the model.
    pub began: bool,
    /// The command that helps, if one is known.
    pub hint: Option<String>,
}

pub(super) struct Report<'a> {
    folder: SessionFolder,
    log: Option<EventLog>,
    record: Record,
    began: Instant,
    lines: u64,
    /// Requests and usage as the sandbox reports them. Used only if the host cannot count itself.
    requests: u32,
    usage: Usage,
    /// The agent asked the model. Before that, it cannot have changed anything.
    has_begun: bool,
    show: EventSink<'a>,
    /// The command for a sign-in fault, unless a stored key must be given again.
    remedy: String,
    /// The `doctor` command for this session's backend.
    doctor: String,
    /// Knows the secrets that must not appear in events and records.
    signer: Option<Arc<dyn Signer>>,
    sought: gate::Sought,
    /// The directory and the name of the login that is used.
    login: Option<(PathBuf, String)>,
}

impl<'a> Report<'a> {
    pub(super) fn open(
        context: &HostContext,
        settings: &SessionSettings,
        show: EventSink<'a>,
    ) -> Result<Self, Fault> {
        let unwritable = |error: std::io::Error| {
            let folder = context.store.folder().display();
            Fault::new(FaultKind::Workspace, format!("{folder} cannot be written: {error}"))
        };
        let folder = context.store.create_session().map_err(unwritable)?;
        let log = folder.events().map_err(unwritable)?;
        let mut record = Record::begun(folder.id(), clock::now());
        record.prompt = public::truncate(&settings.prompt, public::LINE_BYTES).0;
        record.credentials = settings.credentials.to_string();
        record.limits = LimitsRecord {
            steps: settings.budget.steps,
            tokens: settings.budget.tokens,
            seconds: settings.budget.seconds,
            memory_bytes: settings.limits.memory,
            cpus: settings.limits.cpus,
            pids: settings.limits.pids,
            disk_bytes: settings.limits.disk,
            disk_on: settings.limits.disk_on.to_string(),
        };
        record.workspace = WorkspaceRecord {
            path: settings.dir.display().to_string(),
            mode: match settings.workspace {
                WorkspaceMode::Live => TreeMode::Live,
                WorkspaceMode::Copy { .. } => TreeMode::Copy,
            },
            ..WorkspaceRecord::default()
        };
        folder.begin_record(&record).map_err(unwritable)?;
        let (log, remedy) = (Some(log), remedy(&settings.credential));
        let login = match &settings.credential {
            Login(name) => Some((context.logins.clone(), name.clone())),
            _ => None,
        };
        let began = Instant::now();
        Ok(Self {
            folder,
            log,
            record,
            began,
            lines: 0,
            requests: 0,
            usage: Usage::default(),
            has_begun: false,
            show,
            remedy,
            doctor: settings.doctor(),
            signer: None,
            sought: gate::Sought::default(),
            login,
        })
    }

    pub(super) fn folder(&self) -> &SessionFolder {
        &self.folder
    }

    pub(super) fn session(&self) -> &str {
        self.folder.id()
    }

    /// Sends an event to the caller and to the log, without secrets.
    ///
    /// THREAT: a command names a file after the key, or a line of ours quotes the sandbox, and the
    /// key is printed with `--json` and stored. Tried by
    /// `session::report::tests::no_line_and_no_record_holds_the_credential`.
    pub(super) fn emit(&mut self, what: PublicEvent) {
        let note = || PublicEvent::Note { text: gate::NOT_SHOWN.to_owned(), by: public::By::Host };
        let what = gate::clean(&self.needles(), what).unwrap_or_else(|_| note());
        self.lines += 1;
        let line = EventLine::new(self.lines, self.folder.id(), self.elapsed_ms(), what);
        let logged = self.log.as_mut().map_or(Ok(()), |log| log.add(&line));
        (self.show)(&line);
        // If the log cannot be written it ends here; events are still shown.
        if let Err(error) = logged {
            self.log = None;
            self.note_unsaved("events", &error);
        }
    }

    fn needles(&mut self) -> Needles {
        let secrets =
            self.signer.as_ref().map(|signer| signer.secrets_to_scrub()).unwrap_or_default();
        self.sought.texts(secrets)
    }

    /// Writes a record without secrets, and returns it so.
    fn write(&mut self, record: Record) -> std::io::Result<Record> {
        let record = gate::clean(&self.needles(), record)?;
        self.folder.write_record(&record)?;
        Ok(record)
    }

    /// Says that something cannot be saved, and why.
    fn note_unsaved(&mut self, what: &str, error: &std::io::Error) {
        let folder = self.folder.path().display();
        let why = match error.kind() {
            std::io::ErrorKind::StorageFull => format!("there is no space left in {folder}"),
            _ => format!("{folder} cannot be written: {error}"),
        };
        self.note(format!("the {what} of this session cannot be saved: {why}"));
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn note(&mut self, text: impl Into<String>) {
        let text = self.scrub(text.into());
        self.emit(PublicEvent::Note { text, by: public::By::Host });
    }

    /// Removes secrets from a message, which may quote the engine, the sandbox or the backend.
    fn scrub(&self, text: String) -> String {
        let Some(signer) = &self.signer else { return text };
        Needles::for_messages(&signer.secrets_to_scrub()).text(&text).into_owned()
    }

    /// The outcome without secrets in its message.
    fn scrubbed(&self, outcome: &Outcome) -> Outcome {
        match outcome.clone() {
            Outcome::Failed { fault: Fault { kind, message } } => {
                Outcome::Failed { fault: Fault::new(kind, self.scrub(message)) }
            }
            other => other,
        }
    }

    /// Handles an event of the sandbox.
    pub(super) fn on_event(&mut self, event: &Event) {
        self.has_begun |= matches!(event, Event::Request { .. } | Event::CallStarted { .. });
        match event {
            Event::Request { n } => self.requests = self.requests.max(*n),
            Event::Usage { usage } => self.usage += *usage,
            _ => {}
        }
        if let Some(public) = PublicEvent::of_hearsay(event) {
            self.emit(public);
        }
    }

    pub(super) fn add_waivers(&mut self, terms: &ContainerSpec) {
        self.record.waivers = terms.waivers().iter().map(|it| it.as_str().to_owned()).collect();
    }

    /// Adds what the engine cannot show of the container.
    pub(super) fn add_unchecked(&mut self, waivers: &[Waiver]) {
        self.record.waivers.extend(waivers.iter().map(|it| it.as_str().to_owned()));
    }

    pub(super) fn started(
        &mut self,
        settings: &SessionSettings,
        credentials: &Credentials,
        image: &ResolvedImage,
    ) {
        self.signer = credentials.signer();
        self.record.prompt = self.scrub(self.record.prompt.clone());
        let login = public::LoginEvent {
            name: credentials.login.name.clone(),
            kind: credentials.login.kind.as_str().to_owned(),
            plan: credentials.login.plan.clone(),
            base: credentials.base.to_string(),
        };
        let record = &mut self.record;
        record.login = LoginRecord {
            name: login.name.clone(),
            kind: login.kind.clone(),
            plan: login.plan.clone(),
        };
        record.base.clone_from(&login.base);
        record.model.clone_from(&credentials.model.slug);
        record.effort.clone_from(&credentials.model.effort);
        record.image.name.clone_from(&image.name);
        record.image.digest.clone_from(&image.digest);
        let started = public::Started {
            login,
            model: credentials.model.slug.clone(),
            effort: credentials.model.effort.clone(),
            credentials: settings.credentials.to_string(),
            image: public::Image { name: image.name.clone(), digest: image.digest.clone() },
            network: "none".to_owned(),
            live: settings.workspace == WorkspaceMode::Live,
            budget: settings.budget,
            limits: public::Limits {
                memory: settings.limits.memory,
                cpus: settings.limits.cpus,
                pids: settings.limits.pids,
                disk: settings.limits.disk,
                disk_on: settings.limits.disk_on.to_string(),
            },
            waivers: record.waivers.clone(),
        };
        self.emit(PublicEvent::Started(started));
    }

    /// Reports progress while a large directory is counted.
    pub(super) fn counting(&mut self) -> impl FnMut(Counted) {
        counting::counting(|text| self.note(text))
    }

    pub(super) fn copied(&mut self, copied: &CopySummary) {
        let record = &mut self.record.workspace;
        (record.entries, record.bytes) = (copied.entries, copied.bytes);
        let count = |why: LeftOutReason| copied.left_out_count.get(&why).copied().unwrap_or(0);
        record.left_out = copied.left_out_count.values().sum();
        let is_shown =
            |why: LeftOutReason| why != LeftOutReason::Git && why != LeftOutReason::Special;
        let named = || copied.left_out.iter().filter(|left| is_shown(left.why)).take(public::LIST);
        let counts = copied.left_out_count.iter().filter(|(why, _)| is_shown(**why));
        let by_reason = counts.map(|(why, count)| {
            let paths = named().filter(|left| left.why == *why);
            let paths = paths.map(|left| left.path.to_string()).collect();
            (why.as_str().to_owned(), public::LeftOutFor { count: *count, paths })
        });
        let left_out_why: BTreeMap<_, _> = by_reason.collect();
        let workspace = public::Workspace {
            dir: record.path.clone(),
            files: copied.files,
            bytes: copied.bytes,
            git: copied.git,
            live: false,
            left_out: named().map(|left| left.path.to_string()).collect(),
            left_out_count: left_out_why.values().map(|left| left.count).sum(),
            left_out_why,
            special: count(LeftOutReason::Special),
        };
        self.emit(PublicEvent::Workspace(workspace));
    }

    /// Files in a live directory that may run by themselves. The outcome is saved by now.
    pub(super) fn triggers(&mut self, found: Vec<crate::records::Trigger>) {
        if found.is_empty() {
            return;
        }
        let more = found.len().saturating_sub(public::LIST) as u64;
        self.record.workspace.triggers = found.iter().take(public::LIST).cloned().collect();
        if let Err(error) = self.write(self.record.clone()) {
            tracing::error!(%error, "the record of this session cannot be written");
        }
        let list = self.record.workspace.triggers.clone();
        self.emit(PublicEvent::Triggers { list, more });
    }

    /// Sets the usage: as the host counted it in relay, as the sandbox reports it in handoff.
    pub(super) fn set_usage(&mut self, credentials: CredentialsMode, used: gate::Spending) {
        let (steps, usage) = match credentials {
            CredentialsMode::Relay => (used.steps, used.usage),
            CredentialsMode::Handoff => (self.requests, self.usage),
        };
        self.has_begun |= used.steps > 0;
        (self.record.steps, self.record.usage) = (steps, usage);
        self.record.estimated = used.estimated;
    }

    /// Puts the outcome on disk. After it only [`Report::finish`] follows.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn save(&mut self, outcome: &Outcome, exit: Exit) -> std::io::Result<()> {
        let mut record = self.record.clone();
        record.outcome = Some(self.scrubbed(outcome));
        record.exit = Some(exit.code());
        record.ended = Some(clock::now());
        record.ms = self.elapsed_ms();
        // Lost events are no error: only the record says how the turn ended.
        if self.log.as_mut().is_some_and(|log| log.sync().is_err()) {
            tracing::warn!("the last events of this session may not be on disk");
        }
        self.record = self.write(record)?;
        Ok(())
    }

    /// Whether the outcome is on disk.
    pub(super) fn is_saved(&self) -> bool {
        self.record.outcome.is_some()
    }

    /// Reports the end. The container is gone by now.
    pub(super) fn finish(
        mut self,
        ended: Result<Outcome, SessionError>,
        stop: &Stop,
    ) -> EndedSession {
        let (outcome, hint) = match ended {
            Ok(outcome) => (outcome, None),
            Err(SessionError { fault, hint }) => (Outcome::Failed { fault }, hint),
        };
        let outcome = self.scrubbed(&outcome);
        let kind = match &outcome {
            Outcome::Failed { fault } => Some(fault.kind),
            _ => None,
        };
        let hint = hint.or_else(|| match kind {
            Some(FaultKind::SignIn) => {
                let again = |(folder, name): &(PathBuf, String)| key_again(folder, name);
                Some(self.login.as_ref().and_then(again).unwrap_or_else(|| self.remedy.clone()))
            }
            Some(FaultKind::Backend) => Some(self.doctor.clone()),
            _ => None,
        });
        let exit = stop.exit_of(&outcome);
        if self.record.outcome.as_ref() != Some(&outcome)
            && let Err(error) = self.save(&outcome, exit)
        {
            self.note_unsaved("record", &error);
        }
        let began = self.record.steps > 0;
        let changes = changes_state(&self.record.changes, self.record.workspace.mode, began);
        let last = OutcomeEvent::of(&outcome, exit, self.record.steps, self.record.usage, changes);
        let last = OutcomeEvent { estimated: self.record.estimated, ..last };
        self.emit(PublicEvent::Outcome(last));
        EndedSession { session: self.folder.id().to_owned(), outcome, exit, changes, began, hint }
    }
}

#[cfg(test)]
mod tests;

//! The work of one session: work tree in, turn, changes out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use airlock_shared::base::Base;
use airlock_shared::event::Event;
use airlock_shared::handoff::CredentialsPlace;
use airlock_shared::job::Job;
use airlock_shared::outcome::{Fault, FaultKind, Outcome, Spent, Stop};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{choice, repository};
use crate::agent::{BudgetLedger, History, ToolRunner, Turn, prompt};
use crate::files::{self, NotThere, UnpackResult};
use crate::keep::{ChangesKeeper, InterimChanges, is_danger};
use crate::link::Link;
use crate::report::Report;
use crate::responses::{Client, Connector, Credentials, ModelRoute, Network};
use crate::scrub::Scrub;
use crate::tools::Toolbox;

pub(super) struct Session {
    pub(super) job: Job,
    pub(super) report: Report,
    pub(super) scrub: Scrub,
    pub(super) cancel: CancellationToken,
    pub(super) deadline: Instant,
    pub(super) link: Option<Link>,
}

impl Session {
    /// Work tree in, turn, changes out.
    pub(super) async fn work(self, way: CredentialsPlace, credentials: Credentials) -> Outcome {
        let mut keeper = None;
        let prepared = tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Outcome::Stopped { reason: Stop::Cancelled, answer: None }),
            () = tokio::time::sleep_until(self.deadline) => {
                Err(Outcome::Stopped { reason: Stop::Budget { spent: Spent::Seconds }, answer: None })
            }
            prepared = self.prepare(way, credentials, &mut keeper) => {
                prepared.map_err(|fault| Outcome::Failed { fault })
            }
        };
        let outcome = match prepared {
            Ok(turn) => turn.run().await,
            Err(outcome) => outcome,
        };
        match keeper {
            Some(keeper) => self.bring_out(keeper, outcome).await,
            None => outcome,
        }
    }

    async fn prepare(
        &self,
        way: CredentialsPlace,
        credentials: Credentials,
        keeper: &mut Option<ChangesKeeper>,
    ) -> Result<Turn, Fault> {
        let job = &self.job;
        let mut client = self.client(way, credentials)?;
        let (copied, model) = tokio::join!(self.bring_in(), choice::choose(&mut client, job));
        let mut not_there = NotThere::default();
        let (entries, bytes) = match (copied?, &self.link) {
            (Some(copied), Some(link)) => {
                not_there = copied.not_there;
                *keeper = Some(ChangesKeeper {
                    link: link.clone(),
                    workspace: job.workspace.clone(),
                    baseline: Arc::new(copied.baseline),
                    report: self.report.clone(),
                });
                (copied.entries, copied.bytes)
            }
            _ => (0, 0),
        };
        self.report.say(Event::Up { entries, bytes }).await;
        let model = model?;
        let tools = Toolbox::new(job, &model)?;
        if let Some(why) = tools.unrestricted() {
            let text = format!("commands are not kept from writing beneath /proc: {why}");
            self.report.note(text).await;
        }
        let not_copied = match keeper {
            Some(keeper) => self.tell_git(&tools, &not_there, keeper).await?,
            None => None,
        };
        let instructions = prompt::instructions(&tools.definitions());
        let mut history = History::default();
        history.say("developer", &prompt::surroundings(job, self.link.is_some()));
        if let Some(not_copied) = not_copied {
            history.say("developer", &self.scrub.clean(not_copied));
        }
        if let Some(docs) = self.docs().await? {
            history.say("user", &self.scrub.clean(docs));
        }
        history.say("user", &self.scrub.clean(job.prompt.clone()));
        let parallel = model.parallel && !model.lite;
        let tool_runner = ToolRunner {
            tools,
            report: self.report.clone(),
            scrub: self.scrub.clone(),
            parallel,
            deadline: self.deadline,
            cancel: self.cancel.clone(),
        };
        let (ledger, report) = (BudgetLedger::new(job.budget), self.report.clone());
        let so_far = keeper.clone().map(InterimChanges::new);
        Ok(Turn { client, model, instructions, history, ledger, tool_runner, so_far, report })
    }

    /// Has git agree with what came in, and what the model is told of the rest.
    async fn tell_git(
        &self,
        tools: &Toolbox,
        not_there: &NotThere,
        keeper: &mut ChangesKeeper,
    ) -> Result<Option<String>, Fault> {
        let told = repository::tell(tools, not_there, self.deadline, &self.cancel).await?;
        if told.wrote {
            let workspace = &self.job.workspace;
            let root = Path::new(&workspace.path);
            // The one before stays until this one is whole: broken off here, the end still knows
            // what came in, and what is gone of it.
            let baseline = Arc::clone(&keeper.baseline);
            let renewed = files::renew(root, workspace.uid, workspace.gid, baseline).await?;
            keeper.baseline = Arc::new(renewed);
        }
        for note in told.notes {
            self.report.note(note).await;
        }
        Ok(prompt::not_copied(&not_there.paths))
    }

    fn client(&self, way: CredentialsPlace, credentials: Credentials) -> Result<Client, Fault> {
        let backend = &self.job.backend;
        let road = match (way, &self.link) {
            (CredentialsPlace::Relay, Some(link)) => ModelRoute::Relay(link.clone()),
            (_, link) => {
                let base = Base::parse(&backend.base_url).map_err(|error| {
                    Fault::new(FaultKind::Refused, format!("the base URL is not taken: {error}"))
                })?;
                let renewable = link.is_some();
                let net = link.clone().map_or(Network::Own, Network::Tunnel);
                let connector = Connector::new(base, net, backend.ca.as_deref())?;
                ModelRoute::Own { connector, credentials, renewable }
            }
        };
        let session = backend.session.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        Ok(Client::new(road, backend.clone(), session, self.report.clone(), self.scrub.clone()))
    }

    async fn bring_in(&self) -> Result<Option<UnpackResult>, Fault> {
        let workspace = &self.job.workspace;
        match &self.link {
            Some(link) if workspace.copied => {
                let tar = link.workspace().await?;
                let root = PathBuf::from(&workspace.path);
                files::unpack(&root, workspace.uid, workspace.gid, tar).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    async fn docs(&self) -> Result<Option<String>, Fault> {
        let workspace = &self.job.workspace;
        let root = PathBuf::from(&workspace.path);
        let docs = files::project_docs(&root, workspace.uid, workspace.gid).await?;
        for doc in &docs {
            let (path, bytes) = (doc.path.clone(), doc.text.len() as u64);
            self.report.say(Event::Docs { path, bytes, cut: doc.cut }).await;
        }
        Ok(prompt::project_docs(&docs))
    }

    /// The changes go out at every end, before the outcome is said. Without them there is no
    /// success; any other end stays what it is, with a note, in a sandbox that is safe.
    async fn bring_out(&self, keeper: ChangesKeeper, outcome: Outcome) -> Outcome {
        let Err(fault) = keeper.all(&self.cancel).await else { return outcome };
        let message = format!("the changes could not be brought out: {}", fault.message);
        match outcome {
            Outcome::Finished { answer } => {
                self.report.say(Event::Text { text: answer }).await;
                let kind = if is_danger(&fault) { fault.kind } else { FaultKind::Workspace };
                Outcome::Failed { fault: Fault::new(kind, message) }
            }
            Outcome::Stopped { .. } if is_danger(&fault) => {
                Outcome::Failed { fault: Fault::new(fault.kind, message) }
            }
            other => {
                self.report.note(message).await;
                other
            }
        }
    }
}

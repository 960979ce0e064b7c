//! The work of one session: workspace in, turn, changes out.

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
use crate::files::{self, LeftOut, UnpackResult};
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
    /// Workspace in, turn, changes out.
    pub(super) async fn work(self, place: CredentialsPlace, credentials: Credentials) -> Outcome {
        let mut keeper = None;
        let prepared = tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Outcome::Stopped { reason: Stop::Cancelled, answer: None }),
            () = tokio::time::sleep_until(self.deadline) => {
                Err(Outcome::Stopped { reason: Stop::Budget { spent: Spent::Seconds }, answer: None })
            }
            prepared = self.prepare(place, credentials, &mut keeper) => {
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
        place: CredentialsPlace,
        credentials: Credentials,
        keeper: &mut Option<ChangesKeeper>,
    ) -> Result<Turn, Fault> {
        let job = &self.job;
        let mut client = self.client(place, credentials)?;
        let (copied, model) = tokio::join!(self.bring_in(), choice::choose(&mut client, job));
        let mut left_out = LeftOut::default();
        let (entries, bytes) = match (copied?, &self.link) {
            (Some(copied), Some(link)) => {
                left_out = copied.left_out;
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
        self.report.send(Event::Up { entries, bytes }).await;
        let model = model?;
        let tools = Toolbox::new(job, &model)?;
        if let Some(why) = tools.unrestricted() {
            let text = format!("commands can write beneath /proc: {why}");
            self.report.note(text).await;
        }
        let message = match keeper {
            Some(keeper) => self.prepare_git(&tools, &left_out, keeper).await?,
            None => None,
        };
        let instructions = prompt::instructions(&tools.definitions());
        let mut history = History::default();
        history.add_message("developer", &prompt::environment(job, self.link.is_some()));
        if let Some(message) = message {
            history.add_message("developer", &self.scrub.clean(message));
        }
        if let Some(docs) = self.docs().await? {
            history.add_message("user", &self.scrub.clean(docs));
        }
        history.add_message("user", &self.scrub.clean(job.prompt.clone()));
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

    /// Makes git agree with what was copied in. Returns the message to the model on what was not.
    async fn prepare_git(
        &self,
        tools: &Toolbox,
        left_out: &LeftOut,
        keeper: &mut ChangesKeeper,
    ) -> Result<Option<String>, Fault> {
        let result = repository::prepare(tools, left_out, self.deadline, &self.cancel).await?;
        if result.wrote {
            let workspace = &self.job.workspace;
            let root = Path::new(&workspace.path);
            // The old baseline stays until the new one is complete. If this is interrupted, the
            // changes are still compared with what was copied in.
            let baseline = Arc::clone(&keeper.baseline);
            let renewed = files::renew(root, workspace.uid, workspace.gid, baseline).await?;
            keeper.baseline = Arc::new(renewed);
        }
        for note in result.notes {
            self.report.note(note).await;
        }
        Ok(prompt::left_out(&left_out.paths))
    }

    fn client(&self, place: CredentialsPlace, credentials: Credentials) -> Result<Client, Fault> {
        let backend = &self.job.backend;
        let route = match (place, &self.link) {
            (CredentialsPlace::Relay, Some(link)) => ModelRoute::Relay(link.clone()),
            (_, link) => {
                let base = Base::parse(&backend.base_url).map_err(|error| {
                    Fault::new(FaultKind::Refused, format!("the base URL cannot be used: {error}"))
                })?;
                let renewable = link.is_some();
                let network = link.clone().map_or(Network::Own, Network::Tunnel);
                let connector = Connector::new(base, network, backend.ca.as_deref())?;
                ModelRoute::Own { connector, credentials, renewable }
            }
        };
        let session = backend.session.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        Ok(Client::new(route, backend.clone(), session, self.report.clone(), self.scrub.clone()))
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
            self.report.send(Event::Docs { path, bytes, cut: doc.cut }).await;
        }
        Ok(prompt::project_docs(&docs))
    }

    /// The changes are sent at every end, before the outcome. If that fails, a finished turn fails.
    /// Any other outcome stays, with a note, unless the sandbox is no longer safe.
    async fn bring_out(&self, keeper: ChangesKeeper, outcome: Outcome) -> Outcome {
        let Err(fault) = keeper.send_all(&self.cancel).await else { return outcome };
        let message = format!("the changes could not be copied out: {}", fault.message);
        match outcome {
            Outcome::Finished { answer } => {
                self.report.send(Event::Text { text: answer }).await;
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

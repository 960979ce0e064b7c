//! The life of a container. Each stage is a type that consumes the one before.
//!
//! ```text
//! Planned ──create──→ Created ──start──→ Ready ──hand_over──→ Running ──remove──→ Gone
//!          verified,            ready line and      task
//!          attached             program checked     written
//! ```
//!
//! The host attaches before the start, because a client that attaches later misses earlier output.

use std::future::Future;
use std::time::Duration;

use airlock_shared::{handoff, limits};
use bollard::query_parameters::{AttachContainerOptionsBuilder, CreateContainerOptionsBuilder};
use tokio::io::AsyncWriteExt;

use super::ended::{ContainerExit, wait_for_exit};
use super::inject::SandboxVolume;
use super::objects::{self, EngineObjects, Gone};
use super::pipe::{Pipe, StderrTail};
use super::plan::Plan;
use super::program::{self, ObservedProgram};
use super::{Docker, ResolvedImage, plan, verify};
use crate::engine::confine::{BinaryMount, ContainerSpec, Waiver, WorkspaceMount};
use crate::engine::error::{EngineError, EngineStep};

/// How long writing the handoff line into the pipe may take.
const HANDOFF_SECONDS: u64 = 20;

impl Docker {
    /// Writes the request for a container; nothing is sent to the engine yet.
    #[must_use]
    pub fn plan(
        &self,
        spec: ContainerSpec,
        image: &ResolvedImage,
        sandbox: &SandboxVolume,
    ) -> Planned {
        let plan = plan::plan(&spec, image, sandbox, &BinaryMount::random());
        Planned { docker: self.clone(), spec, image: image.clone(), plan }
    }
}

/// A container that is not made yet.
#[derive(Debug)]
pub struct Planned {
    docker: Docker,
    spec: ContainerSpec,
    image: ResolvedImage,
    plan: Plan,
}

impl Planned {
    /// Makes the container, checks it against its constraints, and attaches to it.
    ///
    /// # Errors
    /// If the engine cannot make it, or enforces less than was asked. Then the container is removed.
    pub async fn create(self) -> Result<Created, EngineError> {
        let name = plan::container_name(&self.spec.session);
        let volumes = plan::own_volumes(&self.spec, &self.plan.body);
        if self.spec.work == WorkspaceMount::EngineDisk {
            self.own_work_volume().await?;
        }
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let client = self.docker.client();
        let made = client.create_container(Some(options), self.plan.body.clone()).await;
        let made = match made {
            Ok(made) => made,
            Err(error) => {
                let left = self.docker.remove_volumes(&volumes).await.err();
                return Err(objects::after(EngineError::at(EngineStep::Create, &error), left));
            }
        };
        let objects = EngineObjects { docker: self.docker.clone(), name, id: made.id, volumes };

        match tokio::try_join!(self.check(&objects), attach(&objects)) {
            Ok((own_kernel, pipe)) => Ok(Created { objects, pipe, plan: self.plan, own_kernel }),
            Err(error) => Err(objects.removed_after(error).await),
        }
    }

    /// Checks the engine's description against the constraints. Returns whether its runtime has its
    /// own kernel.
    async fn check(&self, objects: &EngineObjects) -> Result<bool, EngineError> {
        let found = self.docker.client().inspect_container(&objects.id, None).await;
        let found = found.map_err(|error| EngineError::at(EngineStep::Create, &error))?;
        // THREAT: an engine without cgroups accepts a limit and drops it, and the container has none.
        // Tried by engine::docker::tests::an_engine_that_enforces_less_is_refused.
        verify::refuse(verify::outside(&self.plan.checks, &found))?;
        Ok(verify::has_own_kernel(&found))
    }

    /// Makes the volume and gives its root directory to the uid of commands. Root in the container may
    /// not do that (no CHOWN), but an upload through another container may.
    async fn own_work_volume(&self) -> Result<(), EngineError> {
        let failed = |error: std::io::Error| EngineError::broke(EngineStep::Create, &error);
        let (uid, gid) = self.spec.tool();
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        header.set_mode(0o755);
        header.set_uid(u64::from(uid));
        header.set_gid(u64::from(gid));
        let mut archive = tar::Builder::new(Vec::new());
        // A random path, so that the image cannot have anything there.
        let entry = BinaryMount::random();
        let directory = entry.directory().trim_start_matches('/');
        archive.append_data(&mut header, directory, std::io::empty()).map_err(failed)?;
        let archive = archive.into_inner().map_err(failed)?.into();

        let volume = plan::work_volume(&self.spec.session);
        let labels = plan::labels(&self.spec);
        let mount = plan::volume(&volume, entry.directory(), false, Some(labels.clone()));
        let filler = plan::filler_name(&self.spec.session);
        let filled = self.docker.fill(&filler, mount, archive, &self.image, labels).await;
        let removed = self.docker.remove_filler(&filler).await;
        let Err(error) = filled.and(removed) else { return Ok(()) };
        let left = self.docker.remove_volume(&volume).await.err();
        Err(objects::after(error, left))
    }
}

/// A container that passed its checks and is not started.
#[derive(Debug)]
pub struct Created {
    objects: EngineObjects,
    pipe: Pipe,
    plan: Plan,
    own_kernel: bool,
}

impl Created {
    /// Starts it and waits until the sandbox says that it is ready.
    ///
    /// # Errors
    /// If it does not start, is not ready in time, or speaks another protocol. Then the container is
    /// removed.
    pub async fn start(self) -> Result<Ready, EngineError> {
        let given_up =
            EngineError::Failed { step: EngineStep::Ready, reason: "it was cancelled".to_owned() };
        self.start_unless(std::future::pending()).await?.ok_or(given_up)
    }

    /// The same; `None` if `unwanted` ends before the sandbox is ready. Then the container is removed.
    ///
    /// # Errors
    /// As for [`Created::start`]; also if it is not wanted and cannot be removed.
    pub async fn start_unless(
        self,
        unwanted: impl Future<Output = ()>,
    ) -> Result<Option<Ready>, EngineError> {
        let Self { objects, mut pipe, plan, own_kernel } = self;
        let started = objects.docker.client().start_container(&objects.id, None).await;
        if let Err(error) = started {
            return Err(objects.removed_after(EngineError::at(EngineStep::Start, &error)).await);
        }
        let checked = async {
            // A first look while we wait for the ready line. The program may not have started yet.
            let early = async {
                if own_kernel {
                    None
                } else {
                    program::observe_once(&objects.docker, &objects.id, &plan.program).await.ok()
                }
            };
            let (line, early) = tokio::join!(read_ready(&mut pipe), early);
            let line = line?;
            let found = line.confinement.as_ref();
            let mut waived = if own_kernel { verify::not_shown(found) } else { vec![] };
            verify::refuse(verify::inside(&plan.checks, found, &waived))?;
            if !own_kernel {
                let seen = match early {
                    Some(ObservedProgram::Ours) => ObservedProgram::Ours,
                    _ => program::observe(&objects.docker, &objects.id, &plan.program).await?,
                };
                match seen {
                    ObservedProgram::Ours => {}
                    ObservedProgram::Unknown => waived.push(Waiver::Program),
                    ObservedProgram::Other(found) => return Err(EngineError::Impostor { found }),
                }
            }
            Ok((line, waived))
        };
        let checked = tokio::select! {
            checked = checked => Some(checked),
            () = unwanted => None,
        };
        match checked {
            None => objects.remove().await.map(|_gone| None),
            Some(Ok((line, unchecked))) => {
                let version = line.version;
                Ok(Some(Ready { objects, pipe, version, unchecked }))
            }
            Some(Err(error)) => {
                let error = objects.explained(error, &pipe.stderr_tail()).await;
                Err(objects.removed_after(error).await)
            }
        }
    }

    /// Removes it unused.
    ///
    /// # Errors
    /// If it could not be removed.
    pub async fn remove(self) -> Result<Gone, EngineError> {
        self.objects.remove().await
    }
}

/// A started sandbox that waits for its task.
#[derive(Debug)]
pub struct Ready {
    objects: EngineObjects,
    pipe: Pipe,
    version: String,
    unchecked: Vec<Waiver>,
}

impl Ready {
    /// What could not be checked with this engine; the record names it.
    #[must_use]
    pub fn unchecked(&self) -> &[Waiver] {
        &self.unchecked
    }

    /// The version that the sandbox reports, for people.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The container's name on the engine.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.objects.name
    }

    /// Writes the handoff line (with its newline), which says what to do.
    ///
    /// # Errors
    /// If the sandbox does not read it. Then the container is removed.
    pub async fn hand_over(self, line: &[u8]) -> Result<Running, EngineError> {
        let Self { objects, mut pipe, .. } = self;
        let write = async {
            pipe.write_all(line).await?;
            pipe.flush().await
        };
        let written = tokio::time::timeout(Duration::from_secs(HANDOFF_SECONDS), write).await;
        let error = match written {
            Ok(Ok(())) => return Ok(Running { objects, pipe: Some(pipe) }),
            Ok(Err(error)) => EngineError::broke(EngineStep::Handoff, &error),
            Err(_) => EngineError::Failed {
                step: EngineStep::Handoff,
                reason: format!("it did not read for {HANDOFF_SECONDS} s"),
            },
        };
        // THREAT: a program that got a part of the line repeats it on stderr, and we write that into
        // the record. So from here on its stderr is never quoted unscrubbed.
        let error = objects.explained(error, &StderrTail::default()).await;
        Err(objects.removed_after(error).await)
    }

    /// Removes it unused.
    ///
    /// # Errors
    /// If it could not be removed.
    pub async fn remove(self) -> Result<Gone, EngineError> {
        self.objects.remove().await
    }
}

/// A sandbox at work.
#[derive(Debug)]
pub struct Running {
    objects: EngineObjects,
    pipe: Option<Pipe>,
}

impl Running {
    /// The pipe; `None` if it was taken already.
    pub fn take_pipe(&mut self) -> Option<Pipe> {
        self.pipe.take()
    }

    /// The container's name on the engine.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.objects.name
    }

    /// Waits until the container has ended. Watch this beside the pipe: an engine may leave the pipe
    /// open for a minute after the end if there is unread data in it.
    pub fn ended(
        &self,
    ) -> impl Future<Output = Result<ContainerExit, EngineError>> + Send + 'static {
        let (docker, id) = (self.objects.docker.clone(), self.objects.id.clone());
        async move { wait_for_exit(&docker, &id).await }
    }

    /// Ends the container, if it still runs, and removes everything that was made for it.
    ///
    /// # Errors
    /// If something could not be removed.
    pub async fn remove(self) -> Result<Gone, EngineError> {
        self.objects.remove().await
    }
}

async fn attach(objects: &EngineObjects) -> Result<Pipe, EngineError> {
    let options = AttachContainerOptionsBuilder::new()
        .stdin(true)
        .stdout(true)
        .stderr(true)
        .stream(true)
        .build();
    let attached = objects.docker.client().attach_container(&objects.id, Some(options)).await;
    attached.map(Pipe::new).map_err(|error| EngineError::at(EngineStep::Create, &error))
}

/// Reads the ready line.
async fn read_ready(pipe: &mut Pipe) -> Result<handoff::Ready, EngineError> {
    let failed = |reason: String| EngineError::Failed { step: EngineStep::Ready, reason };
    let line = pipe.line(limits::READY_BYTES);
    let line = tokio::time::timeout(Duration::from_secs(limits::READY_SECONDS), line).await;
    let line = line
        .map_err(|_| failed(format!("no output for {} s", limits::READY_SECONDS)))?
        .map_err(|error| failed(error.to_string()))?;
    let mut ready: handoff::Ready = serde_json::from_slice(&line)
        .map_err(|_| failed("its first line is not a ready line".to_owned()))?;
    ready.version = ready.version.chars().filter(|c| !c.is_control()).take(40).collect();
    // Only the protocol is compared: a host also serves a sandbox of another release.
    if ready.ready == limits::PROTOCOL {
        Ok(ready)
    } else {
        Err(EngineError::Protocol { theirs: ready.ready, version: ready.version })
    }
}

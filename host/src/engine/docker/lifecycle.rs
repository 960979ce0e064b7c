//! A container from its terms to nothing, each stage a type that consumes the one before.
//!
//! ```text
//! Planned ──create──→ Created ──start──→ Ready ──hand_over──→ Running ──remove──→ Gone
//!          verified,            ready line and      one line
//!          attached             program checked
//! ```
//!
//! Attached before it is started: a client that attaches later has lost what was said until then.

use std::future::Future;
use std::time::Duration;

use airlock_shared::{handoff, limits};
use bollard::query_parameters::{AttachContainerOptionsBuilder, CreateContainerOptionsBuilder};
use tokio::io::AsyncWriteExt;

use super::ended::{ContainerExit, ended};
use super::inject::SandboxVolume;
use super::objects::{self, EngineObjects, Gone};
use super::pipe::{Pipe, StderrTail};
use super::plan::Plan;
use super::program::{self, ObservedProgram};
use super::{Docker, ResolvedImage, plan, verify};
use crate::engine::confine::{BinaryMount, ContainerSpec, Waiver, WorkspaceMount};
use crate::engine::error::{EngineError, EngineStep};

/// How long one line may take to be written into the pipe.
const HANDOFF_SECONDS: u64 = 20;

impl Docker {
    /// The terms of a container, written down; nothing is on the engine yet.
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

/// A container that is to be.
#[derive(Debug)]
pub struct Planned {
    docker: Docker,
    spec: ContainerSpec,
    image: ResolvedImage,
    plan: Plan,
}

impl Planned {
    /// Makes the container, holds it against its terms, and attaches to it.
    ///
    /// # Errors
    /// When the engine cannot make it, or holds less than was asked. Then it is gone again.
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

    /// Holds the engine's description against the terms; whether its runtime has a kernel of its
    /// own.
    async fn check(&self, objects: &EngineObjects) -> Result<bool, EngineError> {
        let found = self.docker.client().inspect_container(&objects.id, None).await;
        let found = found.map_err(|error| EngineError::at(EngineStep::Create, &error))?;
        // THREAT: an engine without cgroups takes a limit and drops it; the container would run without.
        // Tried by engine::docker::tests::an_engine_that_holds_less_is_refused.
        verify::refused(verify::outside(&self.plan.checks, &found))?;
        Ok(verify::has_own_kernel(&found))
    }

    /// Makes the volume and gives its root to the tool's uid. Root in the container may not (no CHOWN);
    /// the engine's own archive does, through a container whose root can be written.
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
        // Nowhere that the image could have something.
        let entry = BinaryMount::random();
        let folder = entry.folder().trim_start_matches('/');
        archive.append_data(&mut header, folder, std::io::empty()).map_err(failed)?;
        let archive = archive.into_inner().map_err(failed)?.into();

        let volume = plan::work_volume(&self.spec.session);
        let labels = plan::labels(&self.spec);
        let mount = plan::volume(&volume, entry.folder(), false, Some(labels.clone()));
        let filler = plan::filler_name(&self.spec.session);
        let filled = self.docker.fill(&filler, mount, archive, &self.image, labels).await;
        let removed = self.docker.remove_filler(&filler).await;
        let Err(error) = filled.and(removed) else { return Ok(()) };
        let left = self.docker.remove_volume(&volume).await.err();
        Err(objects::after(error, left))
    }
}

/// A container that holds its terms and is not started.
#[derive(Debug)]
pub struct Created {
    objects: EngineObjects,
    pipe: Pipe,
    plan: Plan,
    own_kernel: bool,
}

impl Created {
    /// Starts it and waits for the sandbox to say that it is ready.
    ///
    /// # Errors
    /// When it does not start, does not say so in time, or speaks another protocol. Then it is
    /// gone again.
    pub async fn start(self) -> Result<Ready, EngineError> {
        let given_up =
            EngineError::Box { step: EngineStep::Ready, reason: "it was given up".to_owned() };
        self.start_unless(std::future::pending()).await?.ok_or(given_up)
    }

    /// The same; `None` where it is no longer wanted before it is ready, and gone again.
    ///
    /// # Errors
    /// As for [`Created::start`]; also when it is no longer wanted and cannot be removed.
    pub async fn start_unless(
        self,
        unwanted: impl Future<Output = ()>,
    ) -> Result<Option<Ready>, EngineError> {
        let Self { objects, mut pipe, plan, own_kernel } = self;
        let started = objects.docker.client().start_container(&objects.id, None).await;
        if let Err(error) = started {
            return Err(objects.removed_after(EngineError::at(EngineStep::Start, &error)).await);
        }
        let looked = async {
            // One look while it says that it is ready; the runtime may not have started it yet.
            let early = async {
                if own_kernel {
                    None
                } else {
                    program::look(&objects.docker, &objects.id, &plan.program).await.ok()
                }
            };
            let (said, early) = tokio::join!(ready(&mut pipe), early);
            let said = said?;
            let found = said.confinement.as_ref();
            let mut waived = if own_kernel { verify::not_shown(found) } else { vec![] };
            verify::refused(verify::inside(&plan.checks, found, &waived))?;
            if !own_kernel {
                let seen = match early {
                    Some(ObservedProgram::Ours) => ObservedProgram::Ours,
                    _ => program::seen(&objects.docker, &objects.id, &plan.program).await?,
                };
                match seen {
                    ObservedProgram::Ours => {}
                    ObservedProgram::Unknown => waived.push(Waiver::Program),
                    ObservedProgram::Other(found) => return Err(EngineError::Impostor { found }),
                }
            }
            Ok((said, waived))
        };
        let looked = tokio::select! {
            looked = looked => Some(looked),
            () = unwanted => None,
        };
        match looked {
            None => objects.remove().await.map(|_gone| None),
            Some(Ok((said, unchecked))) => {
                let version = said.version;
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
    /// When it is still there afterwards.
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
    /// What this engine cannot show of it; the record names it.
    #[must_use]
    pub fn unchecked(&self) -> &[Waiver] {
        &self.unchecked
    }

    /// What the sandbox calls its version: for people.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The container's name on the engine.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.objects.name
    }

    /// Writes the one line (with its newline) that says what to do.
    ///
    /// # Errors
    /// When the sandbox does not take it. Then the container is gone again.
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
            Err(_) => EngineError::Box {
                step: EngineStep::Handoff,
                reason: format!("it did not read for {HANDOFF_SECONDS} s"),
            },
        };
        // THREAT: a program that was handed a part of the line repeats it on stderr, and we write it
        // into the record: from here on none of its words are quoted unscrubbed.
        let error = objects.explained(error, &StderrTail::default()).await;
        Err(objects.removed_after(error).await)
    }

    /// Removes it unused.
    ///
    /// # Errors
    /// When it is still there afterwards.
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
    /// The pipe: once.
    pub fn take_pipe(&mut self) -> Option<Pipe> {
        self.pipe.take()
    }

    /// The container's name on the engine.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.objects.name
    }

    /// Waits until the container has ended. To be watched beside the pipe: an engine may leave the
    /// pipe open for a minute after the end when nobody read what is in it.
    pub fn ended(
        &self,
    ) -> impl Future<Output = Result<ContainerExit, EngineError>> + Send + 'static {
        let (docker, id) = (self.objects.docker.clone(), self.objects.id.clone());
        async move { ended(&docker, &id).await }
    }

    /// Ends the container, if it still runs, and removes everything that was made for it.
    ///
    /// # Errors
    /// When something is still there afterwards.
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
async fn ready(pipe: &mut Pipe) -> Result<handoff::Ready, EngineError> {
    let failed = |reason: String| EngineError::Box { step: EngineStep::Ready, reason };
    let line = pipe.line(limits::READY_BYTES);
    let line = tokio::time::timeout(Duration::from_secs(limits::READY_SECONDS), line).await;
    let line = line
        .map_err(|_| failed(format!("nothing for {} s", limits::READY_SECONDS)))?
        .map_err(|error| failed(error.to_string()))?;
    let mut ready: handoff::Ready = serde_json::from_slice(&line)
        .map_err(|_| failed("its first line is not a ready line".to_owned()))?;
    ready.version = ready.version.chars().filter(|c| !c.is_control()).take(40).collect();
    // Of the two halves the protocol alone is compared: a host serves a sandbox of another release.
    if ready.ready == limits::PROTOCOL {
        Ok(ready)
    } else {
        Err(EngineError::Protocol { theirs: ready.ready, version: ready.version })
    }
}

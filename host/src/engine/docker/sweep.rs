//! What a crash left behind: containers and volumes of ours whose session is over.
//!
//! ```text
//! name and labels are of the form we make, and of this install?  no ─→ left alone
//!   its very lock is in this state directory, and free           ─→ removed
//!   held                                                         ─→ left alone
//!   absent (a copy of the directory, or it was deleted): has it ended by itself?
//!                                       yes ─→ removed      no ─→ left, and `doctor` names it
//! ```
//!
//! A container ends by itself when its host is gone, so nothing that somebody still needs has ended.
//! One that an earlier release made names no lock: it is removed once it has ended.

use std::collections::{HashMap, HashSet};

use bollard::models::ContainerSummaryStateEnum as Is;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder,
};

use super::{Docker, is_absent, label, plan};
use crate::engine::binary::SANDBOX_SHA256;
use crate::engine::error::{EngineError, Remains};

/// How old a container must be that was to carry our binary: uploads take seconds.
const FILLER_SECONDS: i64 = 600;

/// What this machine can say of a session, by the mark of its lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    Alive,
    Over,
    /// The lock is not here.
    Unknown,
}

/// What was removed, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub containers: Vec<String>,
    pub volumes: Vec<String>,
    /// What could not be removed, and why.
    pub left: Vec<(String, String)>,
}

impl Swept {
    fn leave(&mut self, name: String, reason: String) {
        tracing::warn!(name, reason, "left on the engine: it could not be removed");
        self.left.push((name, reason));
    }
}

/// What carries an install's labels and no session here claims, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unclaimed {
    pub containers: Vec<String>,
    /// Also those of these containers, which do not go with them.
    pub volumes: Vec<String>,
}

impl Unclaimed {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.volumes.is_empty()
    }

    /// What removes them.
    #[must_use]
    pub fn command(&self) -> String {
        let all = [(Remains::Container, &self.containers), (Remains::Volume, &self.volumes)];
        let all = all.into_iter().filter(|(_, names)| !names.is_empty());
        let commands: Vec<_> = all.map(|(what, names)| what.command(&names.join(" "))).collect();
        commands.join(" && ")
    }
}

/// What is to be done with something that is on the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It is somebody else's, or alive.
    Leave,
    /// It is over, whatever it does.
    Remove,
    /// It is over unless somebody started it meanwhile.
    RemoveEnded,
    /// It is this install's, and nobody here can tell.
    Unclaimed,
}

/// Something on the engine.
struct Thing {
    name: String,
    labels: HashMap<String, String>,
}

impl Thing {
    fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    fn is_of(&self, install: &str) -> bool {
        self.label(label::INSTALL) == Some(install)
    }

    fn claim(&self, run: &str, claim: &impl Fn(&str, &str) -> Claim) -> Claim {
        claim(run, self.label(label::LOCK).unwrap_or_default())
    }

    fn is_binary(&self) -> bool {
        self.label(label::BINARY).is_some_and(|sha256| is_upload(&self.name, sha256))
    }
}

/// THREAT: labels come with images too, and a copied state directory has our install's id: by either
/// alone we would remove what somebody else works in. Tried by
/// engine::docker::sweep::tests::only_what_is_over_and_ours_is_taken.
fn container(
    thing: &Thing,
    is: Option<Is>,
    age: i64,
    install: &str,
    claim: &impl Fn(&str, &str) -> Claim,
) -> Verdict {
    let Some(run) = thing.label(label::RUN) else {
        // An upload by an earlier release.
        let old = thing.is_of(install) && thing.is_binary() && age > FILLER_SECONDS;
        return if old { Verdict::RemoveEnded } else { Verdict::Leave };
    };
    let own = [plan::container_name(run), plan::filler_name(run)];
    if !thing.is_of(install) || !is_id(run) || !(own.contains(&thing.name) || thing.is_binary()) {
        return Verdict::Leave;
    }
    match thing.claim(run, claim) {
        Claim::Alive => Verdict::Leave,
        Claim::Over => Verdict::Remove,
        Claim::Unknown if matches!(is, Some(Is::EXITED | Is::DEAD)) => Verdict::RemoveEnded,
        Claim::Unknown => Verdict::Unclaimed,
    }
}

/// `over` are the sessions whose container was removed, `there` those that still have one.
fn volume(
    thing: &Thing,
    install: &str,
    over: &HashSet<String>,
    there: &HashSet<String>,
    claim: &impl Fn(&str, &str) -> Claim,
) -> Verdict {
    let Some(run) = thing.label(label::RUN) else { return Verdict::Leave };
    if !thing.is_of(install) || !is_id(run) || !is_work_volume(&thing.name, run) {
        return Verdict::Leave;
    }
    match thing.claim(run, claim) {
        Claim::Alive => Verdict::Leave,
        Claim::Over => Verdict::Remove,
        Claim::Unknown if over.contains(run) => Verdict::Remove,
        Claim::Unknown if there.contains(run) => Verdict::Leave,
        Claim::Unknown => Verdict::Unclaimed,
    }
}

impl Docker {
    /// Removes what is left of sessions of `install` that are over. `now` is seconds since 1970.
    ///
    /// # Errors
    /// When the engine does not answer; what cannot be removed is in the result.
    pub async fn sweep(
        &self,
        install: &str,
        now: i64,
        claim: impl Fn(&str, &str) -> Claim,
    ) -> Result<Swept, EngineError> {
        let mut swept = Swept::default();
        let (mut over, mut there) = (HashSet::new(), HashSet::new());
        for (id, thing, is, made) in self.containers_of(install).await? {
            let run = thing.label(label::RUN).unwrap_or_default().to_owned();
            let verdict = container(&thing, is, now - made.unwrap_or(now), install, &claim);
            let force = match verdict {
                Verdict::Leave | Verdict::Unclaimed => {
                    there.insert(run);
                    continue;
                }
                Verdict::Remove => true,
                Verdict::RemoveEnded => false,
            };
            let options = RemoveContainerOptionsBuilder::new().force(force).v(true).build();
            match self.client().remove_container(&id, Some(options)).await {
                Ok(()) => {
                    swept.containers.push(thing.name);
                    over.insert(run);
                }
                Err(error) if is_absent(&error) => {}
                Err(error) => swept.leave(thing.name, crate::engine::error::said(&error)),
            }
        }

        for thing in self.volumes_of(install).await? {
            let over = match thing.label(label::BINARY) {
                // An upload that was cut, or the binary of another release of ours.
                Some(sha256) if thing.is_of(install) && thing.is_binary() => {
                    sha256 != SANDBOX_SHA256 || !self.is_vouched(sha256, &thing.name).await
                }
                _ => volume(&thing, install, &over, &there, &claim) == Verdict::Remove,
            };
            if !over {
                continue;
            }
            match self.remove_volume(&thing.name).await {
                Ok(()) => swept.volumes.push(thing.name),
                // Still in use: its container was left, or an upload is under way.
                Err(EngineError::Leftover { name, reason, .. }) if reason.contains("in use") => {
                    tracing::debug!(name, "left for the next sweep");
                }
                Err(EngineError::Leftover { name, reason, .. }) => swept.leave(name, reason),
                Err(other) => return Err(other),
            }
        }
        Ok(swept)
    }

    /// What carries this install's labels and no session here claims.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn unclaimed(
        &self,
        install: &str,
        claim: impl Fn(&str, &str) -> Claim,
    ) -> Result<Unclaimed, EngineError> {
        let mut unclaimed = Unclaimed::default();
        let mut there = HashSet::new();
        for (_, thing, is, _) in self.containers_of(install).await? {
            if container(&thing, is, 0, install, &claim) == Verdict::Unclaimed {
                unclaimed.containers.push(thing.name);
            } else {
                there.extend(thing.label(label::RUN).map(str::to_owned));
            }
        }
        for thing in self.volumes_of(install).await? {
            let verdict = volume(&thing, install, &HashSet::new(), &there, &claim);
            if verdict == Verdict::Unclaimed {
                unclaimed.volumes.push(thing.name);
            }
        }
        Ok(unclaimed)
    }

    async fn containers_of(
        &self,
        install: &str,
    ) -> Result<Vec<(String, Thing, Option<Is>, Option<i64>)>, EngineError> {
        let ours = format!("{}={install}", label::INSTALL);
        let filters = HashMap::from([("label", vec![ours.as_str()])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let found = self.client().list_containers(Some(options)).await;
        let found = found.map_err(|error| self.unusable(&error))?.into_iter();
        let things = found.filter_map(|container| {
            let names = container.names.unwrap_or_default();
            let name = names.first().map_or("", |name| name.trim_start_matches('/')).to_owned();
            let thing = Thing { name, labels: container.labels.unwrap_or_default() };
            Some((container.id?, thing, container.state, container.created))
        });
        Ok(things.collect())
    }

    async fn volumes_of(&self, install: &str) -> Result<Vec<Thing>, EngineError> {
        let ours = format!("{}={install}", label::INSTALL);
        let filters = HashMap::from([("label", vec![ours.as_str()])]);
        let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
        let found = self.client().list_volumes(Some(options)).await;
        let found = found.map_err(|error| self.unusable(&error))?.volumes.unwrap_or_default();
        let thing =
            |volume: bollard::models::Volume| Thing { name: volume.name, labels: volume.labels };
        Ok(found.into_iter().map(thing).collect())
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
}

/// A session's id: without it a name's prefix would be everybody's.
fn is_id(run: &str) -> bool {
    is_hex(run, 32)
}

/// `airlock-work-<run>`, or the same with `-<number>`, or with what its terminals' has.
fn is_work_volume(name: &str, run: &str) -> bool {
    if name == plan::terminals_volume(run) {
        return true;
    }
    match name.strip_prefix(&plan::work_volume(run)) {
        Some("") => true,
        Some(rest) => {
            let number = rest.strip_prefix('-').unwrap_or_default();
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        }
        None => false,
    }
}

/// `airlock-sandbox-<24 digits of the hash>-<16 digits>`.
fn is_upload(name: &str, sha256: &str) -> bool {
    let Some((mark, once)) = name.rsplit_once('-') else { return false };
    is_hex(once, 16) && sha256.len() >= 24 && mark == super::inject::mark_name(sha256)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "0123456789abcdef0123456789abcdef";
    const SHA: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn thing(name: &str, labels: &[(&str, &str)]) -> Thing {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Thing { name: name.to_owned(), labels: labels.collect() }
    }

    #[test]
    fn only_what_is_over_and_ours_is_taken() {
        let ours = [(label::INSTALL, "me"), (label::RUN, RUN), (label::LOCK, "7-1.2")];
        let name = plan::container_name(RUN);
        let judged = |thing: &Thing, is, said| container(thing, Some(is), 0, "me", &|_, _| said);
        let made = thing(&name, &ours);
        for is in [Is::CREATED, Is::RUNNING, Is::PAUSED, Is::EXITED, Is::DEAD] {
            let ended = matches!(is, Is::EXITED | Is::DEAD);
            assert_eq!(judged(&made, is, Claim::Alive), Verdict::Leave);
            assert_eq!(judged(&made, is, Claim::Over), Verdict::Remove);
            // A copy of the state directory: whose it is, it cannot see.
            let copied = if ended { Verdict::RemoveEnded } else { Verdict::Unclaimed };
            assert_eq!(judged(&made, is, Claim::Unknown), copied, "{is:?}");
        }
        let filler = thing(&plan::filler_name(RUN), &ours);
        assert_eq!(judged(&filler, Is::CREATED, Claim::Over), Verdict::Remove);
        // Another install's; somebody's, whose image has our labels; one that says it is a prefix.
        let short = [(label::INSTALL, "me"), (label::RUN, "0")];
        for other in [
            thing(&name, &[(label::INSTALL, "you"), (label::RUN, RUN)]),
            thing("somebodys", &ours),
            thing(&format!("{name}-x"), &ours),
            thing("airlock-0", &short),
            thing(&name, &[(label::INSTALL, "me")]),
        ] {
            assert_eq!(judged(&other, Is::EXITED, Claim::Over), Verdict::Leave, "{}", other.name);
        }
    }

    #[test]
    fn an_upload_is_known_by_its_whole_name() {
        let name = format!("airlock-sandbox-{}-0123456789abcdef", &SHA[..24]);
        let labels = [(label::INSTALL, "me"), (label::BINARY, SHA)];
        let judged = |name: &str, age| {
            container(&thing(name, &labels), Some(Is::CREATED), age, "me", &|_, _| Claim::Unknown)
        };
        assert_eq!(judged(&name, FILLER_SECONDS + 1), Verdict::RemoveEnded);
        assert_eq!(judged(&name, FILLER_SECONDS), Verdict::Leave);
        assert_eq!(judged("airlock-sandbox-mine", FILLER_SECONDS + 1), Verdict::Leave);
        for other in ["x", "airlock-sandbox-", &name[..name.len() - 1], &format!("x{name}")] {
            assert!(!is_upload(other, SHA), "{other}");
        }
    }

    #[test]
    fn a_volume_is_taken_by_name_and_labels_with_its_session() {
        let labels = [(label::INSTALL, "me"), (label::RUN, RUN), (label::LOCK, "7-1.2")];
        let (none, this) = (HashSet::new(), HashSet::from([RUN.to_owned()]));
        let judged = |name: &str, over, there, said| {
            volume(&thing(name, &labels), "me", over, there, &|_, _| said)
        };
        let own = plan::work_volume(RUN);
        for name in [own.clone(), format!("{own}-0"), format!("{own}-12")] {
            assert_eq!(judged(&name, &none, &none, Claim::Over), Verdict::Remove);
            assert_eq!(judged(&name, &none, &this, Claim::Alive), Verdict::Leave);
            assert_eq!(judged(&name, &this, &none, Claim::Unknown), Verdict::Remove);
            assert_eq!(judged(&name, &none, &this, Claim::Unknown), Verdict::Leave);
            assert_eq!(judged(&name, &none, &none, Claim::Unknown), Verdict::Unclaimed);
        }
        for name in ["precious", &format!("{own}-"), &format!("{own}-x"), &format!("{own}1")] {
            assert_eq!(judged(name, &none, &none, Claim::Over), Verdict::Leave, "{name}");
        }
    }
}

//! Chooses the uid for the commands of a new container.
//!
//! The kernel has limits per user that count over the whole machine and all containers: inotify
//! instances, descriptors in transit through sockets, pages of pipes. Containers with the same uid
//! see each other's counts rise, and can use up each other's limits.
//!
//! Two hosts that choose at the same moment may get the same uid. Then these two containers share
//! limits, and nothing else.

use std::collections::{BTreeSet, HashMap};

use airlock_shared::defaults;
use bollard::query_parameters::ListContainersOptionsBuilder;

use super::{Docker, label};
use crate::engine::error::EngineError;

impl Docker {
    /// A uid that no container on this engine uses; if all are in use, any of them.
    ///
    /// # Errors
    /// If the engine does not answer.
    pub async fn free_uid(&self) -> Result<u32, EngineError> {
        let filters = HashMap::from([("label", vec![label::UID])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let found = self.client().list_containers(Some(options)).await;
        let found = found.map_err(|error| self.unusable(&error))?;
        let named = |labels: HashMap<String, String>| labels.get(label::UID)?.parse().ok();
        let taken = found.into_iter().filter_map(|container| named(container.labels?)).collect();
        Ok(free(&taken, rand::random()))
    }
}

fn free(taken: &BTreeSet<u32>, chance: u32) -> u32 {
    let free: Vec<u32> = defaults::TOOL_UIDS.filter(|uid| !taken.contains(uid)).collect();
    let among = if free.is_empty() { defaults::TOOL_UIDS.collect() } else { free };
    among[chance as usize % among.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_in_use_is_not_chosen_while_another_is_free() {
        let (first, last) = (*defaults::TOOL_UIDS.start(), *defaults::TOOL_UIDS.end());
        let all: BTreeSet<u32> = defaults::TOOL_UIDS.collect();
        for chance in [0, 1, u32::MAX] {
            assert_eq!(free(&(first..last).collect(), chance), last);
            assert!(all.contains(&free(&all, chance)));
        }
        assert!(!all.contains(&defaults::TOOL_UID), "the default uid is not one of them");
    }
}

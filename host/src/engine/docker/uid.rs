//! A user for the commands of one more container.
//!
//! The kernel counts much by user over the whole machine, whatever the container: inotify
//! instances, descriptors on their way through sockets, pages of pipes. Containers that share a
//! user see each other's counts rise, and can use them up for each other.
//!
//! Two hosts that ask at the same moment may get the same one: then these two containers share
//! limits, and nothing else.

use std::collections::{BTreeSet, HashMap};

use airlock_shared::defaults;
use bollard::query_parameters::ListContainersOptionsBuilder;

use super::{Docker, label};
use crate::engine::error::EngineError;

impl Docker {
    /// One that no container on this engine names; where all are taken, any.
    ///
    /// # Errors
    /// When the engine does not answer.
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
    fn what_is_taken_is_not_given_while_there_is_another() {
        let (first, last) = (*defaults::TOOL_UIDS.start(), *defaults::TOOL_UIDS.end());
        let all: BTreeSet<u32> = defaults::TOOL_UIDS.collect();
        for chance in [0, 1, u32::MAX] {
            assert_eq!(free(&(first..last).collect(), chance), last);
            assert!(all.contains(&free(&all, chance)));
        }
        assert!(!all.contains(&defaults::TOOL_UID), "plain mode has its own");
    }
}

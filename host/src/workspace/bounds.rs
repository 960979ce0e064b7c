//! The limits of a directory, checked for each entry: once while it is counted, before anything is
//! sent, and again while it is copied, because it may have grown.

use std::collections::HashMap;

use airlock_shared::limits;

use super::copy_in::CopyError;
use super::rel_path::RelPath;
use crate::text;

/// A file on a file system in memory takes whole pages.
pub(super) const PAGE_BYTES: u64 = 4096;

/// What was counted so far.
pub(super) struct Bounds {
    disk: u64,
    entries: u64,
    names: usize,
    pages: u64,
    /// Pages for each first component.
    tops: HashMap<Vec<u8>, u64>,
}

/// The top entry that takes the most space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Most {
    pub path: RelPath,
    pub bytes: u64,
}

impl Bounds {
    pub(super) fn new(disk: u64) -> Self {
        Self { disk, entries: 0, names: 0, pages: 0, tops: HashMap::new() }
    }

    /// Counts an entry.
    ///
    /// # Errors
    /// It is more than may be copied in.
    pub(super) fn add(
        &mut self,
        path: &RelPath,
        target: &[u8],
        size: u64,
    ) -> Result<(), CopyError> {
        self.entries += 1;
        self.names += path.as_bytes().len() + target.len();
        let pages = size.div_ceil(PAGE_BYTES);
        self.pages = self.pages.saturating_add(pages);
        if pages > 0
            && let Some(top) = path.components().next()
        {
            match self.tops.get_mut(top) {
                Some(known) => *known = known.saturating_add(pages),
                None => _ = self.tops.insert(top.to_vec(), pages),
            }
        }
        if self.entries > limits::WORKSPACE_ENTRIES {
            return Err(CopyError::TooMany { most: limits::WORKSPACE_ENTRIES });
        }
        if self.names > limits::PATHS_BYTES {
            return Err(CopyError::NamesTooLong { most: limits::PATHS_BYTES });
        }
        if self.bytes() > self.disk {
            return Err(CopyError::TooLarge { disk: self.disk, most: self.most() });
        }
        Ok(())
    }

    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    /// The space that the files take.
    pub(super) fn bytes(&self) -> u64 {
        self.pages.saturating_mul(PAGE_BYTES)
    }

    fn most(&self) -> Option<Most> {
        let (name, pages) = self.tops.iter().max_by_key(|(name, pages)| (**pages, *name))?;
        let path = RelPath::parse(name).ok()?;
        Some(Most { path, bytes: pages.saturating_mul(PAGE_BYTES) })
    }
}

/// The end of a sentence.
pub(super) fn is_mostly(most: Option<&Most>) -> String {
    let sentence = |most: &Most| format!("; {} has {} of it", most.path, text::limit(most.bytes));
    most.map(sentence).unwrap_or_default()
}

//! Why a stream is not a set of changes, or could not be stored. Each cause has its own words.

use std::io;
use std::path::Path;

use airlock_shared::limits;
use airlock_shared::outcome::{Fault, FaultKind};

use super::super::rel_path::{PathError, RelPath};
use super::super::tar_read::TarError;

/// Why a stream is not a set of changes.
#[derive(Debug, thiserror::Error)]
pub(in crate::workspace) enum IntakeError {
    #[error(transparent)]
    Tar(#[from] TarError),
    #[error("a path is refused: {0}")]
    Path(#[from] PathError),
    #[error("{0} is in it twice")]
    Twice(RelPath),
    #[error("{0} is in something that is not a folder")]
    Beneath(RelPath),
    #[error("a path is neither in tree/ nor in gone/")]
    Place,
    #[error("{0} is removed and has content")]
    GoneContent(RelPath),
    #[error("{0} is a link without a target")]
    NoTarget(RelPath),
    #[error("{0} is a link with a zero byte in its target")]
    NulTarget(RelPath),
    #[error("{0} is a link with a target that is too long")]
    LongTarget(RelPath),
    #[error(
        "it has more than {} paths, with the folders that it does not name",
        limits::CHANGES_ENTRIES
    )]
    TooManyFolders,
    #[error("its names are too long together, with the folders that it does not name")]
    NamesTooLong,
    #[error("it has an entry after its last one")]
    AfterEnd,
    #[error("its last entry is too long")]
    LongEnd,
    #[error("its last entry is not valid: {0}")]
    End(serde_json::Error),
    #[error("{0}, and the earlier set has paths that this one does not have")]
    Cut(String),
    #[error("the session was stopped before all of them were examined")]
    GivenUp,
    #[error("{0}")]
    Store(#[from] io::Error),
}

/// Why there is no new set of changes. The earlier one stays.
#[derive(Debug)]
pub enum ChangesRefused {
    /// The stream is not a set of changes.
    Malformed(Fault),
    /// The stream broke off, or the set could not be stored.
    Unkept(Fault),
}

impl ChangesRefused {
    pub(super) fn of(refused: &IntakeError, session: &Path) -> Self {
        let fault = |why: String| Fault::new(FaultKind::Workspace, why);
        match refused {
            IntakeError::Store(error) if error.kind() == io::ErrorKind::StorageFull => {
                Self::Unkept(no_space(session))
            }
            IntakeError::Store(error) => {
                Self::Unkept(fault(format!("the changes could not be kept: {error}")))
            }
            IntakeError::Cut(_) | IntakeError::GivenUp => {
                Self::Unkept(fault(format!("the changes could not be taken: {refused}")))
            }
            _ => Self::Malformed(fault(format!("the changes could not be taken: {refused}"))),
        }
    }
}

pub(super) fn no_space(session: &Path) -> Fault {
    let why =
        format!("the changes could not be kept: there is no space left in {}", session.display());
    Fault::new(FaultKind::Workspace, why)
}

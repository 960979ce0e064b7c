//! Updates the baseline after we ran git and before the turn: an index in which some paths are
//! marked, or a new repository. These are not changes of the agent.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use airlock_shared::outcome::Fault;
use rustix::fs::{AtFlags, Mode, OFlags};

use super::baseline::Baseline;
use super::workspace_fault;
use crate::exec::{ToolUser, UserThread};
use crate::tools::path::Root;
use crate::tools::walk::{self, Kind};

/// The repository at the root.
const REPOSITORY: &[u8] = b".git";
/// Entries of one directory in it.
const ENTRIES: usize = 400_000;
/// How often to check for the next tick. The kernel's clock ticks every few milliseconds.
const TICKS: u32 = 200;
const TICK: Duration = Duration::from_millis(1);

/// Returns a baseline with git's files as they are now. The given one is not changed.
///
/// # Errors
/// If the workspace cannot be opened.
pub(crate) async fn renew(
    root: &Path,
    uid: u32,
    gid: u32,
    baseline: Arc<Baseline>,
) -> Result<Baseline, Fault> {
    let worker = UserThread::start(ToolUser::new(uid, gid)?)?;
    let root = root.to_string_lossy().into_owned();
    let work = move || -> io::Result<Baseline> {
        let root = Root::open(&root)?;
        let mut baseline = Baseline::clone(&baseline);
        for path in baseline.indexes() {
            note(&root, &mut baseline, &path)?;
        }
        if !baseline.knows(REPOSITORY) && stat(&root, REPOSITORY).is_ok() {
            note_all(&root, &mut baseline)?;
        }
        settle(&root, &mut baseline)?;
        Ok(baseline)
    };
    let renewed = worker.run(work).await?;
    renewed.map_err(|error| workspace_fault(format!("the workspace cannot be read: {error}")))
}

fn stat(root: &Root, path: &[u8]) -> io::Result<rustix::fs::Stat> {
    Ok(rustix::fs::statat(root.as_fd(), path, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn note(root: &Root, baseline: &mut Baseline, path: &[u8]) -> io::Result<()> {
    let stat = stat(root, path)?;
    baseline.note(path.to_vec(), &stat, None);
    Ok(())
}

fn note_all(root: &Root, baseline: &mut Baseline) -> io::Result<()> {
    note(root, baseline, REPOSITORY)?;
    let mut dirs = vec![REPOSITORY.to_vec()];
    while let Some(dir) = dirs.pop() {
        let opened = walk::open(root.as_fd(), &dir, OFlags::RDONLY | OFlags::DIRECTORY)?;
        for entry in walk::entries(opened, ENTRIES)?.0 {
            let path = walk::joined(&dir, &entry.name);
            note(root, baseline, &path)?;
            if entry.kind == Kind::Dir {
                dirs.push(path);
            }
        }
    }
    Ok(())
}

/// Waits for the next tick of the clock. What is written after it has another time.
fn settle(root: &Root, baseline: &mut Baseline) -> io::Result<()> {
    let mode =
        Mode::from_raw_mode(rustix::fs::statat(root.as_fd(), ".", AtFlags::empty())?.st_mode);
    for _ in 0..TICKS {
        rustix::fs::chmodat(root.as_fd(), ".", mode, AtFlags::empty())?;
        let now = rustix::fs::statat(root.as_fd(), ".", AtFlags::empty())?;
        if baseline.is_settled(&now) {
            break;
        }
        std::thread::sleep(TICK);
    }
    Ok(())
}

//! What a person saves while an apply goes on is still there when it is over.

use super::*;
use crate::workspace::apply::check::FileIdentity;
use crate::workspace::beneath::Root;

/// How editors save, both with as many bytes as were there: over the file, and as a new one.
const WAYS: [fn(&ApplyFixture, &str); 2] = [in_place, anew];

pub(super) fn in_place(trial: &ApplyFixture, text: &str) {
    std::fs::write(trial.root.join("edit"), text).unwrap();
}

pub(super) fn anew(trial: &ApplyFixture, text: &str) {
    let new = trial.session.path().with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, trial.root.join("edit")).unwrap();
}

/// A change of a file, and the removal of it.
pub(super) async fn both() -> [ApplyFixture; 2] {
    let trials =
        [ApplyFixture::new(&["edit = base", "other = 1"]), ApplyFixture::new(&["edit = base"])];
    taken(&trials[0], TarBytes::default().file("edit", "sand").file("other", "2")).await;
    taken(&trials[1], TarBytes::default().gone("edit")).await;
    // Long before: a save moves the time of the file.
    for trial in &trials {
        let file = std::fs::File::options().write(true).open(trial.root.join("edit")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    trials
}

pub(super) fn apply_and(
    trial: &ApplyFixture,
    mut at: impl FnMut(ApplyStage),
) -> Result<Applied, ApplyError> {
    apply_watched(&trial.session, &mut at)
}

fn edit(trial: &ApplyFixture) -> String {
    std::fs::read_to_string(trial.root.join("edit")).unwrap()
}

#[tokio::test]
async fn what_is_saved_while_it_is_read_is_a_conflict() {
    for save in WAYS {
        for trial in both().await {
            // The control: a content, and then an identity, are of two files; the file that is
            // found before the rename has the identity, and is not the content.
            let (root, path) = (Root::open(&trial.root).unwrap(), RelPath::parse(b"edit").unwrap());
            let content = root.look(&path, &[4]).unwrap();
            save(&trial, "mine");
            let identity = || root.stat(&path).unwrap().as_ref().map(FileIdentity::of);
            assert_eq!(identity(), identity());
            assert_ne!(root.look(&path, &[4]).unwrap(), content);

            save(&trial, "base");
            let mut saved = false;
            let result = apply_and(&trial, |moment| {
                if moment == ApplyStage::Compare && !std::mem::replace(&mut saved, true) {
                    save(&trial, "mine");
                }
            });
            let Err(ApplyError::Conflicts(found)) = result else { panic!("{result:?}") };
            assert_eq!(found, [Conflict { path, found: FoundInstead::Different }]);
            assert_eq!(edit(&trial), "mine");
        }
    }
}

#[tokio::test]
async fn what_is_saved_before_the_rename_is_put_back() {
    for save in WAYS {
        for trial in both().await {
            let mut saved = false;
            let applied = apply_and(&trial, |moment| {
                if moment == ApplyStage::Swap && !std::mem::replace(&mut saved, true) {
                    save(&trial, "mine");
                }
            });
            let applied = applied.unwrap();
            let path = RelPath::parse(b"edit").unwrap();
            assert_eq!(applied.left, [Skipped { path, why: SkipReason::Changed }]);
            assert_eq!(edit(&trial), "mine");
            assert!(applied.staging_stays.is_none() && !store::is_applied(trial.session.path()));
        }
        // The control: without a save the file is replaced.
        let [changed, removed] = both().await;
        assert!(apply(&changed.session).unwrap().left.is_empty());
        assert!(apply(&removed.session).unwrap().left.is_empty());
        assert_eq!((edit(&changed).as_str(), removed.root.join("edit").exists()), ("sand", false));
    }
}

#[tokio::test]
async fn what_is_saved_before_the_rename_is_put_back_after_a_kill() {
    for trial in both().await {
        let killed = catch_unwind(AssertUnwindSafe(|| {
            apply_and(&trial, |moment| match moment {
                ApplyStage::Swap => in_place(&trial, "mine"),
                ApplyStage::Look => panic!("killed"),
                ApplyStage::Compare | ApplyStage::Step | ApplyStage::RemoveReplaced => {}
            })
        }));
        assert!(killed.is_err());
        let applied = apply(&trial.session).unwrap();
        assert!(applied.finished && applied.left.len() == 1);
        assert_eq!(edit(&trial), "mine");
    }
}

#[tokio::test]
async fn of_two_saves_the_last_counts() {
    for trial in both().await {
        let mut count = 0;
        let applied = apply_and(&trial, |moment| match moment {
            ApplyStage::Swap if count == 0 => in_place(&trial, "one"),
            ApplyStage::Look => {
                count += 1;
                if count == 1 {
                    anew(&trial, "two");
                }
            }
            _ => {}
        });
        let applied = applied.unwrap();
        assert_eq!(applied.left.len(), 1);
        assert_eq!(edit(&trial), "two");
        // The other is not lost either.
        let [path, at] = ["edit", "edit.airlock-saved"].map(|at| RelPath::parse(at.as_bytes()));
        assert_eq!(applied.saved, [Saved { path: path.unwrap(), at: at.unwrap() }]);
        let one = std::fs::read_to_string(trial.root.join("edit.airlock-saved")).unwrap();
        assert_eq!(one, "one");
    }
}

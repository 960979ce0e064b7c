//! What a program writes into a file that it had open before an apply is there when it is over.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;

use super::saved::{anew, apply_and, both};
use super::*;

/// The file, as a program holds it that opened it long before.
fn held(trial: &ApplyFixture) -> File {
    File::options().write(true).open(trial.root.join("edit")).unwrap()
}

fn moved(path: &str, at: &str) -> Saved {
    let [path, at] = [path, at].map(|it| RelPath::parse(it.as_bytes()).unwrap());
    Saved { path, at }
}

fn read(trial: &ApplyFixture, path: &str) -> Option<String> {
    std::fs::read_to_string(trial.root.join(path)).ok()
}

fn kill(trial: &ApplyFixture, mut at: impl FnMut(ApplyStage)) {
    let killed = catch_unwind(AssertUnwindSafe(|| apply_and(trial, &mut at)));
    assert!(killed.is_err());
}

#[tokio::test]
async fn what_is_written_into_the_old_file_is_saved_beside_the_new_one() {
    for (trial, new) in both().await.into_iter().zip([Some("sand"), None]) {
        let mut file = held(&trial);
        let applied = apply_and(&trial, |moment| {
            if moment == ApplyStage::RemoveReplaced {
                file.write_all(b"mine").unwrap();
            }
        });
        assert_eq!(applied.unwrap().saved, [moved("edit", "edit.airlock-saved")]);
        assert_eq!(read(&trial, "edit.airlock-saved").as_deref(), Some("mine"));
        assert_eq!((read(&trial, "edit").as_deref(), file.metadata().unwrap().nlink()), (new, 1));
        assert!(store::is_applied(trial.session.path()));
    }
    // The control: a file that no program wrote into is removed, with what is written afterwards.
    for trial in both().await {
        let file = held(&trial);
        assert_eq!(apply(&trial.session).unwrap().saved, []);
        assert_eq!(
            (read(&trial, "edit.airlock-saved"), file.metadata().unwrap().nlink()),
            (None, 0)
        );
    }
}

#[tokio::test]
async fn a_saved_file_takes_the_name_of_no_other_file() {
    let [trial, _] = both().await;
    std::fs::write(trial.root.join("edit.airlock-saved"), "other").unwrap();
    let mut file = held(&trial);
    let applied = apply_and(&trial, |moment| {
        if moment == ApplyStage::RemoveReplaced {
            file.write_all(b"mine").unwrap();
        }
    });
    assert_eq!(applied.unwrap().saved, [moved("edit", "edit.airlock-saved-2")]);
    assert_eq!(read(&trial, "edit.airlock-saved").as_deref(), Some("other"));
    assert_eq!(read(&trial, "edit.airlock-saved-2").as_deref(), Some("mine"));
}

/// Killed, and then gone on with, or given up.
#[tokio::test]
async fn what_is_written_after_a_kill_is_saved_beside_the_new_file() {
    for gives_up in [false, true] {
        for trial in both().await {
            let mut file = held(&trial);
            kill(&trial, |moment| assert_ne!(moment, ApplyStage::RemoveReplaced));
            file.write_all(b"mine").unwrap();
            let saved = match gives_up {
                true => discard(&trial.session).unwrap().unwrap(),
                false => apply(&trial.session).unwrap().saved,
            };
            assert_eq!(saved, [moved("edit", "edit.airlock-saved")]);
            assert_eq!(read(&trial, "edit.airlock-saved").as_deref(), Some("mine"));
        }
    }
}

/// The other way to save: a new file came to the path just before it was taken out.
#[tokio::test]
async fn a_replaced_file_that_was_never_compared_is_saved_when_the_apply_is_given_up() {
    for trial in both().await {
        kill(&trial, |moment| match moment {
            ApplyStage::Swap => anew(&trial, "mine"),
            ApplyStage::Look => panic!("killed"),
            _ => {}
        });
        assert_eq!(
            discard(&trial.session).unwrap(),
            Some(vec![moved("edit", "edit.airlock-saved")])
        );
        assert_eq!(read(&trial, "edit.airlock-saved").as_deref(), Some("mine"));
    }
}

/// A file becomes a folder, and a folder a file.
#[tokio::test]
async fn what_made_room_is_there_after_giving_up_at_any_step() {
    let (mut given_up, mut moved) = (0, 0);
    for step in 0.. {
        let trial = ApplyFixture::new(&["f = person f", "d/x = person x"]);
        let stream = TarBytes::default().folder("f").file("f/y", "new").file("d", "new");
        taken(&trial, stream).await;
        let mut count = 0;
        let killed = catch_unwind(AssertUnwindSafe(|| {
            apply_and(&trial, |_| {
                assert_ne!(count, step, "killed");
                count += 1;
            })
        }));
        if killed.is_ok() {
            break;
        }
        let was_applied = store::is_applied(trial.session.path());
        let begun = discard(&trial.session).unwrap();
        let texts: Vec<String> = tree(&trial.root).into_values().collect();
        let staged = trial.root.join(format!(".airlock-apply-{}", trial.session.id()));
        assert!(!staged.exists(), "killed at {step}");
        if was_applied {
            continue;
        }
        for text in ["person f", "person x"] {
            assert!(texts.iter().any(|it| it.ends_with(text)), "killed at {step}: {texts:?}");
        }
        given_up += 1;
        moved += begun.map_or(0, |all| all.len());
    }
    assert!(given_up > 8 && moved > 0, "{given_up} {moved}");
}

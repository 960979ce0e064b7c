//! `airlock doctor` tries the backend of `airlock run`; a session that cannot reach its backend
//! names `airlock doctor` with the same flags.

use airlock_tests::Rig;
use airlock_tests::backend::{Backend, script};
use airlock_tests::engine::Engine;
use airlock_tests::images;

use super::{flags, key_file, run_cli};

#[tokio::test]
async fn the_hint_of_a_run_makes_doctor_try_the_same_backend() {
    let engine = Engine::connect().await;
    images::ready(&engine).await;
    let rig = Rig::new();
    let key = key_file(&rig);
    let base = ["--base-url", "http://127.0.0.1:1/v1", "--api-key-file", &key];
    let run = [&["run", "p", "--image", images::BUSYBOX][..], &base].concat();
    let run = run_cli(&rig, &run).await;
    assert_eq!(run.exit, Some(1), "{run:#?}");
    let hint = run.stderr.lines().last().unwrap_or_default();
    assert_eq!(
        hint, "airlock doctor --api-key-file ~/key --base-url http://127.0.0.1:1/v1",
        "{run:#?}"
    );
    let hint = hint.replace('~', &rig.home().display().to_string());
    let doctor = run_cli(&rig, &hint.split(' ').skip(1).collect::<Vec<_>>()).await;
    let row = row(&doctor.stderr);
    assert!(row[0].starts_with("backend    no list of models: http://127.0.0.1:1: "), "{row:#?}");
    assert_eq!(row[1], "           curl -I http://127.0.0.1:1");
    assert!(!doctor.stderr.contains(rig.key()), "{doctor:#?}");
}

#[tokio::test]
async fn a_backend_that_answers_is_shown_with_its_models() {
    let rig = Rig::new();
    let backend = Backend::scripted(script![]);
    let flags = flags(&rig, &backend);
    let line: Vec<&str> = flags.iter().map(String::as_str).collect();
    // The first two flags name an image.
    let doctor = run_cli(&rig, &[&["doctor"], &line[2..]].concat()).await;
    let row = row(&doctor.stderr);
    assert!(row[0].starts_with(&format!("backend    {}", backend.url())), "{row:#?}");
    assert!(row[0].contains(" lists ") && row[0].ends_with("  ok"), "{row:#?}");
    let none = run_cli(&rig, &["doctor"]).await;
    assert!(none.stderr.contains("backend    there is no login or key"), "{none:#?}");
}

/// The row about the backend, and the rows after it.
fn row(result: &str) -> Vec<&str> {
    let row = result.lines().skip_while(|line| !line.starts_with("backend")).collect::<Vec<_>>();
    assert!(!row.is_empty(), "no such row: {result}");
    row
}

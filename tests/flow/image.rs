//! Images: pulled where they are absent, named by their digest, told where they cannot be had.

use airlock_tests::Rig;
use airlock_tests::backend::{answer, script};
use airlock_tests::engine::Engine;
use airlock_tests::images::{self, BUSYBOX};
use airlock_tests::registry::Registry;

#[tokio::test]
async fn an_absent_image_is_pulled_and_its_digest_recorded() {
    let engine = Engine::connect().await;
    images::ready(&engine).await;
    let registry = Registry::start().await;
    let name = registry.push(&engine, BUSYBOX, "to-pull").await;
    let ran = Rig::new().image(&name).model(script![answer("ok")]).prompt("x").run().await;
    drop(engine.delete(&format!("/images/{name}")).await);
    let ran = ran.assert_finished("ok");
    let started = ran.events_named("started").remove(0);
    let digest = started["image"]["digest"].as_str().unwrap_or_default().to_owned();
    assert_eq!(started["image"]["name"], name, "{started}");
    let (repository, hash) = digest.split_once("@sha256:").unwrap_or_default();
    assert_eq!((format!("{repository}:1"), hash.len()), (name.clone(), 64), "{started}");
    let shown = ran.rig.command("show").await.arg(ran.id()).output().await.expect("airlock");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains(&digest), "{shown}");
}

#[tokio::test]
async fn an_image_that_cannot_be_had_is_one_clear_error() {
    let rig = Rig::new().image("127.0.0.1:1/nobody/nothing:1").model(script![]);
    let ran = rig.prompt("x").run().await.assert_exit(6, "127.0.0.1:1/nobody/nothing:1");
    assert!(ran.assert_nothing_left_behind().await.backend.model_requests().is_empty());
}

//! An image that is not here: fetched by its digest from a registry, refused where it is nowhere,
//! given up when a person has enough of waiting.

use airlock_tests::Rig;
use airlock_tests::backend::{answer, script};
use airlock_tests::engine::Engine;
use airlock_tests::registry::Registry;
use airlock_tests::rig::Ran;
use rustix::process::Signal;

/// An image like no other, in the registry and nowhere else: its name by tag and by digest.
async fn published(engine: &Engine, registry: &Registry) -> (String, String) {
    let unique = format!("airlock-test-pull-{:016x}:1", rand::random::<u64>());
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(unique.len() as u64);
    tar.append_data(&mut header, "unique", unique.as_bytes()).expect("a tar in memory");
    engine.import(&unique, tar.into_inner().expect("a tar in memory")).await;
    let tagged = registry.push(engine, &unique, "pulled").await;
    let told = engine.get(&format!("/distribution/{tagged}/json")).await.done("ask a registry");
    let digest = told.json()["Descriptor"]["digest"].as_str().expect("a digest").to_owned();
    drop(engine.delete(&format!("/images/{unique}?force=1")).await);
    let repository = tagged.strip_suffix(":1").expect("a tag");
    let by_digest = format!("{repository}@{digest}");
    drop(engine.delete(&format!("/images/{by_digest}")).await);
    for name in [&tagged, &by_digest, &unique] {
        assert!(!engine.has_image(name).await, "{name} is here already");
    }
    (tagged, by_digest)
}

async fn pulls(engine: &Engine, name: &str, digest: &str) {
    let ran = Rig::new().image(name).model(script![answer("ok")]).prompt("x").run().await;
    drop(engine.delete(&format!("/images/{digest}?force=1")).await);
    drop(engine.delete(&format!("/images/{name}?force=1")).await);
    let ran = ran.assert_finished("ok").assert_nothing_left_behind().await;
    let notes = ran.events_named("note");
    let fetching = format!("fetching {name}");
    assert!(notes.iter().any(|note| note["text"] == fetching.as_str()), "{notes:#?}");
    let record = ran.record().await;
    assert_eq!(
        (&record["image"]["name"], &record["image"]["digest"]),
        (&name.into(), &digest.into())
    );
}

#[tokio::test]
async fn an_image_is_pulled_by_its_digest_and_by_its_tag() {
    let engine = Engine::connect().await;
    let registry = Registry::start().await;
    let (tagged, by_digest) = published(&engine, &registry).await;
    pulls(&engine, &by_digest, &by_digest).await;
    pulls(&engine, &tagged, &by_digest).await;
}

async fn refused(image: &str, says: &str) -> Ran {
    let ran = Rig::new().image(image).model(script![]).prompt("x").run().await;
    let said = ran.stderr.replace('\n', " ");
    assert_eq!(ran.exit, Some(6), "{said}");
    assert!(said.contains(says), "{said}");
    assert!(ran.backend.requests().is_empty(), "the backend was asked");
    ran.assert_nothing_left_behind().await
}

#[tokio::test]
async fn an_image_that_its_registry_does_not_have_is_refused() {
    let engine = Engine::connect().await;
    let registry = Registry::start().await;
    let (tagged, by_digest) = published(&engine, &registry).await;
    let repository = tagged.strip_suffix(":1").expect("a tag");
    drop(refused(&format!("{repository}:2"), "no registry has it").await);
    let mut other = by_digest;
    let last = if other.pop() == Some('0') { '1' } else { '0' };
    other.push(last);
    drop(refused(&other, "docker pull").await);
}

/// A name of ours is made here and never asked of a registry; what is no name is asked of nobody.
#[tokio::test]
async fn a_name_of_ours_is_never_fetched() {
    drop(refused("airlock-base:of-somebody-else", "airlock setup image").await);
    drop(refused("../evil", "is not a valid image name").await);
}

/// A registry that takes the connection and says nothing.
#[tokio::test]
async fn a_pull_that_hangs_ends_with_ctrl_c() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = silent.local_addr().expect("a bound socket").port();
    let image = format!("127.0.0.1:{port}/never/there:1");
    let mut live = Rig::new().image(&image).model(script![]).prompt("x").start().await;
    live.event("note").await;
    live.signal(Signal::INT);
    let ran = live.end().await;
    drop(ran.assert_exit(130, "").assert_nothing_left_behind().await);
}

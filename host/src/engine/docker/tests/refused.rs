//! Containers that are not what was asked for are refused and removed.

use super::*;

#[tokio::test]
async fn an_engine_that_enforces_less_is_refused() {
    let docker = engine().await;
    let image = empty(&docker, "LABEL airlock.trial=tests").await;
    let spec = spec(IN_MEMORY);
    let sandbox = docker.prepare(&image, &spec).await.unwrap();
    let entry = BinaryMount::random();
    let asked = plan::plan(&spec, &image, &sandbox, &entry);
    let options = CreateContainerOptionsBuilder::new().name(&plan::container_name(&spec.session));
    let made = docker.client().create_container(Some(options.build()), asked.body.clone()).await;
    let found = docker.client().inspect_container(&made.unwrap().id, None).await.unwrap();
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    let name = plan::container_name(&spec.session);
    docker.client().remove_container(&name, Some(options)).await.unwrap();
    for volume in plan::own_volumes(&spec, &asked.body) {
        docker.remove_volume(&volume).await.unwrap();
    }
    remove_image(&docker, &image).await;

    assert_eq!(verify::outside(&asked.checks, &found), []);
    // This engine's description of the same container with exactly one rule dropped.
    let host = found.host_config.clone().unwrap();
    assert!(host.masked_paths.is_some_and(|paths| !paths.is_empty()), "it lists them");
    let changed = HostConfig { memory: Some(0), ..found.host_config.clone().unwrap() };
    let weaker = ContainerInspectResponse { host_config: Some(changed), ..found };
    let refused = verify::refuse(verify::outside(&asked.checks, &weaker)).unwrap_err();
    assert_eq!(refused, EngineError::Weaker { missing: vec!["no memory limit".to_owned()] });
}

/// A program of the image runs in place of ours, and writes a ready line like ours.
#[tokio::test]
async fn another_program_that_says_ready_gets_no_handoff() {
    let docker = engine().await;
    let image = base(&docker).await;
    let spec = spec(IN_MEMORY);
    let sandbox = docker.prepare(&image, &spec).await.unwrap();
    let honest = docker.plan(spec, &image, &sandbox).create().await.unwrap().start().await.unwrap();
    assert_eq!(honest.unchecked(), [], "this engine can say which program runs");
    let line =
        output_of(&docker, honest.name(), "0", "cat /proc/self/status /proc/self/mountinfo").await;
    honest.remove().await.unwrap();
    assert!(line.contains("Seccomp:\t2"), "{line}");

    let script = format!("#!/bin/sh\necho '{}'\nread line\necho \"got $line\" >&2\n", held());
    let sha = id();
    let other: &'static [u8] = script.into_bytes().leak();
    let spec = self::spec(IN_MEMORY);
    let sandbox = docker.put_binary(other, &sha, &image, &spec).await.unwrap();
    let name = plan::container_name(&spec.session);
    let error = docker.plan(spec, &image, &sandbox).create().await.unwrap().start().await;
    let error = error.unwrap_err();
    assert!(matches!(&error, EngineError::Impostor { found } if found.ends_with("sh")), "{error}");
    assert!(!is_there(&docker, &name).await);

    // The control: only the check from outside keeps the handoff from it.
    let Ok(line) = serde_json::from_str::<airlock_shared::handoff::Ready>(&held()) else {
        panic!("not even a ready line")
    };
    let spec = self::spec(IN_MEMORY);
    let plan = plan::plan(&spec, &image, &sandbox, &BinaryMount::random());
    assert_eq!(verify::inside(&plan.checks, line.confinement.as_ref(), &[]), []);
    docker.remove_volume(&format!("airlock-sandbox-{}", &sha[..24])).await.unwrap();
    docker.remove_volume(sandbox.name()).await.unwrap();
}

//! Images: our own base image, and images that cannot be fetched.

use super::*;

#[tokio::test]
async fn the_tools_of_the_base_image_work_as_the_tool_user() {
    let docker = engine().await;
    let image = base(&docker).await;
    let spec = spec(IN_MEMORY);
    let sandbox = docker.prepare(&image, &spec).await.unwrap();
    let ready = docker.plan(spec, &image, &sandbox).create().await.unwrap().start().await.unwrap();
    let script = "cd /workspace && export HOME=/home/agent && git init -q . \
        && git config user.email a@b && git config user.name a && echo one two > f \
        && git add f && git commit -qm m && git log --format=%s \
        && python3 -c 'import json, ssl; print(len(ssl.create_default_context().get_ca_certs()) > 50)' \
        && rg -c one f && awk '{print $2}' f && curl --version | cut -c1-4 | head -1 \
        && bash -c 'echo $0' && which patch && id -un";
    let tools = output_of(&docker, ready.name(), "64200:64200", script).await;
    ready.remove().await.unwrap();
    assert_eq!(tools, "m\nTrue\n1\ntwo\ncurl\nbash\n/usr/bin/patch\nagent");
}

#[tokio::test]
async fn our_own_image_is_never_fetched() {
    let docker = engine().await;
    let error = docker.image("airlock-base:000000000000", &mut |_| {}).await.unwrap_err();
    assert_eq!(
        error,
        EngineError::ImageAbsent {
            image: "airlock-base:000000000000".into(),
            command: "airlock setup image".into()
        }
    );
}

#[tokio::test]
async fn a_missing_image_is_an_error_with_a_command() {
    let docker = engine().await;
    let mut heard = Vec::new();
    let name = "127.0.0.1:9/none:1";
    let error = docker.image(name, &mut |line| heard.push(line)).await.unwrap_err();
    let (_, _, command) = error.describe();
    assert!(matches!(error, EngineError::ImagePull { .. }), "{error}");
    assert_eq!(command.as_deref(), Some("docker pull 127.0.0.1:9/none:1"));
    assert_eq!(heard, ["fetching 127.0.0.1:9/none:1"]);
}

#[tokio::test]
async fn a_volume_of_the_image_is_read_only() {
    let docker = engine().await;
    let image = empty(&docker, "VOLUME /data").await;
    assert_eq!(image.volumes, ["/data"]);
    let spec = spec(IN_MEMORY);
    let sandbox = docker.prepare(&image, &spec).await.unwrap();
    let created = docker.plan(spec, &image, &sandbox).create().await.unwrap();
    let ready = created.start().await.unwrap();
    let found = docker.client().inspect_container(ready.name(), None).await.unwrap();
    let data: Vec<_> = found
        .mounts
        .unwrap()
        .into_iter()
        .filter(|mount| mount.destination.as_deref() == Some("/data"))
        .collect();
    ready.remove().await.unwrap();
    assert_eq!(data.len(), 1);
    assert_eq!(data[0].rw, Some(false));
    let volume = docker.client().inspect_volume(data[0].name.as_deref().unwrap()).await;
    assert!(volume.is_err(), "the anonymous volume is gone with its sandbox");
    remove_image(&docker, &image).await;
}

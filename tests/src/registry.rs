//! A real registry on this machine's loopback, for what only a pull can show: Debian's
//! `docker-registry`, extracted and not installed. The engine needs no configuration for it.

use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::engine::Engine;
use crate::images;

/// A running registry. Dropping it ends it.
pub struct Registry {
    port: u16,
    _folder: TempDir,
    _child: Child,
    _reading: JoinHandle<()>,
}

impl Registry {
    /// # Panics
    /// When the package cannot be had, or the registry does not answer.
    pub async fn start() -> Self {
        let package = images::package("docker-registry").await;
        let package = package.unwrap_or_else(|why| panic!("no registry on this machine: {why}"));
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let storage = folder.path().join("storage");
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"127.0.0.1:0\"}}\n",
            storage.display()
        );
        let file = folder.path().join("config.yml");
        std::fs::write(&file, config).expect("the temporary folder can be written");
        let mut child = Command::new(package.join("usr/bin/docker-registry"))
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the registry can be started");
        // A port that we had found free could be another test's by now: the registry takes its own.
        let mut said = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut all = String::new();
        while let Some(line) = said.next_line().await.expect("text") {
            let port = line.split_once("listening on 127.0.0.1:").and_then(|(_, rest)| {
                rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
            });
            if let Some(port) = port {
                // It would end with a pipe that nobody reads.
                let reading =
                    tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
                return Self { port, _folder: folder, _child: child, _reading: reading };
            }
            all.push_str(&line);
            all.push('\n');
        }
        panic!("the registry does not start: {all}");
    }

    /// Puts a local image into it, and forgets the local name: what is left is to be pulled.
    ///
    /// # Panics
    /// When the engine does not do it.
    pub async fn push(&self, engine: &Engine, image: &str, name: &str) -> String {
        let repository = format!("127.0.0.1:{}/{name}", self.port);
        let path = format!("/images/{image}/tag?repo={repository}&tag=1");
        drop(engine.post(&path, &Value::Null).await.done("name an image"));
        let pushed = engine.push(&repository, "1").await;
        assert!(!pushed.contains("errorDetail"), "push: {pushed}");
        let full = format!("{repository}:1");
        drop(engine.delete(&format!("/images/{full}")).await.done("forget an image's name"));
        full
    }
}

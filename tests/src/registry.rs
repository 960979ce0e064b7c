//! A real registry on this machine's loopback, for what only a pull can show: Debian's
//! `docker-registry`, extracted and not installed. The engine needs no configuration for it.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::engine::Engine;
use crate::images;

/// A running registry. Dropping it ends it.
pub struct Registry {
    port: u16,
    _folder: TempDir,
    _child: Child,
}

impl Registry {
    /// # Panics
    /// When the package cannot be had, or the registry does not answer.
    pub async fn start() -> Self {
        let package = images::package("docker-registry").await;
        let package = package.unwrap_or_else(|why| panic!("no registry on this machine: {why}"));
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let port = free.expect("a free port").port();
        let storage = folder.path().join("storage");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"127.0.0.1:{port}\"}}\n",
            storage.display()
        );
        let file = folder.path().join("config.yml");
        std::fs::write(&file, config).expect("the temporary folder can be written");
        let child = Command::new(package.join("usr/bin/docker-registry"))
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the registry can be started");
        for _ in 0..200 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Self { port, _folder: folder, _child: child };
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the registry does not answer on port {port}");
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

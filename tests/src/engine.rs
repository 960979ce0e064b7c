//! The Docker engine of this machine, spoken to by hand: tests want its answers raw, and must not
//! share a library's blind spots with the product.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::clock;
use crate::rig::PATIENCE;

/// An engine that answered once.
#[derive(Clone, Debug)]
pub struct Engine {
    socket: PathBuf,
}

/// In the place of a content type: a push.
const PUSH: &str = "push";

/// What the engine said.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Bytes,
}

impl Answer {
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// # Panics
    /// When the engine did not do it.
    #[must_use]
    pub fn done(self, what: &str) -> Self {
        let said = String::from_utf8_lossy(&self.body);
        assert!(self.status < 400, "the engine would not {what}: {} {said}", self.status);
        self
    }
}

impl Engine {
    /// The engine of `DOCKER_HOST` or of the usual socket. Where there is none, these tests end
    /// with one sentence, at once: there is nothing they could find out.
    pub async fn connect() -> Self {
        let host = std::env::var("DOCKER_HOST").unwrap_or_default();
        let socket = match host.strip_prefix("unix://") {
            _ if host.is_empty() => "/var/run/docker.sock".into(),
            Some(path) => PathBuf::from(path),
            None => missing(&format!("DOCKER_HOST is {host}, and only a unix:// engine will do")),
        };
        let engine = Self { socket };
        match engine.try_request(Method::GET, "/_ping", "", Bytes::new()).await {
            Ok(answer) if answer.status == 200 => engine,
            Ok(answer) => missing(&format!("it answered {}", answer.status)),
            Err(error) => missing(&format!("{}: {error}", engine.socket.display())),
        }
    }

    /// An engine that nobody asked yet whether it is there.
    #[must_use]
    pub fn at(socket: &str) -> Self {
        Self { socket: PathBuf::from(socket) }
    }

    #[must_use]
    pub fn socket(&self) -> &std::path::Path {
        &self.socket
    }

    async fn try_request(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let stream = UnixStream::connect(&self.socket).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driving = tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "docker");
        let request = match content_type {
            "" => request,
            // The engine wants credentials for a push, and takes empty ones.
            PUSH => request.header("x-registry-auth", "e30="),
            given => request.header("content-type", given),
        };
        let response = sender.send_request(request.body(Full::new(body))?).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        driving.abort();
        Ok(Answer { status, body })
    }

    async fn request(&self, method: Method, path: &str, kind: &str, body: Bytes) -> Answer {
        let answer = self.try_request(method, path, kind, body).await;
        answer.unwrap_or_else(|error| panic!("the engine broke off at {path}: {error}"))
    }

    /// # Panics
    /// When the engine breaks off.
    pub async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, "", Bytes::new()).await
    }

    /// # Panics
    /// When the engine breaks off.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        self.request(Method::POST, path, "application/json", body).await
    }

    /// # Panics
    /// When the engine breaks off.
    pub async fn delete(&self, path: &str) -> Answer {
        self.request(Method::DELETE, path, "", Bytes::new()).await
    }

    /// Makes an image of a tar, under a name, with a label that says whose it is.
    ///
    /// # Panics
    /// When the engine does not take it.
    pub async fn import(&self, name: &str, tar: Vec<u8>) {
        self.import_changed(name, tar, &[]).await;
    }

    /// The same, with lines of a Dockerfile.
    ///
    /// # Panics
    /// When the engine does not take it.
    pub async fn import_changed(&self, name: &str, tar: Vec<u8>, changes: &[&str]) {
        let (repo, tag) = name.split_once(':').unwrap_or((name, "latest"));
        let mut path = format!(
            "/images/create?fromSrc=-&repo={repo}&tag={tag}&changes=LABEL+airlock.tests%3Drig"
        );
        for change in changes {
            let change: String = form_urlencoded::byte_serialize(change.as_bytes()).collect();
            path.push_str(&format!("&changes={change}"));
        }
        let answer = self.request(Method::POST, &path, "application/x-tar", tar.into()).await;
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.status == 200 && !said.contains("errorDetail"), "import of {name}: {said}");
    }

    /// Builds an image from a folder with a Dockerfile in it, as a tar.
    ///
    /// # Panics
    /// When the engine does not build it.
    pub async fn build(&self, name: &str, context: Vec<u8>) {
        let path = format!("/build?t={name}&rm=1&forcerm=1&networkmode=none");
        let answer = self.request(Method::POST, &path, "application/x-tar", context.into()).await;
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.status == 200 && !said.contains("errorDetail"), "build of {name}: {said}");
    }

    /// Pushes a tag; what the engine told.
    pub async fn push(&self, repository: &str, tag: &str) -> String {
        let path = format!("/images/{repository}/push?tag={tag}");
        let answer = self.request(Method::POST, &path, PUSH, Bytes::new()).await;
        String::from_utf8_lossy(&answer.body).into_owned()
    }

    pub async fn has_image(&self, name: &str) -> bool {
        self.get(&format!("/images/{name}/json")).await.status == 200
    }

    /// All containers, running or not.
    pub async fn containers(&self) -> Vec<Value> {
        let list = self.get("/containers/json?all=1").await.done("list its containers").json();
        list.as_array().cloned().unwrap_or_default()
    }

    /// The processes of a container: each one's pid on this machine, and its name.
    pub async fn processes(&self, id: &str) -> Vec<(i32, String)> {
        let shown = self.get(&format!("/containers/{id}/top?ps_args=-eo%20pid,comm")).await.json();
        let rows = shown["Processes"].as_array().cloned().unwrap_or_default();
        let process =
            |row: Value| Some((row[0].as_str()?.parse().ok()?, row[1].as_str()?.to_owned()));
        rows.into_iter().filter_map(process).collect()
    }

    /// Whether a container is there and runs.
    pub async fn is_running(&self, id: &str) -> bool {
        self.get(&format!("/containers/{id}/json")).await.json()["State"]["Running"] == true
    }

    /// Waits until a container runs no more.
    ///
    /// # Panics
    /// When it runs on for ever.
    pub async fn ended(&self, id: &str) {
        let deadline = clock::now() + PATIENCE;
        while self.is_running(id).await {
            assert!(clock::now() < deadline, "the container {id} does not end");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// How many processes of a container are this command line.
    pub async fn count_of(&self, id: &str, command: &str) -> usize {
        let told = self.get(&format!("/containers/{id}/top?ps_args=-eo%20pid,args")).await.json();
        let rows = told["Processes"].as_array().into_iter().flatten();
        rows.filter(|row| row[1] == command).count()
    }

    pub async fn volumes(&self) -> Vec<Value> {
        let list = self.get("/volumes").await.done("list its volumes").json();
        list.get("Volumes").and_then(Value::as_array).cloned().unwrap_or_default()
    }

    /// Starts a container of the tests' own, labelled as such.
    pub async fn start(&self, image: &str, command: &[&str], differences: Value) -> Container {
        let mut config = json!({
            "Image": image, "Entrypoint": [], "Cmd": command, "User": "0",
            "Labels": {"airlock.tests": "rig"}, "HostConfig": {"NetworkMode": "none"},
        });
        if let (Some(config), Value::Object(differences)) = (config.as_object_mut(), differences) {
            config.extend(differences);
        }
        let created = self.post("/containers/create", &config).await.done("create a container");
        let id = created.json()["Id"].as_str().unwrap_or_default().to_owned();
        let container = Container { engine: self.clone(), id };
        let path = format!("/containers/{}/start", container.id);
        let started = self.post(&path, &Value::Null).await;
        if started.status >= 400 {
            container.remove().await;
        }
        drop(started.done("start a container"));
        Container {
            engine: self.clone(),
            id: created.json()["Id"].as_str().unwrap_or_default().into(),
        }
    }
}

/// A container of the tests' own. It is removed by [`Container::remove`], and by nothing else: a
/// test that panics leaves it to be looked at, labelled `airlock.tests=rig`.
pub struct Container {
    engine: Engine,
    pub id: String,
}

impl Container {
    /// Waits for its end; its exit code.
    pub async fn wait(&self) -> i64 {
        let path = format!("/containers/{}/wait", self.id);
        let ended = self.engine.post(&path, &Value::Null).await.done("wait for a container");
        ended.json()["StatusCode"].as_i64().unwrap_or(-1)
    }

    /// Everything on its stdout and stderr so far.
    pub async fn said(&self) -> String {
        let logs = format!("/containers/{}/logs?stdout=1&stderr=1", self.id);
        String::from_utf8_lossy(&self.engine.get(&logs).await.body).into_owned()
    }

    /// Waits until it has said this; everything it said.
    ///
    /// # Panics
    /// When it does not say it.
    pub async fn until_said(&self, word: &str) -> String {
        let deadline = clock::now() + PATIENCE;
        loop {
            let said = self.said().await;
            if said.contains(word) {
                return said;
            }
            let in_time = clock::now() < deadline && self.engine.is_running(&self.id).await;
            assert!(in_time, "it never said {word}: {said}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn remove(self) {
        let path = format!("/containers/{}?force=1&v=1", self.id);
        drop(self.engine.delete(&path).await);
    }
}

/// Says it once, whatever captures what tests print, and ends.
fn missing(reason: &str) -> ! {
    use std::io::Write as _;
    let line = format!("these tests need a Docker engine on this machine: {reason}\n");
    // Nothing is left to do about a standard error that is gone.
    drop(std::io::stderr().write_all(line.as_bytes()));
    std::process::exit(1);
}

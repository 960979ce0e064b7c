//! The first word with an engine on this machine: which version of its API it speaks.
//!
//! # Why not `/version`
//! To say what it is made of, Docker starts `runc --version` and `docker-init --version`: five
//! milliseconds of every run. A ping names the version of the API in a header.

use bollard::ClientVersion;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::task::AbortOnDropHandle;

use super::connect::Transport;

/// What the engine speaks; `None` where a ping does not tell, whatever the reason.
pub(super) async fn version(way: &Transport) -> Option<ClientVersion> {
    match way {
        Transport::Unix(path) => ping(UnixStream::connect(path).await.ok()?).await,
        Transport::Plain(address) => ping(TcpStream::connect(address).await.ok()?).await,
        Transport::Tls { .. } => None,
    }
}

async fn ping(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Option<ClientVersion> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let request = Request::get("/_ping").header(header::HOST, "docker");
    let answer = sender.send_request(request.body(Empty::<Bytes>::new()).ok()?).await.ok()?;
    parsed(answer.headers().get("api-version")?.to_str().ok()?)
}

fn parsed(version: &str) -> Option<ClientVersion> {
    let (major, minor) = version.split_once('.')?;
    Some(ClientVersion { major_version: major.parse().ok()?, minor_version: minor.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// What a ping learns from an engine that answers so.
    async fn learned(answer: &'static str) -> Option<(usize, usize)> {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let engine = async move {
            let mut asked = vec![0; 1024];
            let read = theirs.read(&mut asked).await.expect("a request");
            assert!(asked[..read].starts_with(b"GET /_ping HTTP/1.1\r\n"));
            theirs.write_all(answer.as_bytes()).await.expect("a reader");
        };
        let (version, ()) = tokio::join!(ping(ours), engine);
        version.map(|version| (version.major_version, version.minor_version))
    }

    #[tokio::test]
    async fn a_ping_names_the_version() {
        let docker = "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 2\r\n\r\nOK";
        assert_eq!(learned(docker).await, Some((1, 41)));
        for silent in [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK",
            "HTTP/1.1 200 OK\r\nApi-Version: new\r\nContent-Length: 2\r\n\r\nOK",
            "no engine at all\r\n\r\n",
            "",
        ] {
            assert_eq!(learned(silent).await, None, "{silent:?}");
        }
    }
}

//! The first request to an engine on this machine: which version of the API it supports.
//!
//! # Why not `/version`
//! To answer that, Docker starts `runc --version` and `docker-init --version`, which costs every
//! session five milliseconds. The answer to a ping names the version of the API in a header.

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

/// The version that the engine supports; `None` if a ping does not show it, for any reason.
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
    parse(answer.headers().get("api-version")?.to_str().ok()?)
}

fn parse(version: &str) -> Option<ClientVersion> {
    let (major, minor) = version.split_once('.')?;
    Some(ClientVersion { major_version: major.parse().ok()?, minor_version: minor.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// The version that a ping finds in this answer.
    async fn version_in(answer: &'static str) -> Option<(usize, usize)> {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let engine = async move {
            let mut request = vec![0; 1024];
            let read = theirs.read(&mut request).await.expect("a request");
            assert!(request[..read].starts_with(b"GET /_ping HTTP/1.1\r\n"));
            theirs.write_all(answer.as_bytes()).await.expect("a reader");
        };
        let (version, ()) = tokio::join!(ping(ours), engine);
        version.map(|version| (version.major_version, version.minor_version))
    }

    #[tokio::test]
    async fn a_ping_names_the_version() {
        let docker = "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 2\r\n\r\nOK";
        assert_eq!(version_in(docker).await, Some((1, 41)));
        for silent in [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK",
            "HTTP/1.1 200 OK\r\nApi-Version: new\r\nContent-Length: 2\r\n\r\nOK",
            "no engine at all\r\n\r\n",
            "",
        ] {
            assert_eq!(version_in(silent).await, None, "{silent:?}");
        }
    }
}

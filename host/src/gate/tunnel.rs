//! `CONNECT host:port`: in handoff, the sandbox's own TLS connection to the backend, and nothing else.
//!
//! The name and port must be those of the base. The host resolves the name, connects only to allowed
//! addresses, and reads the first message of TLS before it sends a byte: it must name the same server.
//! Not visible: an encrypted name within that message, which only the backend's own front end could
//! serve.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use airlock_shared::base::{Base, Scheme};
use airlock_shared::limits;
use airlock_shared::link::HostRefusal;
use axum::body::Body;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::routes::RefusedRequest;
use super::session::GateSession;
use super::{CredentialsMode, address};

pub(super) async fn connect(
    session: &Arc<GateSession>,
    mut request: Request<Incoming>,
) -> Response<Body> {
    match open(session, request.uri()).await {
        Ok((server, permit)) => {
            let upgrade = hyper::upgrade::on(&mut request);
            let shared = Arc::clone(session);
            session.tasks.spawn(async move {
                let _permit = permit;
                let passing = async {
                    let Ok(upgraded) = upgrade.await else { return };
                    let is_connected = &shared.gate.is_connected;
                    let passed = pass(&shared.gate.config.base, TokioIo::new(upgraded), server, is_connected);
                    if let Err(why) = passed.await {
                        shared.tell_refused(why.to_owned()).await;
                    }
                };
                tokio::select! { () = passing => {} () = shared.over.cancelled() => {} () = shared.gone.cancelled() => {} }
            });
            Response::new(Body::empty())
        }
        Err(refused) => {
            session.tell_refused(refused.message.clone()).await;
            refused.response()
        }
    }
}

/// A connection to the base's server, if that is what was asked for.
async fn open(
    session: &GateSession,
    asked: &Uri,
) -> Result<(TcpStream, OwnedSemaphorePermit), RefusedRequest> {
    let config = &session.gate.config;
    let shown: String = asked.to_string().chars().take(255).flat_map(char::escape_debug).collect();
    // THREAT: a command reaches the network through the tunnel for the backend.
    // Tried by gate::flow::nothing_is_reached_in_relay and
    // gate::tunnel::tests::only_the_base_by_its_own_name_and_port.
    if config.credentials != CredentialsMode::Handoff {
        return Err(RefusedRequest::new(
            HostRefusal::Policy,
            format!("commands are offline in this session ({shown})"),
        ));
    }
    if !is_the_base(&config.base, asked) {
        return Err(RefusedRequest::new(
            HostRefusal::Policy,
            format!("only the backend can be reached ({shown})"),
        ));
    }
    let permit = Arc::clone(&session.tunnels).try_acquire_owned();
    let permit = permit
        .map_err(|_| RefusedRequest::new(HostRefusal::Policy, "too many tunnels are open"))?;
    let unreachable =
        |_| RefusedRequest::new(HostRefusal::Unreachable, format!("{shown} could not be reached"));
    let patience = Duration::from_secs(limits::CONNECT_SECONDS);
    let dialling = async {
        let found = tokio::net::lookup_host((config.base.host(), config.base.port()))
            .await
            .map_err(unreachable)?;
        // Resolve once and dial that address, so that a second answer of the name server has no effect.
        let all: Vec<SocketAddr> = found.collect();
        let dialled: Vec<SocketAddr> = all
            .iter()
            .copied()
            .filter(|found| address::may_be_dialled(found.ip(), config.base.is_loopback()))
            .collect();
        if dialled.is_empty() && !all.is_empty() {
            return Err(RefusedRequest::new(
                HostRefusal::Policy,
                format!(
                    "{shown} is at a private address, which a tunnel may not reach; relay credentials can"
                ),
            ));
        }
        TcpStream::connect(&*dialled).await.map_err(unreachable)
    };
    let server = timeout(patience, dialling)
        .await
        .map_err(|_| unreachable(io::ErrorKind::TimedOut.into()))??;
    // Send small messages at once; if this cannot be set, they are only slower.
    let _delayed = server.set_nodelay(true);
    Ok((server, permit))
}

/// Whether it is exactly the base's name and port, in upper or lower case: no user, no final dot, no
/// other spelling.
fn is_the_base(base: &Base, asked: &Uri) -> bool {
    let Some(authority) = asked.authority() else { return false };
    if authority.as_str().contains('@')
        || asked
            .path_and_query()
            .is_some_and(|path| path.as_str() != "/" && !path.as_str().is_empty())
    {
        return false;
    }
    let host = authority.host();
    let host = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case(base.host()) && authority.port_u16() == Some(base.port())
}

/// Checks the first message, then copies bytes both ways until both are silent or done.
async fn pass(
    base: &Base,
    mut sandbox: impl AsyncRead + AsyncWrite + Unpin,
    mut server: TcpStream,
    is_connected: &AtomicBool,
) -> Result<(), &'static str> {
    let mut first = Vec::new();
    if base.scheme() == Scheme::Https {
        let patience = Duration::from_secs(limits::TUNNEL_HELLO_SECONDS);
        timeout(patience, hello(base, &mut sandbox, &mut first))
            .await
            .unwrap_or(Err("a tunnel was opened, and nothing was sent in it"))?;
    }
    if server.write_all(&first).await.is_err() {
        return Ok(());
    }
    drop(first);
    is_connected.store(true, Ordering::Release);
    copy(&mut sandbox, &mut server).await;
    Ok(())
}

/// Reads a whole TLS ClientHello into `first` and checks the server it names.
///
/// THREAT: the backend's front end serves other names too, and a tunnel to it reaches them all.
/// Tried by `gate::tunnel::tests::only_tls_for_the_base_passes`.
async fn hello(
    base: &Base,
    sandbox: &mut (impl AsyncRead + Unpin),
    first: &mut Vec<u8>,
) -> Result<(), &'static str> {
    let mut acceptor = Acceptor::default();
    let mut piece = vec![0; 4096];
    loop {
        let count = sandbox.read(&mut piece).await.unwrap_or(0);
        if count == 0 || first.len() + count > limits::CLIENT_HELLO_BYTES {
            return Err("a tunnel carried something that is not TLS");
        }
        first.extend_from_slice(&piece[..count]);
        let mut unread = &piece[..count];
        while !unread.is_empty() {
            acceptor
                .read_tls(&mut unread)
                .map_err(|_| "a tunnel carried something that is not TLS")?;
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let hello = accepted.client_hello();
                    let is_right = match (base.host().parse::<IpAddr>(), hello.server_name()) {
                        (Ok(_), None) => true,
                        (Err(_), Some(name)) => name.eq_ignore_ascii_case(base.host()),
                        _ => false,
                    };
                    return if is_right {
                        Ok(())
                    } else {
                        Err("a tunnel's TLS named another server than the backend")
                    };
                }
                Err(_) => return Err("a tunnel carried something that is not TLS"),
            }
        }
    }
}

/// Copies both ways at once. Ends when both are done, one breaks, or neither moves for a while.
async fn copy(sandbox: &mut (impl AsyncRead + AsyncWrite + Unpin), server: &mut TcpStream) {
    let moved = AtomicU64::new(0);
    let (sandbox_reader, sandbox_writer) = tokio::io::split(sandbox);
    let (server_reader, server_writer) = server.split();
    let both = async {
        tokio::try_join!(
            pump(sandbox_reader, server_writer, &moved),
            pump(server_reader, sandbox_writer, &moved),
        )
    };
    let idle = async {
        let mut before = u64::MAX;
        while before != moved.load(Ordering::Relaxed) {
            before = moved.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(limits::TUNNEL_IDLE_SECONDS)).await;
        }
    };
    tokio::select! { _ended = both => {} () = idle => {} }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
        moved.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_base_by_its_own_name_and_port() {
        let base = Base::parse("https://chatgpt.com/backend-api/codex").expect("a base");
        let is = |text: &str| text.parse::<Uri>().is_ok_and(|uri| is_the_base(&base, &uri));
        assert!(is("chatgpt.com:443") && is("ChatGPT.com:443"));
        for other in [
            "chatgpt.com:22",
            "chatgpt.com:80",
            "chatgpt.com",
            "chatgpt.com.:443",
            "evil.chatgpt.com:443",
            "chatgpt.com.evil.example:443",
            "user@chatgpt.com:443",
            "chatgpt.com@evil.example:443",
            "1.2.3.4:443",
            "[::1]:443",
            "0x7f.1:443",
            "2130706433:443",
            "chatgpt.com:443/x",
            "chatgpt.com%00:443",
            "https://chatgpt.com:443/x",
            "xn--chatgpt-.com:443",
            "auth.openai.com:443",
            "",
            "*:443",
        ] {
            assert!(!is(other), "{other}");
        }
        let local = Base::parse("http://[::1]:8080/v1").expect("a base");
        assert!(is_the_base(&local, &"[::1]:8080".parse().expect("an authority")));
    }

    /// The first message of a TLS client that asks for this server.
    fn client_hello(server: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let server = server.to_owned().try_into().expect("a name");
        let mut client = rustls::ClientConnection::new(Arc::new(config), server).expect("a client");
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("written");
        bytes
    }

    async fn checked(base: &str, sent: &[u8], cut: usize) -> Result<Vec<u8>, &'static str> {
        let base = Base::parse(base).expect("a base");
        let (mut near, mut far) = tokio::io::duplex(64);
        let mut first = Vec::new();
        let writing = async {
            for piece in sent.chunks(cut) {
                if near.write_all(piece).await.is_err() {
                    break;
                }
            }
            drop(near);
        };
        let (result, ()) = tokio::join!(
            async {
                let r = hello(&base, &mut far, &mut first).await;
                drop(far);
                r
            },
            writing
        );
        result.map(|()| first)
    }

    #[tokio::test]
    async fn only_tls_for_the_base_passes() {
        const NAMED: &str = "https://chatgpt.com/backend-api/codex";
        const NUMBERED: &str = "https://127.0.0.1:8443/v1";
        let right = client_hello("chatgpt.com");
        for cut in [1, 7, 4096] {
            let first = checked(NAMED, &right, cut).await.expect("passes");
            assert!(right.starts_with(&first) && !first.is_empty());
        }
        assert!(checked(NAMED, &client_hello("other.example"), 4096).await.is_err());
        assert!(checked(NAMED, &client_hello("127.0.0.1"), 4096).await.is_err(), "no name at all");
        assert!(
            checked(NAMED, b"GET / HTTP/1.1\r\nhost: chatgpt.com\r\n\r\n", 4096).await.is_err()
        );
        assert!(checked(NAMED, &[0x16; 100_000], 4096).await.is_err());
        assert!(checked(NAMED, &right[..20], 4096).await.is_err());
        assert!(checked(NUMBERED, &client_hello("127.0.0.1"), 4096).await.is_ok());
        assert!(checked(NUMBERED, &right, 4096).await.is_err());
    }
}

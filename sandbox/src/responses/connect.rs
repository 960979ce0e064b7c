//! The sandbox's own connection to the backend: the sandbox's network or the host's tunnel, TLS where
//! the base says `https`, HTTP/2 or 1.1 as the backend likes. One connection is kept and used again.
//!
//! # Why not `getaddrinfo`
//! A static glibc loads the image's name service modules for it, into the process that holds the
//! token. Names are resolved by code of our own; roots are compiled in.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use airlock_shared::base::{Base, Scheme};
use airlock_shared::limits;
use airlock_shared::outcome::{Fault, FaultKind};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::retry::RequestFailure;
use crate::link::{self, Body, Link};
use crate::scrub::one_line;

/// How long the kept connection may be busy with the end of the last answer.
const KEPT_BUSY: Duration = Duration::from_millis(20);

/// How the backend's host is reached.
pub(crate) enum Network {
    /// The sandbox's own network.
    Own,
    /// `CONNECT` over the link.
    Tunnel(Link),
}

pub(crate) struct Connector {
    base: Base,
    net: Network,
    tls: Option<Arc<rustls::ClientConfig>>,
    kept: Option<HttpSender>,
}

/// A request, to be sent as often as need be.
pub(crate) struct BackendRequest {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

enum HttpSender {
    One(http1::SendRequest<Body>),
    Two(http2::SendRequest<Body>),
}

/// Why a call has no answer.
enum RequestError {
    /// The connection was closed before it took the call.
    Unsent,
    Failed(RequestFailure),
}

impl From<RequestFailure> for RequestError {
    fn from(failure: RequestFailure) -> Self {
        Self::Failed(failure)
    }
}

impl Connector {
    /// `ca`: certificates (PEM) trusted beside the compiled-in roots.
    pub(crate) fn new(base: Base, net: Network, ca: Option<&str>) -> Result<Self, Fault> {
        let tls = match base.scheme() {
            Scheme::Https => Some(Arc::new(trust(ca)?)),
            Scheme::Http => None,
        };
        Ok(Self { base, net, tls, kept: None })
    }

    pub(crate) fn base(&self) -> &Base {
        &self.base
    }

    /// Connects, so that the first request finds a connection. A failure is the request's to tell.
    pub(crate) async fn warm(&mut self) {
        if self.kept.is_none() {
            self.kept = self.connect().await.ok();
        }
    }

    /// Sends a call on the kept connection, or a new one where that has gone stale meanwhile.
    pub(crate) async fn send(
        &mut self,
        call: &BackendRequest,
    ) -> Result<Response<Incoming>, RequestFailure> {
        if let Some(mut kept) = self.kept.take()
            && kept.is_usable().await
        {
            match kept.send(call, &self.base).await {
                Ok(answer) => {
                    self.kept = Some(kept);
                    return Ok(answer);
                }
                Err(RequestError::Unsent) => {}
                // It may have been answered, and paid for: whether it is sent again is not for us.
                Err(RequestError::Failed(failure)) => return Err(failure),
            }
        }
        let mut fresh = self.connect().await?;
        let answer = fresh.send(call, &self.base).await.map_err(|unanswered| match unanswered {
            RequestError::Unsent => {
                RequestFailure::Connection("the backend hung up at once".to_owned())
            }
            RequestError::Failed(failure) => failure,
        })?;
        self.kept = Some(fresh);
        Ok(answer)
    }

    async fn connect(&self) -> Result<HttpSender, RequestFailure> {
        let limit = Duration::from_secs(limits::CONNECT_SECONDS);
        let connected = tokio::time::timeout(limit, self.connect_for_ever()).await;
        connected.unwrap_or_else(|_| {
            let why =
                format!("no connection to {} within {} s", self.base.authority(), limit.as_secs());
            Err(RequestFailure::Connection(why))
        })
    }

    async fn connect_for_ever(&self) -> Result<HttpSender, RequestFailure> {
        let (host, port) = (self.base.host(), self.base.port());
        let stream: Box<dyn Stream> = match &self.net {
            Network::Own => Box::new(dial(host, port).await.map_err(|error| self.failed(&error))?),
            Network::Tunnel(link) => {
                let name = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
                let tunnel = link.tunnel(&format!("{name}:{port}")).await;
                Box::new(tunnel.map_err(|fault| match fault.kind {
                    FaultKind::Link => RequestFailure::Connection(fault.message),
                    _ => RequestFailure::Fault(fault),
                })?)
            }
        };
        let Some(tls) = &self.tls else { return one(stream).await };
        let name = ServerName::try_from(host.to_owned()).map_err(|error| self.failed(&error))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(tls));
        let stream =
            connector.connect(name, stream).await.map_err(|error| self.unsafe_or_failed(&error))?;
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            two(stream).await
        } else {
            one(stream).await
        }
    }

    /// A certificate that is not trusted will not be so a second later.
    fn unsafe_or_failed(&self, error: &io::Error) -> RequestFailure {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidCertificate(why)) => RequestFailure::Fault(Fault::new(
                FaultKind::Backend,
                format!("the certificate of {} is not trusted: {why:?}", self.base.authority()),
            )),
            _ => self.failed(error),
        }
    }

    fn failed(&self, error: &dyn std::error::Error) -> RequestFailure {
        RequestFailure::Connection(format!(
            "no connection to {}: {}",
            self.base.authority(),
            chain(error)
        ))
    }
}

impl HttpSender {
    /// Whether it takes a request, at once or when the end of the last answer was taken from it.
    async fn is_usable(&mut self) -> bool {
        let ready = async {
            match self {
                Self::One(sender) => sender.ready().await,
                Self::Two(sender) => sender.ready().await,
            }
        };
        matches!(tokio::time::timeout(KEPT_BUSY, ready).await, Ok(Ok(())))
    }

    async fn send(
        &mut self,
        call: &BackendRequest,
        base: &Base,
    ) -> Result<Response<Incoming>, RequestError> {
        let mut request = Request::new(link::whole(call.body.clone()));
        *request.method_mut() = call.method.clone();
        *request.headers_mut() = call.headers.clone();
        let (uri, host) = match self {
            Self::One(_) => (call.path.clone(), HeaderValue::from_str(base.authority()).ok()),
            Self::Two(_) => (format!("{}{}", base.origin(), call.path), None),
        };
        *request.uri_mut() = uri.parse().map_err(|_| {
            RequestFailure::Fault(Fault::new(FaultKind::Refused, format!("{uri} is no address")))
        })?;
        if let Some(host) = host {
            request.headers_mut().insert(header::HOST, host);
        }
        let answer = match self {
            Self::One(sender) => sender.send_request(request).await,
            Self::Two(sender) => sender.send_request(request).await,
        };
        answer.map_err(|error| match error.is_canceled() {
            true => RequestError::Unsent,
            false => RequestFailure::Connection(format!("no answer: {}", chain(&error))).into(),
        })
    }
}

async fn one(stream: impl Stream + 'static) -> Result<HttpSender, RequestFailure> {
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| unspoken(&error))?;
    // Ends when the sender is dropped or the backend closes; either shows on the next request.
    tokio::spawn(connection);
    Ok(HttpSender::One(sender))
}

async fn two(stream: impl Stream + 'static) -> Result<HttpSender, RequestFailure> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(limits::LINK_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::LINK_CONNECTION_WINDOW_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unspoken(&error))?;
    tokio::spawn(connection);
    Ok(HttpSender::Two(sender))
}

fn unspoken(error: &hyper::Error) -> RequestFailure {
    RequestFailure::Connection(format!("the backend does not speak HTTP: {}", chain(error)))
}

async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name has no address");
    for address in resolve(host).await? {
        match TcpStream::connect(SocketAddr::new(address, port)).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn resolve(host: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    // THREAT: an image's hosts file sends plain http, which only this machine may see, elsewhere.
    // Tried by `responses::connect::tests::localhost_is_this_machine_whatever_the_image_says`.
    if host == "localhost" {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let resolver = hickory_resolver::TokioResolver::builder_tokio()
        .and_then(|builder| builder.build())
        .map_err(io::Error::other)?;
    let found =
        resolver.lookup_ip(host).await.map_err(|error| match error.is_no_records_found() {
            true => io::Error::other("the name has no address"),
            false => io::Error::other(error),
        })?;
    Ok(found.iter().collect())
}

fn trust(ca: Option<&str>) -> Result<rustls::ClientConfig, Fault> {
    let unfit = |why: String| {
        Fault::new(FaultKind::Backend, format!("the certificate authority cannot be used: {why}"))
    };
    let mut roots = rustls::RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    for certificate in CertificateDer::pem_slice_iter(ca.unwrap_or_default().as_bytes()) {
        let certificate = certificate.map_err(|error| unfit(error.to_string()))?;
        roots.add(certificate).map_err(|error| unfit(error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unfit(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// An error and its causes, as one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    one_line(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn localhost_is_this_machine_whatever_the_image_says() {
        let found = resolve("localhost").await.expect("addresses");
        assert!(!found.is_empty() && found.iter().all(IpAddr::is_loopback), "{found:?}");
        let given = resolve("192.0.2.7").await.expect("an address");
        assert_eq!(given, ["192.0.2.7".parse::<IpAddr>().expect("an address")]);
    }

    #[test]
    fn a_certificate_authority_that_is_none_is_refused() {
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(trust(Some(pem)).is_err());
        assert!(trust(None).is_ok());
    }
}

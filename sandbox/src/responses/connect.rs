//! The sandbox's own connection to the backend: over the container's network or the host's tunnel,
//! with TLS for `https`, and HTTP/2 or 1.1 as the backend chooses. One connection is kept and used
//! again.
//!
//! # Why not `getaddrinfo`
//! A static glibc would load the image's name service modules into the process that holds the
//! token. So we resolve names with our own code, and the root certificates are compiled in.

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

/// How long to wait until the kept connection has read the end of the last answer.
const KEPT_BUSY: Duration = Duration::from_millis(20);

/// How the backend's host is reached.
pub(crate) enum Network {
    /// The container's own network.
    Own,
    /// `CONNECT` over the link.
    Tunnel(Link),
}

pub(crate) struct Connector {
    base: Base,
    network: Network,
    tls: Option<Arc<rustls::ClientConfig>>,
    kept: Option<HttpSender>,
}

/// A request that can be sent several times.
pub(crate) struct BackendRequest {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

enum HttpSender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// Why a request has no answer.
enum RequestError {
    /// The connection was closed before the request was sent.
    Unsent,
    Failed(RequestFailure),
}

impl From<RequestFailure> for RequestError {
    fn from(failure: RequestFailure) -> Self {
        Self::Failed(failure)
    }
}

impl Connector {
    /// `ca`: certificates (PEM) that are trusted in addition to the built-in roots.
    pub(crate) fn new(base: Base, network: Network, ca: Option<&str>) -> Result<Self, Fault> {
        let tls = match base.scheme() {
            Scheme::Https => Some(Arc::new(tls_config(ca)?)),
            Scheme::Http => None,
        };
        Ok(Self { base, network, tls, kept: None })
    }

    pub(crate) fn base(&self) -> &Base {
        &self.base
    }

    /// Connects before the first request. A failure is reported by that request.
    pub(crate) async fn warm(&mut self) {
        if self.kept.is_none() {
            self.kept = self.connect().await.ok();
        }
    }

    /// Sends a request on the kept connection, or on a new one if that is closed.
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
                // The backend may have received it: the caller decides whether to send it again.
                Err(RequestError::Failed(failure)) => return Err(failure),
            }
        }
        let mut fresh = self.connect().await?;
        let answer = fresh.send(call, &self.base).await.map_err(|unanswered| match unanswered {
            RequestError::Unsent => {
                RequestFailure::Connection("the backend closed the connection at once".to_owned())
            }
            RequestError::Failed(failure) => failure,
        })?;
        self.kept = Some(fresh);
        Ok(answer)
    }

    async fn connect(&self) -> Result<HttpSender, RequestFailure> {
        let limit = Duration::from_secs(limits::CONNECT_SECONDS);
        let connected = tokio::time::timeout(limit, self.connect_without_limit()).await;
        connected.unwrap_or_else(|_| {
            let why =
                format!("no connection to {} within {} s", self.base.authority(), limit.as_secs());
            Err(RequestFailure::Connection(why))
        })
    }

    async fn connect_without_limit(&self) -> Result<HttpSender, RequestFailure> {
        let (host, port) = (self.base.host(), self.base.port());
        let stream: Box<dyn Stream> = match &self.network {
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
        let Some(tls) = &self.tls else { return handshake_http1(stream).await };
        let name = ServerName::try_from(host.to_owned()).map_err(|error| self.failed(&error))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(tls));
        let stream =
            connector.connect(name, stream).await.map_err(|error| self.tls_failed(&error))?;
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            handshake_http2(stream).await
        } else {
            handshake_http1(stream).await
        }
    }

    /// A certificate that is not trusted is a fault, because another try cannot help.
    fn tls_failed(&self, error: &io::Error) -> RequestFailure {
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
    /// Whether it can send a request, at once or after the end of the last answer.
    async fn is_usable(&mut self) -> bool {
        let ready = async {
            match self {
                Self::Http1(sender) => sender.ready().await,
                Self::Http2(sender) => sender.ready().await,
            }
        };
        matches!(tokio::time::timeout(KEPT_BUSY, ready).await, Ok(Ok(())))
    }

    async fn send(
        &mut self,
        call: &BackendRequest,
        base: &Base,
    ) -> Result<Response<Incoming>, RequestError> {
        let mut request = Request::new(link::full_body(call.body.clone()));
        *request.method_mut() = call.method.clone();
        *request.headers_mut() = call.headers.clone();
        let (uri, host) = match self {
            Self::Http1(_) => (call.path.clone(), HeaderValue::from_str(base.authority()).ok()),
            Self::Http2(_) => (format!("{}{}", base.origin(), call.path), None),
        };
        *request.uri_mut() = uri.parse().map_err(|_| {
            RequestFailure::Fault(Fault::new(
                FaultKind::Refused,
                format!("{uri} is not a valid address"),
            ))
        })?;
        if let Some(host) = host {
            request.headers_mut().insert(header::HOST, host);
        }
        let answer = match self {
            Self::Http1(sender) => sender.send_request(request).await,
            Self::Http2(sender) => sender.send_request(request).await,
        };
        answer.map_err(|error| match error.is_canceled() {
            true => RequestError::Unsent,
            false => RequestFailure::Connection(format!("no answer: {}", chain(&error))).into(),
        })
    }
}

async fn handshake_http1(stream: impl Stream + 'static) -> Result<HttpSender, RequestFailure> {
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| not_http(&error))?;
    // It ends when the sender is dropped or the backend closes. The next request notices either.
    tokio::spawn(connection);
    Ok(HttpSender::Http1(sender))
}

async fn handshake_http2(stream: impl Stream + 'static) -> Result<HttpSender, RequestFailure> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(limits::LINK_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::LINK_CONNECTION_WINDOW_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| not_http(&error))?;
    tokio::spawn(connection);
    Ok(HttpSender::Http2(sender))
}

fn not_http(error: &hyper::Error) -> RequestFailure {
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
    // THREAT: the image's hosts file sends plain http to another machine. Only this machine may see
    // it. Tried by `responses::connect::tests::localhost_is_this_machine_whatever_the_image_says`.
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

fn tls_config(ca: Option<&str>) -> Result<rustls::ClientConfig, Fault> {
    let unusable = |why: String| {
        Fault::new(FaultKind::Backend, format!("the certificate authority cannot be used: {why}"))
    };
    let mut roots = rustls::RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    for certificate in CertificateDer::pem_slice_iter(ca.unwrap_or_default().as_bytes()) {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// An error and its causes on one line.
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
    fn a_broken_certificate_authority_is_refused() {
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(tls_config(Some(pem)).is_err());
        assert!(tls_config(None).is_ok());
    }
}

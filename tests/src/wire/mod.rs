//! HTTP/1.1 on loopback, in the clear or in TLS: what the scripted services stand on. A service
//! gets each connection whole, so that it can break it at any byte.
//!
//! Each runs on a thread and a runtime of its own, so that tests with and without one use it alike.

pub(crate) mod http; // requests read, answers written, by hand
pub(crate) mod plain; // an answer that is no stream
pub(crate) mod record; // a request, whole
mod tls; // a certificate of an authority of our own

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use http::Connection;

/// What answers on connections.
pub(crate) trait Service: Clone + Send + 'static {
    /// One connection, from its first request to its end.
    fn serve(self, connection: impl Connection) -> impl Future<Output = io::Result<()>> + Send;
}

/// A running service. Dropping it ends it.
pub(crate) struct Serving {
    port: u16,
    ca: Option<String>,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Serving {
    /// Port 0: any free one.
    ///
    /// # Panics
    /// When the port is taken.
    pub(crate) fn start(port: u16, tls: bool, service: impl Service) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port))
            .unwrap_or_else(|error| panic!("port {port} of this machine: {error}"));
        listener.set_nonblocking(true).expect("a fresh socket takes its options");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let (tls, ca) = tls.then(tls::server).unzip();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime of one thread");
            runtime.block_on(accept(listener, tls, service, stopped));
        });
        Self { port, ca, stop, thread: Some(thread) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The authority to trust, as PEM, where it speaks TLS.
    pub(crate) fn ca(&self) -> Option<&str> {
        self.ca.as_deref()
    }

    /// Scheme, host and port.
    pub(crate) fn origin(&self) -> String {
        let scheme = if self.ca.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed; a second one here would hide the test's own.
            drop(thread.join());
        }
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    service: impl Service,
    stop: CancellationToken,
) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener of ours");
    let acceptor = tls.map(TlsAcceptor::from);
    let mut open = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((socket, _)) = accepted else { continue };
        let (service, acceptor) = (service.clone(), acceptor.clone());
        open.spawn(async move {
            drop(socket.set_nodelay(true));
            // A client that breaks off is no fault of ours.
            let _ended = match acceptor {
                None => service.serve(socket).await,
                Some(acceptor) => match acceptor.accept(socket).await {
                    Ok(socket) => service.serve(socket).await,
                    Err(error) => Err(error),
                },
            };
        });
        while open.try_join_next().is_some() {}
    }
}

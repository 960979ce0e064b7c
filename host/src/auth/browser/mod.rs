//! Sign-in in a browser, with a callback on loopback at one of the two ports that the issuer knows.
//!
//! Two authorizations are open at the same time. A browser that we start opens our start page,
//! which sets a cookie and redirects to the issuer. So the state and the challenge are in no
//! process's arguments, and the callback needs the cookie. The address for any other browser is
//! shown only at this terminal. Its callback needs the state, and no cookie.
//!
//! Absent on purpose: a `/cancel` page, which any program could call; a page that shows a part of a
//! request.

pub(super) mod authorize; // one authorization: state, verifier, address
mod callback_handler; // what to do with each request
mod holder; // which program holds a port
mod pages; // the pages that a browser gets
#[cfg(test)]
mod tests; // real requests

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use self::authorize::Attempt;
pub(super) use self::callback_handler::{Callback, Phase};
use self::callback_handler::{CallbackAction, CallbackHandler};
use self::pages::{Page, redirect};
use super::sign_in::PortHolder;

/// The ports that are registered with the issuer for the callback (A.1).
pub(super) const PORTS: [u16; 2] = [1455, 1457];

/// The largest request head. It is large because cookies of other `localhost` servers come too.
const HEAD_BYTES: usize = 64 << 10;
const HEADERS: usize = 100;
/// How long a request head may take to arrive.
const HEAD_SECONDS: u64 = 10;
/// How long a connection may live. The exchange of a code happens within it.
const CONNECTION_SECONDS: u64 = 120;
/// The most connections at once.
const CONNECTIONS: usize = 64;
/// How long to wait for the browser to fetch the last page.
const LAST_PAGE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait until the last page is sent.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(200);
/// How many events can wait.
const EVENTS: usize = 16;

/// What a browser did.
pub(super) enum BrowserEvent {
    Code(Callback),
    /// The issuer sent an error instead of a code.
    Declined(String),
    /// A request was rejected; why.
    Rejected(&'static str),
}

/// The open callback. Dropping it closes the port.
pub(super) struct Browser {
    events: mpsc::Receiver<BrowserEvent>,
    shared: Arc<ListenerState>,
    tasks: JoinSet<()>,
    ending: CancellationToken,
}

struct ListenerState {
    callback_handler: Mutex<CallbackHandler>,
    phase: watch::Sender<Phase>,
    /// Notified when the last page was requested.
    last_page: Notify,
    events: mpsc::Sender<BrowserEvent>,
    port: u16,
}

/// Binds the first free port. The error says which programs hold the ports.
pub(super) async fn bind(ports: &[u16]) -> Result<Bound, Vec<PortHolder>> {
    for &port in ports {
        if let Ok(bound) = Bound::at(port).await {
            return Ok(bound);
        }
    }
    let ports = ports.to_vec();
    let looking = move || ports.into_iter().map(holder::holder).collect();
    Err(tokio::task::spawn_blocking(looking).await.unwrap_or_default())
}

/// A port that is bound.
pub(super) struct Bound {
    pub(super) port: u16,
    listeners: Vec<TcpListener>,
}

impl Bound {
    async fn at(port: u16) -> std::io::Result<Self> {
        let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let port = v4.local_addr()?.port();
        // THREAT: many browsers take `localhost` for ::1 first, and a program that listens there
        // gets the request for the start page and the code. Tried by
        // auth::browser::tests::bounds::the_ipv6_loopback_is_bound_too.
        let v6 = match TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await {
            Ok(listener) => Some(listener),
            Err(error) if error.kind() == ErrorKind::AddrInUse => return Err(error),
            // This machine has no IPv6 loopback address.
            Err(_) => None,
        };
        Ok(Self { port, listeners: std::iter::once(v4).chain(v6).collect() })
    }

    pub(super) fn open(self, opened: Attempt, printed: Attempt) -> Browser {
        let port = self.port;
        let (sender, events) = mpsc::channel(EVENTS);
        let shared = Arc::new(ListenerState {
            callback_handler: Mutex::new(CallbackHandler::new(port, opened, printed)),
            phase: watch::Sender::new(Phase::Open),
            last_page: Notify::new(),
            events: sender,
            port,
        });
        let ending = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for listener in self.listeners {
            tasks.spawn(accept(listener, Arc::clone(&shared), ending.clone()));
        }
        Browser { events, shared, tasks, ending }
    }
}

impl Browser {
    /// The address to open in the browser.
    pub(super) fn start_address(&self) -> String {
        self.shared.callback_handler().start_address()
    }

    /// The next event.
    pub(super) async fn next(&mut self) -> Option<BrowserEvent> {
        self.events.recv().await
    }

    /// Sets the result. The browser that waits is redirected to its page.
    pub(super) fn finish(&self, phase: Phase) {
        self.shared.set_phase(phase);
    }

    /// Closes the port. If there is a result, it first waits until the browser has its page.
    pub(super) async fn end(mut self) {
        if !matches!(*self.shared.phase.borrow(), Phase::Open | Phase::Exchanging) {
            let last_page = self.shared.last_page.notified();
            let _fetched = tokio::time::timeout(LAST_PAGE_TIMEOUT, last_page).await;
            // No new connections. The page may still be in transit.
            self.ending.cancel();
            let finishing = async { while self.tasks.join_next().await.is_some() {} };
            let _finished = tokio::time::timeout(FLUSH_TIMEOUT, finishing).await;
        }
        self.tasks.shutdown().await;
    }
}

impl ListenerState {
    fn callback_handler(&self) -> MutexGuard<'_, CallbackHandler> {
        self.callback_handler.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_phase(&self, phase: Phase) {
        self.callback_handler().set_phase(phase);
        self.phase.send_replace(phase);
    }

    async fn answer<B>(&self, request: Request<B>, peer: u16) -> Response<Full<Bytes>> {
        // THREAT: a web page or a local program sends many requests, and for each the sockets of
        // the whole machine are read. Tried by
        // auth::browser::tests::only_the_start_page_looks_up_the_user_of_a_connection.
        let is_start = self.callback_handler().is_start(&request);
        let is_other_user = is_start && self.is_other_user(peer).await;
        let action = self.callback_handler().handle(&request, is_other_user);
        match action {
            CallbackAction::Answer(response) => {
                if request.uri().path() == page_path(*self.phase.borrow()) {
                    self.last_page.notify_one();
                }
                response
            }
            CallbackAction::Reject(why) => {
                // Does not wait: a program may send many such requests.
                let _sent = self.events.try_send(BrowserEvent::Rejected(why));
                let is_start = request.uri().path().starts_with("/start/");
                if is_start { Page::Used.response() } else { Page::Rejected.response() }
            }
            CallbackAction::Code(callback) => {
                self.set_phase(Phase::Exchanging);
                let _sent = self.events.send(BrowserEvent::Code(callback)).await;
                self.outcome().await
            }
            CallbackAction::Declined(why) => {
                self.set_phase(Phase::Declined);
                let _sent = self.events.send(BrowserEvent::Declined(why)).await;
                self.outcome().await
            }
            CallbackAction::Repeat => self.outcome().await,
        }
    }

    async fn is_other_user(&self, peer: u16) -> bool {
        let port = self.port;
        let looking = tokio::task::spawn_blocking(move || holder::is_other_user(peer, port));
        looking.await.unwrap_or(false)
    }

    /// Redirects to the page of the result, so that the code is no longer in the address.
    async fn outcome(&self) -> Response<Full<Bytes>> {
        let mut phases = self.phase.subscribe();
        let settled = |phase: &Phase| !matches!(phase, Phase::Open | Phase::Exchanging);
        let phase = phases.wait_for(settled).await.map(|phase| *phase);
        let phase = phase.unwrap_or(Phase::Failed);
        redirect(StatusCode::SEE_OTHER, page_path(phase), None)
    }
}

/// The path of the page for this result.
fn page_path(phase: Phase) -> &'static str {
    match phase {
        Phase::Open | Phase::Exchanging => "",
        Phase::Done => "/done",
        Phase::Declined => "/declined",
        Phase::Failed => "/failed",
    }
}

async fn accept(listener: TcpListener, shared: Arc<ListenerState>, ending: CancellationToken) {
    let mut connections = JoinSet::new();
    let mut open: VecDeque<Connection> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ending.cancelled() => break,
        };
        while connections.try_join_next().is_some() {}
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        open.retain(|connection| !connection.task.is_finished());
        // THREAT: a local program opens many connections and sends nothing, until there are no
        // descriptors left or the browser cannot connect. The oldest silent connection is closed.
        // Tried by auth::browser::tests::bounds::silent_connections_do_not_block_the_browser.
        if open.len() >= CONNECTIONS {
            let silent =
                open.iter().position(|connection| !connection.has_request.load(Ordering::Relaxed));
            let Some(silent) = silent.and_then(|at| open.remove(at)) else { continue };
            silent.task.abort();
        }
        let has_request = Arc::new(AtomicBool::new(false));
        let serving = serve(stream, peer.port(), Arc::clone(&shared), Arc::clone(&has_request));
        open.push_back(Connection { task: connections.spawn(serving), has_request });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// One connection.
struct Connection {
    task: AbortHandle,
    /// A complete request has arrived.
    has_request: Arc<AtomicBool>,
}

async fn serve(
    stream: TcpStream,
    peer: u16,
    shared: Arc<ListenerState>,
    has_request: Arc<AtomicBool>,
) {
    let service = service_fn(|request: Request<Incoming>| async {
        has_request.store(true, Ordering::Relaxed);
        Ok::<_, Infallible>(shared.answer(request, peer).await)
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(HEAD_SECONDS))
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let whole = Duration::from_secs(CONNECTION_SECONDS);
    // An error means that the browser is gone.
    let _served = tokio::time::timeout(whole, connection).await;
}

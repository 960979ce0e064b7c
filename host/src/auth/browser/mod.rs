//! The way of the browser: a callback on loopback, at one of the two ports that the issuer knows.
//!
//! Two authorizations are open on it. The browser that we start ourselves is sent to a start page
//! of ours, which sets a cookie and redirects: its state and challenge stand in no process's
//! arguments, and its callback needs the cookie. The address for a browser that we did not start is
//! shown at this terminal alone, and its callback needs the state it holds.
//!
//! Absent on purpose: a `/cancel`, which anybody could call; any page that holds a word of a request.

pub(super) mod authorize; // one authorization that was begun
mod callback_handler; // what each request means
mod holder; // who holds a port
mod pages; // what the browser is shown
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

/// The ports whose callback the issuer knows (A.1).
pub(super) const PORTS: [u16; 2] = [1455, 1457];

/// A request's line and headers: other servers of `localhost` leave cookies that come here too.
const HEAD_BYTES: usize = 64 << 10;
const HEADERS: usize = 100;
/// How long a request may take to come whole.
const HEAD_SECONDS: u64 = 10;
/// How long a connection may live: the exchange of a code is in it.
const CONNECTION_SECONDS: u64 = 120;
/// Connections at once.
const CONNECTIONS: usize = 64;
/// How long the last page may take to be fetched.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long what was written to it may take to leave.
const FLUSH: Duration = Duration::from_millis(200);
/// Events that wait to be looked at.
const EVENTS: usize = 16;

/// What the browsers did.
pub(super) enum BrowserEvent {
    Code(Callback),
    /// What the issuer sent back in place of a code.
    Declined(String),
    /// Nothing was taken from it.
    Stranger(&'static str),
}

/// The callback, open. Dropping it closes the port.
pub(super) struct Browser {
    events: mpsc::Receiver<BrowserEvent>,
    shared: Arc<ListenerState>,
    tasks: JoinSet<()>,
    ending: CancellationToken,
}

struct ListenerState {
    callback_handler: Mutex<CallbackHandler>,
    phase: watch::Sender<Phase>,
    /// The last page was asked for.
    farewell: Notify,
    events: mpsc::Sender<BrowserEvent>,
    port: u16,
}

/// The first of the ports that is free, or who holds them.
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

/// A port of ours.
pub(super) struct Bound {
    pub(super) port: u16,
    listeners: Vec<TcpListener>,
}

impl Bound {
    async fn at(port: u16) -> std::io::Result<Self> {
        let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let port = v4.local_addr()?.port();
        // THREAT: `localhost` is ::1 to many browsers first; whoever listens there gets the start
        // page and the code that were meant for us. Tried by
        // auth::browser::the_other_localhost_is_held_too.
        let v6 = match TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await {
            Ok(listener) => Some(listener),
            Err(error) if error.kind() == ErrorKind::AddrInUse => return Err(error),
            // No such address on this machine.
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
            farewell: Notify::new(),
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
    /// The address to open in the person's browser.
    pub(super) fn start_address(&self) -> String {
        self.shared.callback_handler().start_address()
    }

    /// What the browsers did next.
    pub(super) async fn next(&mut self) -> Option<BrowserEvent> {
        self.events.recv().await
    }

    /// What became of it: whoever waits for an answer gets it.
    pub(super) fn settle(&self, phase: Phase) {
        self.shared.turn(phase);
    }

    /// Closes the port; where something became of it, once the page that says so was fetched.
    pub(super) async fn end(mut self) {
        if !matches!(*self.shared.phase.borrow(), Phase::Open | Phase::Asking) {
            let farewell = self.shared.farewell.notified();
            let _fetched = tokio::time::timeout(FAREWELL, farewell).await;
            // No new connections; that page may still be on its way.
            self.ending.cancel();
            let finishing = async { while self.tasks.join_next().await.is_some() {} };
            let _finished = tokio::time::timeout(FLUSH, finishing).await;
        }
        self.tasks.shutdown().await;
    }
}

impl ListenerState {
    fn callback_handler(&self) -> MutexGuard<'_, CallbackHandler> {
        self.callback_handler.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, phase: Phase) {
        self.callback_handler().phase(phase);
        self.phase.send_replace(phase);
    }

    async fn answer<B>(&self, request: Request<B>, peer: u16) -> Response<Full<Bytes>> {
        // THREAT: a page of the open web, or a local program, asks for start pages that are none and
        // has the whole machine's sockets read for each. Tried by
        // auth::browser::only_the_start_page_asks_whose_a_connection_is.
        let is_start = self.callback_handler().is_start(&request);
        let is_anothers = is_start && self.is_anothers(peer).await;
        let verdict = self.callback_handler().judge(&request, is_anothers);
        match verdict {
            CallbackAction::Answer(response) => {
                if request.uri().path() == place(*self.phase.borrow()) {
                    self.farewell.notify_one();
                }
                response
            }
            CallbackAction::Stranger(why) => {
                // Nobody waits for one who calls again and again.
                let _told = self.events.try_send(BrowserEvent::Stranger(why));
                let is_start = request.uri().path().starts_with("/start/");
                if is_start { Page::Used.response() } else { Page::Stranger.response() }
            }
            CallbackAction::Code(came) => {
                self.turn(Phase::Asking);
                let _told = self.events.send(BrowserEvent::Code(came)).await;
                self.outcome().await
            }
            CallbackAction::Declined(why) => {
                self.turn(Phase::Declined);
                let _told = self.events.send(BrowserEvent::Declined(why)).await;
                self.outcome().await
            }
            CallbackAction::Again => self.outcome().await,
        }
    }

    async fn is_anothers(&self, peer: u16) -> bool {
        let port = self.port;
        let looking = tokio::task::spawn_blocking(move || holder::is_anothers(peer, port));
        looking.await.unwrap_or(false)
    }

    /// Where what became of it can be read: the code leaves the address.
    async fn outcome(&self) -> Response<Full<Bytes>> {
        let mut phases = self.phase.subscribe();
        let settled = |phase: &Phase| !matches!(phase, Phase::Open | Phase::Asking);
        let phase = phases.wait_for(settled).await.map(|phase| *phase);
        let phase = phase.unwrap_or(Phase::Failed);
        redirect(StatusCode::SEE_OTHER, place(phase), None)
    }
}

/// The page that says it.
fn place(phase: Phase) -> &'static str {
    match phase {
        Phase::Open | Phase::Asking => "",
        Phase::Done => "/done",
        Phase::Declined => "/declined",
        Phase::Failed => "/failed",
    }
}

async fn accept(listener: TcpListener, shared: Arc<ListenerState>, ending: CancellationToken) {
    let mut connections = JoinSet::new();
    let mut waiting: VecDeque<Waiting> = VecDeque::new();
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
        waiting.retain(|one| !one.task.is_finished());
        // THREAT: a local program opens connections and says nothing, until our descriptors are
        // used up or the person's browser is kept out: the one that is silent for longest goes.
        // Tried by auth::browser::connections_that_say_nothing_keep_nobody_out.
        if waiting.len() >= CONNECTIONS {
            let silent = waiting.iter().position(|one| !one.asked.load(Ordering::Relaxed));
            let Some(silent) = silent.and_then(|at| waiting.remove(at)) else { continue };
            silent.task.abort();
        }
        let asked = Arc::new(AtomicBool::new(false));
        let serving = serve(stream, peer.port(), Arc::clone(&shared), Arc::clone(&asked));
        waiting.push_back(Waiting { task: connections.spawn(serving), asked });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// One connection.
struct Waiting {
    task: AbortHandle,
    /// Its request has come whole.
    asked: Arc<AtomicBool>,
}

async fn serve(stream: TcpStream, peer: u16, shared: Arc<ListenerState>, asked: Arc<AtomicBool>) {
    let service = service_fn(|request: Request<Incoming>| async {
        asked.store(true, Ordering::Relaxed);
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
    // A browser that went away has nothing to be told.
    let _served = tokio::time::timeout(whole, connection).await;
}

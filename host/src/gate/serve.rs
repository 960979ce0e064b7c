//! HTTP/2 on one pipe, from the first byte to the last. Every limit of the link is set here.
//!
//! ```text
//! serving ─ outcome kept, answered ─→ shutting down ─ pipe closed, or 2 s ─→ Ok
//!    ├─ a handler's fault, a broken or stalled pipe, a protocol violation ─→ Err(Link, …)
//!    └─ stopped by the host ─→ Ok
//! ```
//!
//! Absent on purpose: noticing that the container ended while its stdin is full. The end of the stream
//! then comes only after a minute. The owner of the container watches it, and stops this service.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use airlock_shared::command::Command;
use airlock_shared::limits;
use airlock_shared::outcome::{Fault, FaultKind};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, BufWriter};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::pipe::LinkStream;
use super::session::GateSession;
use super::{FromSandbox, Gate, WorkspaceTransfer, routes};

/// How long a sandbox may take to close the pipe after its outcome was kept.
const GOODBYE: Duration = Duration::from_secs(2);
/// Frames that are ready together are sent together, because each write crosses the engine separately.
/// Larger writes are not buffered.
const FRAMES_BYTES: usize = 16 << 10;
/// How long handlers may take to process what came before the pipe broke.
const AFTERMATH: Duration = Duration::from_millis(500);

enum ServeEnd {
    Closed(Result<(), hyper::Error>),
    /// A handler ended the turn, with its outcome or with a fault.
    Over,
    Stopped,
}

/// Serves one pipe until it ends.
///
/// `events` gets every event in order; when it is full, the sandbox waits. Use a small capacity (8),
/// because one event may have [`limits::LINE_BYTES`]. `commands` are sent as they come. `stop` ends
/// the service at once, without a fault.
///
/// # Errors
/// If the sandbox breaks off, or breaks a rule that ends the turn.
pub async fn serve(
    gate: Arc<Gate>,
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    workspace: Arc<dyn WorkspaceTransfer>,
    events: mpsc::Sender<FromSandbox>,
    commands: mpsc::Receiver<Command>,
    stop: CancellationToken,
) -> Result<(), Fault> {
    let session = Arc::new(GateSession::new(gate, workspace, events, commands));
    let tasks = Tasks { tracker: session.tasks.clone(), gone: session.gone.clone() };
    let served = Arc::clone(&session);
    let router = routes::router(&session);
    let service =
        service_fn(move |request| routes::answer(Arc::clone(&served), router.clone(), request));
    let end = {
        let io = BufWriter::with_capacity(FRAMES_BYTES, LinkStream::new(io));
        let connection = bounded(tasks.clone()).serve_connection(TokioIo::new(io), service);
        let mut connection = pin!(connection);
        let end = tokio::select! {
            closed = connection.as_mut() => ServeEnd::Closed(closed),
            () = session.over.cancelled() => ServeEnd::Over,
            () = stop.cancelled() => ServeEnd::Stopped,
        };
        if matches!(end, ServeEnd::Over) && session.fault().is_none() {
            connection.as_mut().graceful_shutdown();
            // The outcome is kept, so it does not matter how the pipe closes now.
            let _closed = tokio::time::timeout(GOODBYE, connection).await;
        }
        end
    };
    session.tasks.close();
    if matches!(end, ServeEnd::Closed(_)) {
        let _late = tokio::time::timeout(AFTERMATH, session.tasks.wait()).await;
    }
    tasks.gone.cancel();
    session.tasks.wait().await;
    match (session.fault(), end) {
        (Some(fault), _) => Err(fault),
        (None, ServeEnd::Over | ServeEnd::Stopped) => Ok(()),
        (None, ServeEnd::Closed(_)) if session.is_kept() => Ok(()),
        (None, ServeEnd::Closed(closed)) => {
            Err(Fault::new(FaultKind::Link, broken(closed.err().as_ref())))
        }
    }
}

/// THREAT: rapid resets, header floods, thousands of streams and unread bodies fill the host's memory;
/// a limit here stops each of them. Tried by `gate::hostile::a_rapid_reset`,
/// `gate::hostile::ten_thousand_streams`, `gate::hostile::a_flood_of_headers`.
fn bounded(tasks: Tasks) -> http2::Builder<Tasks> {
    let mut builder = http2::Builder::new(tasks);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::LINK_STREAMS)
        .max_header_list_size(limits::LINK_HEADER_BYTES)
        .max_send_buf_size(limits::LINK_SEND_BUFFER_BYTES)
        .initial_stream_window_size(limits::LINK_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::LINK_CONNECTION_WINDOW_BYTES)
        .max_pending_accept_reset_streams(limits::LINK_PENDING_RESETS)
        .max_local_error_reset_streams(limits::LINK_LOCAL_RESETS)
        // A slow sandbox must not count as gone. Tried by gate::hostile::a_slow_sandbox_is_not_cut_off.
        .keep_alive_interval(Duration::from_secs(limits::LINK_PING_SECONDS))
        .keep_alive_timeout(Duration::from_secs(limits::LINK_PONG_SECONDS));
    builder
}

/// Why the pipe ended before the turn did, for people.
fn broken(error: Option<&hyper::Error>) -> String {
    let Some(error) = error else { return "the pipe closed before the turn ended".to_owned() };
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    format!("the pipe broke before the turn ended: {cause}")
}

/// Runs streams as tasks and waits for their end; none outlives the pipe.
#[derive(Clone)]
struct Tasks {
    tracker: TaskTracker,
    gone: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        let gone = self.gone.clone();
        self.tracker.spawn(async move {
            gone.run_until_cancelled(task).await;
        });
    }
}

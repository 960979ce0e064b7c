//! What every attack begins with: a run whose sandbox is an impostor, watched to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use airlock_tests::backend::{answer, script};
use airlock_tests::engine::Engine;
use airlock_tests::images;
use airlock_tests::proxy::Proxy;
use airlock_tests::rig::Ran;
use airlock_tests::{Rig, peak};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};

/// The lie of a sandbox that finds everything in place.
pub(crate) const READY: &[u8] = br#"{"ready":1,"version":"0.1.0","confinement":{"seccomp":2,"no_new_privs":1,"capabilities":"c0","mounts":{"/workspace":{"at":"/workspace","kind":"tmpfs","options":"rw,nosuid,nodev"},"/tmp":{"at":"/tmp","kind":"tmpfs","options":"rw,nosuid,nodev"},"/run":{"at":"/run","kind":"tmpfs","options":"rw,nosuid,nodev,noexec"},"/home/agent":{"at":"/home/agent","kind":"tmpfs","options":"rw,nosuid,nodev"},"/dev/pts":{"at":"/dev/pts","kind":"devpts","options":"rw,nosuid,noexec"},"/proc":{"at":"/proc","kind":"proc","options":"rw"},"/proc/sys":{"at":"/proc/sys","kind":"proc","options":"ro"},"/sys":{"at":"/sys","kind":"sysfs","options":"ro"}},"settings":{"kernel.shm_rmid_forced":"1","kernel.sem":"250 32000 100 128","kernel.msgmni":"128"}}}
"#;
/// The most memory the host may ever have had.
pub(crate) const MOST_BYTES: u64 = 150 << 20;

/// How it ended. That it ended is the host's doing: an impostor that is not to leave stays for ever.
pub(crate) struct Ended {
    pub(crate) ran: Ran,
}

/// Notes that an impostor panicked: it plays in a task of its own, where the test would not see it.
struct Failure(Arc<AtomicBool>);

impl Drop for Failure {
    fn drop(&mut self) {
        self.0.fetch_or(std::thread::panicking(), Ordering::Release);
    }
}

/// Runs with an impostor; checks the memory on the way, and that nothing is left.
pub(crate) async fn against<F>(play: impl Fn(DuplexStream) -> F + Send + Sync + 'static) -> Ended
where
    F: Future<Output = ()> + Send + 'static,
{
    against_within(MOST_BYTES, play).await
}

/// The same, with another limit on the memory of the host.
pub(crate) async fn against_within<F>(
    limit: u64,
    play: impl Fn(DuplexStream) -> F + Send + Sync + 'static,
) -> Ended
where
    F: Future<Output = ()> + Send + 'static,
{
    let engine = Engine::connect().await;
    images::ready(&engine).await;
    let failed = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&failed);
    let proxy = Proxy::with_impostor(&engine, move |pipe| {
        let (failure, playing) = (Failure(Arc::clone(&noted)), play(pipe));
        async move {
            let _failure = failure;
            playing.await;
        }
    });
    let rig = Rig::new()
        .files(&[("a", "one\n")])
        .model(script![answer("the backend never said this")])
        .variable("DOCKER_HOST", &proxy.docker_host())
        .prompt("x");
    let live = rig.start().await;
    let watching = peak::watch(live.pid());
    let ran = live.end().await;
    assert!(!failed.load(Ordering::Acquire), "the impostor found what should not be: see above");
    let most = watching.await.expect("it was watched");
    assert!(most < limit, "the host had {most} bytes: {}", ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    Ended { ran: ran.assert_nothing_left_behind().await }
}

impl Ended {
    /// Failed, of this kind.
    #[track_caller]
    pub(crate) fn assert_fault(self, kind: &str) -> Ran {
        let outcome = self.ran.outcome();
        assert_eq!(outcome["outcome"], "failed", "{outcome} {}", self.ran.stderr);
        assert_eq!(outcome["fault"], kind, "{outcome}");
        self.ran
    }
}

/// Says that it is ready and takes the handoff; what follows is HTTP/2.
pub(crate) async fn handed_over(pipe: DuplexStream) -> (BufReader<DuplexStream>, Value) {
    let mut pipe = BufReader::new(pipe);
    pipe.write_all(READY).await.expect("the host reads");
    let mut line = String::new();
    pipe.read_line(&mut line).await.expect("the host hands over");
    let handoff = serde_json::from_str(&line).expect("a handoff is JSON");
    (pipe, handoff)
}

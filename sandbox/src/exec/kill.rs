//! Ends every process of the tool user, at the end of each call.
//!
//! # Why not process groups, a helper, or cgroups
//! A group does not hold processes that called `setsid`. A helper must be forked, and a fork bomb
//! leaves no free pid. cgroups are read-only in a sandbox. One thread with the tool user's
//! effective uid can signal all of the user's processes in one call.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use airlock_shared::outcome::{Fault, FaultKind};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{ToolUser, checked, reap, stay_unreadable, unsafe_sandbox};

/// A real uid that no process has. We have it while our effective uid is the tool user's.
///
/// THREAT: with real uid 0, `kill(-1)` would reach every root process around us. With the tool
/// user's, a command could signal us. Tried by
/// exec::kill::tests::a_sweep_ends_daemons_and_no_other_users_processes.
const KILLER_REAL_UID: u32 = 64_199;
/// The pauses between rounds double from the first to the longest: processes that end need the
/// processor too.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// How long it may take until there is one process less. Hundreds of processes on a tenth of a
/// processor take seconds to end, and all of them together more than this.
const PROGRESS_LIMIT: Duration = Duration::from_secs(5);
/// How long a sweep may take in all, even if processes end meanwhile.
const SWEEP_LIMIT: Duration = Duration::from_secs(60);

/// What is left after a sweep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KillResult {
    Clean,
    /// How many processes survived SIGKILL. `None`: they cannot be counted.
    Survivors(Option<usize>),
    /// We may be readable, or unable to kill: the turn must end.
    Unsafe(Fault),
}

/// The thread that kills. It is started early, so that it needs no free pid later.
pub(crate) struct ProcessKiller {
    user: ToolUser,
    requests: mpsc::Sender<oneshot::Sender<KillResult>>,
    /// A sweep may be queued that no call waits for.
    pending: AtomicBool,
}

impl ProcessKiller {
    /// # Errors
    /// If no thread can be started, or we would not inherit orphans.
    pub(crate) fn start(user: ToolUser) -> Result<Self, Fault> {
        if std::process::id() != 1 {
            // SAFETY: prctl with plain numbers.
            let answer = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
            checked(answer.into()).map_err(|error| unsafe_sandbox("subreaper", &error))?;
        }
        let (requests, waiting) = mpsc::channel::<oneshot::Sender<KillResult>>();
        let run = move || {
            // THREAT: the call that waits for a sweep is dropped, and its result is lost. So the
            // next call gets it. Tried by
            // exec::kill::tests::an_undelivered_danger_goes_to_the_next_call.
            let mut undelivered = None;
            while let Ok(reply) = waiting.recv() {
                undelivered = deliver(reply, undelivered.unwrap_or_else(|| kill_all(user)));
            }
        };
        std::thread::Builder::new()
            .name("killer".to_owned())
            .spawn(run)
            .map_err(|error| unsafe_sandbox("no thread to end commands", &error))?;
        Ok(Self { user, requests, pending: AtomicBool::new(false) })
    }

    /// Ends every process of the user and returns what is left.
    pub(crate) async fn kill_all(&self) -> KillResult {
        // Usually no process is left. One signal shows that, and is faster than waking the thread.
        if !self.pending.load(Ordering::Acquire) {
            match signal_all(self.user) {
                Err(fault) => return KillResult::Unsafe(fault),
                Ok(KillRound::NoneLeft) => return KillResult::Clean,
                Ok(KillRound::SomeLeft) => {}
            }
        }
        self.pending.store(true, Ordering::Release);
        let (reply, done) = oneshot::channel();
        if self.requests.send(reply).is_ok()
            && let Ok(result) = done.await
        {
            self.pending.store(false, Ordering::Release);
            return result;
        }
        KillResult::Unsafe(Fault::new(FaultKind::Sandbox, "the thread that ends commands is gone"))
    }

    /// Call this before a command is started: a queued sweep must not kill it.
    pub(crate) async fn wait_pending(&self) -> KillResult {
        match self.pending.load(Ordering::Acquire) {
            true => self.kill_all().await,
            false => KillResult::Clean,
        }
    }

    /// Queues a sweep and does not wait: for a call that was dropped.
    pub(crate) fn sweep_later(&self) {
        self.pending.store(true, Ordering::Release);
        let (reply, _) = oneshot::channel();
        // If the thread is gone, the next call reports it.
        drop(self.requests.send(reply));
    }
}

/// Sends the result. A danger that was not received is returned. Survivors are not: the next sweep
/// finds them again.
fn deliver(reply: oneshot::Sender<KillResult>, result: KillResult) -> Option<KillResult> {
    reply.send(result).err().filter(|result| matches!(result, KillResult::Unsafe(_)))
}

/// Only on the killer thread.
fn kill_all(user: ToolUser) -> KillResult {
    let mut pause = FIRST_PAUSE;
    let mut deadline = SweepDeadline::new(Instant::now());
    loop {
        match signal_all(user) {
            Err(fault) => return KillResult::Unsafe(fault),
            Ok(KillRound::NoneLeft) => return KillResult::Clean,
            Ok(KillRound::SomeLeft) => {}
        }
        reap::collect();
        match count_living(user) {
            Some(0) => {
                reap::collect();
                return KillResult::Clean;
            }
            left if deadline.is_over(left, Instant::now()) => return KillResult::Survivors(left),
            _ => {}
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
        reap::collect();
    }
}

/// How long killed processes may take to end.
///
/// THREAT: a command leaves hundreds of processes that end one by one, each just in time, and its
/// call lasts as long as it likes. Tried by exec::kill::tests::a_sweep_has_an_end.
struct SweepDeadline {
    began: Instant,
    /// When there was last one process less.
    progress: Instant,
    fewest: usize,
}

impl SweepDeadline {
    fn new(now: Instant) -> Self {
        Self { began: now, progress: now, fewest: usize::MAX }
    }

    fn is_over(&mut self, left: Option<usize>, now: Instant) -> bool {
        if let Some(fewer) = left.filter(|left| *left < self.fewest) {
            (self.fewest, self.progress) = (fewer, now);
        }
        now - self.progress >= PROGRESS_LIMIT || now - self.began >= SWEEP_LIMIT
    }
}

enum KillRound {
    /// There is no other process in this sandbox.
    NoneLeft,
    /// There are processes, of this user or of others.
    SomeLeft,
}

/// One SIGKILL to all the user's processes. The kernel blocks forks meanwhile, so a process that is
/// forking is killed before its child starts.
fn signal_all(user: ToolUser) -> Result<KillRound, Fault> {
    let real = if user.uid() == KILLER_REAL_UID { KILLER_REAL_UID - 1 } else { KILLER_REAL_UID };
    // SAFETY: raw calls with plain numbers; they change this thread only, and `saved` stays 0.
    let (taken, killed, error, restored) = unsafe {
        let taken = checked(libc::syscall(libc::SYS_setresuid, real, user.uid(), 0));
        let (mut killed, mut error) = (0, 0);
        if taken.is_ok() {
            killed = libc::kill(-1, libc::SIGKILL);
            error = *libc::__errno_location();
        }
        let restored = checked(libc::syscall(libc::SYS_setresuid, 0, 0, 0));
        (taken, killed, error, restored)
    };
    stay_unreadable()?;
    taken.and(restored).map_err(|error| unsafe_sandbox("cannot end commands", &error))?;
    Ok(if killed != 0 && error == libc::ESRCH { KillRound::NoneLeft } else { KillRound::SomeLeft })
}

/// How many of the user's processes have not ended. `None` if the status of one cannot be read: it
/// does not count as gone.
fn count_living(user: ToolUser) -> Option<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir("/proc").ok()? {
        let entry = entry.ok()?;
        if !entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        match std::fs::read(entry.path().join("status")) {
            Ok(status) => count += usize::from(is_living(&String::from_utf8_lossy(&status), user)),
            Err(error) if has_ended(&error) => {}
            Err(_) => return None,
        }
    }
    Some(count)
}

/// Whether reading a process failed because it ended.
fn has_ended(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// Whether one process is the user's, by any of its ids, and has not ended.
fn is_living(status: &str, user: ToolUser) -> bool {
    let field = |name| status.lines().find_map(|line| line.strip_prefix(name));
    let ended = field("State:").is_some_and(|state| state.trim_start().starts_with(['Z', 'X']));
    let mut ids = field("Uid:").unwrap_or_default().split_ascii_whitespace();
    !ended && ids.any(|id| id.parse() == Ok(user.uid()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{start, user};
    use super::*;

    #[test]
    fn a_sweep_has_an_end() {
        let began = Instant::now();
        let after = |seconds: u64| began + Duration::from_secs(seconds);
        // From the number of processes at each second: when it is over.
        let over = |left: &dyn Fn(u64) -> Option<usize>| {
            let mut deadline = SweepDeadline::new(began);
            (0..1000).find(|&second| deadline.is_over(left(second), after(second)))
        };
        // One process that does not end, an unknown number, and a number that stays the same.
        assert_eq!(over(&|_| Some(1)), Some(5));
        assert_eq!(over(&|_| None), Some(5));
        assert_eq!(over(&|second| Some(if second < 3 { 9 } else { 8 })), Some(8));
        // One process less every four seconds: each in time, and too long in all.
        assert_eq!(over(&|second| Some(500 - second as usize / 4)), Some(60));
    }

    #[test]
    fn an_undelivered_danger_goes_to_the_next_call() {
        let danger = || KillResult::Unsafe(Fault::new(FaultKind::Sandbox, "readable"));
        let delivered = |result, is_received| {
            let (reply, receiver) = oneshot::channel();
            let receiver = Some(receiver).filter(|_| is_received);
            (deliver(reply, result), receiver.map(|mut it| it.try_recv()))
        };
        assert_eq!(delivered(danger(), true), (None, Some(Ok(danger()))));
        assert_eq!(delivered(danger(), false), (Some(danger()), None));
        assert_eq!(delivered(KillResult::Clean, false), (None, None));
        assert_eq!(delivered(KillResult::Survivors(Some(1)), false), (None, None));
    }

    #[test]
    fn a_process_is_living_by_its_state_and_ids() {
        let user = ToolUser::new(1234, 1234).expect("not root");
        let status = |state: &str, ids: &str| {
            format!("Name:\tx\nState:\t{state}\nUid:\t{ids}\nGid:\t0\t0\t0\t0\n")
        };
        for ids in ["1234\t1\t1\t1", "1\t1234\t1\t1", "1\t1\t1234\t1", "1\t1\t1\t1234"] {
            assert!(is_living(&status("D (disk sleep)", ids), user), "{ids}");
            assert!(!is_living(&status("Z (zombie)", ids), user), "{ids}");
        }
        assert!(!is_living(&status("S (sleeping)", "0\t0\t0\t0"), user));
        for (error, ended) in [
            (libc::ENOENT, true),
            (libc::ESRCH, true),
            (libc::EMFILE, false),
            (libc::ENOMEM, false),
        ] {
            assert_eq!(has_ended(&std::io::Error::from_raw_os_error(error)), ended);
        }
    }

    /// Needs root. Daemons that left their session, ignore SIGTERM, forked twice, or stopped
    /// themselves are gone after one sweep. This process, another user's and root's are not.
    #[tokio::test]
    async fn a_sweep_ends_daemons_and_no_other_users_processes() {
        let (mine, other) = (user(3), user(4));
        let (killer, theirs) =
            (ProcessKiller::start(mine).expect("root"), ProcessKiller::start(other).expect("root"));
        let bystander = start("exec sleep 1000", other);
        let command = start(
            "trap '' TERM; for i in 1 2 3 4 5 6 7 8 9 10; do (setsid sh -c 'trap \"\" TERM HUP INT; (sleep 1000 &) ; kill -STOP $$; sleep 1000' >/dev/null 2>&1 &) ; done; sleep 0.3; exit 7",
            mine,
        );
        assert_eq!(command.ended().await, super::super::ExitStatus(7));
        assert!(count_living(mine) >= Some(10), "the test is blind: {:?}", count_living(mine));
        assert_eq!(killer.kill_all().await, KillResult::Clean);
        assert_eq!(count_living(mine), Some(0));
        assert_eq!(count_living(other), Some(1));
        assert_eq!(theirs.kill_all().await, KillResult::Clean);
        assert_eq!(bystander.ended().await, super::super::ExitStatus(128 + libc::SIGKILL));
    }

    /// The limit is set first, and the bomb ends if it cannot be: this machine is not a sandbox.
    const BOMB: &str = "exec bash -c 'ulimit -u 100 || exit 1
        b() { b | b & }; while :; do b; sleep 0.01; done 2>/dev/null'";

    /// Needs root. A bomb that forks as fast as it can, limited to 100 processes.
    #[tokio::test]
    async fn a_fork_bomb_is_swept() {
        let mine = user(5);
        let killer = ProcessKiller::start(mine).expect("root");
        let bomb = start(BOMB, mine);
        for _ in 0..3_000 {
            if count_living(mine) > Some(5) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(count_living(mine) > Some(5), "the test is blind: {:?}", count_living(mine));
        assert_eq!(killer.kill_all().await, KillResult::Clean);
        assert_eq!(count_living(mine), Some(0));
        assert_eq!(bomb.ended().await, super::super::ExitStatus(128 + libc::SIGKILL));
    }

    /// Needs root. A queued sweep is over before the next command starts.
    #[tokio::test]
    async fn a_queued_sweep_is_waited_for() {
        let mine = user(7);
        let killer = ProcessKiller::start(mine).expect("root");
        let command = start("exec sleep 1000", mine);
        assert_eq!(killer.wait_pending().await, KillResult::Clean);
        assert_eq!(count_living(mine), Some(1), "no sweep was queued, and a command was ended");
        killer.sweep_later();
        assert_eq!(killer.wait_pending().await, KillResult::Clean);
        assert_eq!(count_living(mine), Some(0));
        assert_eq!(command.ended().await, super::super::ExitStatus(128 + libc::SIGKILL));
        let next = start("exec sleep 1000", mine);
        assert_eq!(killer.wait_pending().await, KillResult::Clean);
        assert_eq!(count_living(mine), Some(1), "the queued sweep ran twice");
        assert_eq!(killer.kill_all().await, KillResult::Clean);
        assert_eq!(next.ended().await, super::super::ExitStatus(128 + libc::SIGKILL));
    }

    /// Needs root. After a sweep this process is unreadable again, and can sweep again.
    #[tokio::test]
    async fn a_sweep_leaves_us_unreadable() {
        let killer = ProcessKiller::start(user(6)).expect("root");
        assert_eq!(killer.kill_all().await, KillResult::Clean);
        // SAFETY: prctl with plain numbers.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) }, 0);
        assert_eq!(killer.kill_all().await, KillResult::Clean);
    }
}

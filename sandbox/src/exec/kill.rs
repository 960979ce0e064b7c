//! Ending every process of the tool user: the end of each call.
//!
//! # Why not process groups, a helper, or cgroups
//! A group misses what called `setsid`. A helper must be forked, and a fork bomb leaves no free
//! pid. cgroups are read-only in a sandbox. One thread that takes the tool user's effective uid may
//! signal all of them in one call, and needs nothing but itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use airlock_shared::outcome::{Fault, FaultKind};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{ToolUser, checked, reap, stay_unreadable, unsafe_sandbox};

/// A real uid that nobody runs as, held while we are the tool user.
///
/// THREAT: with real uid 0, `kill(-1)` would reach every root process around us; with the tool's, a
/// command could signal us. Tried by
/// exec::kill::tests::a_sweep_ends_daemons_and_spares_everybody_else.
const KILLER_REAL_UID: u32 = 64_199;
/// Pauses between rounds of killing and collecting double from the first to the longest: what ends
/// needs the processor too.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// How long it may take until there is one less. Some hundred that share a tenth of a processor take
/// seconds to end, all of them together more than this.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a sweep may take in all, however many end meanwhile.
const SWEEP_MOST: Duration = Duration::from_secs(60);

/// What a sweep left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KillResult {
    Clean,
    /// So many processes outlived SIGKILL; `None`: they cannot be counted.
    Survivors(Option<usize>),
    /// We may be readable or powerless now: the run must end.
    Unsafe(Fault),
}

/// The standing thread, made at the start so that it needs no free pid when it counts.
pub(crate) struct ProcessKiller {
    user: ToolUser,
    requests: mpsc::Sender<oneshot::Sender<KillResult>>,
    /// The thread may have a sweep before it that nobody waits for any more.
    pending: AtomicBool,
}

impl ProcessKiller {
    /// # Errors
    /// When there is no thread to be had, or orphans would not come to us.
    pub(crate) fn start(user: ToolUser) -> Result<Self, Fault> {
        if std::process::id() != 1 {
            // SAFETY: prctl with plain numbers.
            let answer = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
            checked(answer.into()).map_err(|error| unsafe_sandbox("subreaper", &error))?;
        }
        let (requests, waiting) = mpsc::channel::<oneshot::Sender<KillResult>>();
        let run = move || {
            // THREAT: what was found for a call that was dropped is told to no one. The next one
            // that asks is told. Tried by exec::kill::tests::what_no_one_heard_is_told_to_the_next.
            let mut unheard = None;
            while let Ok(reply) = waiting.recv() {
                unheard = unheard_of(reply, unheard.unwrap_or_else(|| kill_all(user)));
            }
        };
        std::thread::Builder::new()
            .name("broom".to_owned())
            .spawn(run)
            .map_err(|error| unsafe_sandbox("no thread to end commands", &error))?;
        Ok(Self { user, requests, pending: AtomicBool::new(false) })
    }

    /// Ends every process of the user and says what is left.
    pub(crate) async fn kill_all(&self) -> KillResult {
        // Mostly nobody is left, which one signal finds out: waking the thread takes longer.
        if !self.pending.load(Ordering::Acquire) {
            match signal_all(self.user) {
                Err(fault) => return KillResult::Unsafe(fault),
                Ok(KillRound::Nobody) => return KillResult::Clean,
                Ok(KillRound::Perhaps) => {}
            }
        }
        self.pending.store(true, Ordering::Release);
        let (reply, done) = oneshot::channel();
        if self.requests.send(reply).is_ok()
            && let Ok(swept) = done.await
        {
            self.pending.store(false, Ordering::Release);
            return swept;
        }
        KillResult::Unsafe(Fault::new(
            FaultKind::Sandbox,
            "the thread that ends commands ended itself",
        ))
    }

    /// Before a command is started: a sweep that nobody waited for must not reach it.
    pub(crate) async fn wait_pending(&self) -> KillResult {
        match self.pending.load(Ordering::Acquire) {
            true => self.kill_all().await,
            false => KillResult::Clean,
        }
    }

    /// As [`Self::kill_all`], where nobody can wait: a call that was dropped.
    pub(crate) fn sweep_later(&self) {
        self.pending.store(true, Ordering::Release);
        let (reply, _) = oneshot::channel();
        // Only a thread that is gone does not take it, and then the next call says so.
        drop(self.requests.send(reply));
    }
}

/// Answers; what must not be lost comes back if no one listens. Processes that are left are found
/// again by the next sweep.
fn unheard_of(reply: oneshot::Sender<KillResult>, swept: KillResult) -> Option<KillResult> {
    reply.send(swept).err().filter(|swept| matches!(swept, KillResult::Unsafe(_)))
}

/// On the standing thread alone.
fn kill_all(user: ToolUser) -> KillResult {
    let mut pause = FIRST_PAUSE;
    let mut patience = EmptyAnswerPolicy::from(Instant::now());
    loop {
        match signal_all(user) {
            Err(fault) => return KillResult::Unsafe(fault),
            Ok(KillRound::Nobody) => return KillResult::Clean,
            Ok(KillRound::Perhaps) => {}
        }
        reap::collect();
        match living(user) {
            Some(0) => {
                reap::collect();
                return KillResult::Clean;
            }
            left if patience.is_over(left, Instant::now()) => return KillResult::Survivors(left),
            _ => {}
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
        reap::collect();
    }
}

/// How long what was killed may take to end.
///
/// THREAT: a command leaves hundreds that end one by one, each just in time, and its call lasts for as
/// long as it likes. Tried by exec::kill::tests::a_sweep_has_an_end.
struct EmptyAnswerPolicy {
    began: Instant,
    /// When there was last one less.
    since: Instant,
    fewest: usize,
}

impl EmptyAnswerPolicy {
    fn from(now: Instant) -> Self {
        Self { began: now, since: now, fewest: usize::MAX }
    }

    fn is_over(&mut self, left: Option<usize>, now: Instant) -> bool {
        if let Some(fewer) = left.filter(|left| *left < self.fewest) {
            (self.fewest, self.since) = (fewer, now);
        }
        now - self.since >= PATIENCE || now - self.began >= SWEEP_MOST
    }
}

enum KillRound {
    /// There is no other process in this sandbox.
    Nobody,
    /// There are processes, of this user or of others.
    Perhaps,
}

/// One SIGKILL to all the user's processes. The kernel holds back forks meanwhile, so a process
/// that is forking is ended before its child begins.
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
    Ok(if killed != 0 && error == libc::ESRCH { KillRound::Nobody } else { KillRound::Perhaps })
}

/// The user's processes that have not ended, by what the kernel says of each. `None` if it does not
/// say it of one that is there: what cannot be looked at does not count as gone.
fn living(user: ToolUser) -> Option<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir("/proc").ok()? {
        let entry = entry.ok()?;
        if !entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        match std::fs::read(entry.path().join("status")) {
            Ok(status) => count += usize::from(lives(&String::from_utf8_lossy(&status), user)),
            Err(error) if is_of_one_that_ended(&error) => {}
            Err(_) => return None,
        }
    }
    Some(count)
}

fn is_of_one_that_ended(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// Whether one process is the user's, by any of its ids, and has not ended.
fn lives(status: &str, user: ToolUser) -> bool {
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
        // How many there are at each second; when it is over.
        let over = |left: &dyn Fn(u64) -> Option<usize>| {
            let mut patience = EmptyAnswerPolicy::from(began);
            (0..1000).find(|&second| patience.is_over(left(second), after(second)))
        };
        // One that does not end, and as many as there were, however long they are looked at.
        assert_eq!(over(&|_| Some(1)), Some(5));
        assert_eq!(over(&|_| None), Some(5));
        assert_eq!(over(&|second| Some(if second < 3 { 9 } else { 8 })), Some(8));
        // One less every four seconds: never too late, and too long in all.
        assert_eq!(over(&|second| Some(500 - second as usize / 4)), Some(60));
    }

    #[test]
    fn what_no_one_heard_is_told_to_the_next() {
        let danger = || KillResult::Unsafe(Fault::new(FaultKind::Sandbox, "readable"));
        let said = |swept, is_heard| {
            let (reply, listener) = oneshot::channel();
            let listener = Some(listener).filter(|_| is_heard);
            (unheard_of(reply, swept), listener.map(|mut it| it.try_recv()))
        };
        assert_eq!(said(danger(), true), (None, Some(Ok(danger()))));
        assert_eq!(said(danger(), false), (Some(danger()), None));
        assert_eq!(said(KillResult::Clean, false), (None, None));
        assert_eq!(said(KillResult::Survivors(Some(1)), false), (None, None));
    }

    #[test]
    fn what_lives_is_told_by_state_and_ids() {
        let user = ToolUser::new(1234, 1234).expect("not root");
        let status = |state: &str, ids: &str| {
            format!("Name:\tx\nState:\t{state}\nUid:\t{ids}\nGid:\t0\t0\t0\t0\n")
        };
        for ids in ["1234\t1\t1\t1", "1\t1234\t1\t1", "1\t1\t1234\t1", "1\t1\t1\t1234"] {
            assert!(lives(&status("D (disk sleep)", ids), user), "{ids}");
            assert!(!lives(&status("Z (zombie)", ids), user), "{ids}");
        }
        assert!(!lives(&status("S (sleeping)", "0\t0\t0\t0"), user));
        for (error, ended) in [
            (libc::ENOENT, true),
            (libc::ESRCH, true),
            (libc::EMFILE, false),
            (libc::ENOMEM, false),
        ] {
            assert_eq!(is_of_one_that_ended(&std::io::Error::from_raw_os_error(error)), ended);
        }
    }

    /// Needs root. Daemons that left their session, ignore SIGTERM, forked twice, or stopped
    /// themselves are gone after one sweep; this process, another user's and root's are not.
    #[tokio::test]
    async fn a_sweep_ends_daemons_and_spares_everybody_else() {
        let (mine, other) = (user(3), user(4));
        let (killer, theirs) =
            (ProcessKiller::start(mine).expect("root"), ProcessKiller::start(other).expect("root"));
        let bystander = start("exec sleep 1000", other);
        let command = start(
            "trap '' TERM; for i in 1 2 3 4 5 6 7 8 9 10; do (setsid sh -c 'trap \"\" TERM HUP INT; (sleep 1000 &) ; kill -STOP $$; sleep 1000' >/dev/null 2>&1 &) ; done; sleep 0.3; exit 7",
            mine,
        );
        assert_eq!(command.ended().await, super::super::ExitStatus(7));
        assert!(living(mine) >= Some(10), "the test is blind: {:?}", living(mine));
        assert_eq!(killer.kill_all().await, KillResult::Clean);
        assert_eq!(living(mine), Some(0));
        assert_eq!(living(other), Some(1));
        assert_eq!(theirs.kill_all().await, KillResult::Clean);
        assert_eq!(bystander.ended().await, super::super::ExitStatus(128 + libc::SIGKILL));
    }

    /// The limit comes first and ends the bomb where it cannot be set: this machine is not a sandbox.
    const BOMB: &str = "exec bash -c 'ulimit -u 100 || exit 1
        b() { b | b & }; while :; do b; sleep 0.01; done 2>/dev/null'";

    /// Needs root. A bomb that forks as fast as it can, held to 100 processes.
    #[tokio::test]
    async fn a_fork_bomb_is_swept() {
        let mine = user(5);
        let killer = ProcessKiller::start(mine).expect("root");
        let bomb = start(BOMB, mine);
        for _ in 0..3_000 {
            if living(mine) > Some(5) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(living(mine) > Some(5), "the test is blind: {:?}", living(mine));
        assert_eq!(killer.kill_all().await, KillResult::Clean);
        assert_eq!(living(mine), Some(0));
        assert_eq!(bomb.ended().await, super::super::ExitStatus(128 + libc::SIGKILL));
    }

    /// Needs root. A sweep that nobody waited for is over before the next command starts.
    #[tokio::test]
    async fn a_sweep_that_is_owed_is_waited_for() {
        let mine = user(7);
        let killer = ProcessKiller::start(mine).expect("root");
        let command = start("exec sleep 1000", mine);
        assert_eq!(killer.wait_pending().await, KillResult::Clean);
        assert_eq!(living(mine), Some(1), "nothing was owed, and a command was ended");
        killer.sweep_later();
        assert_eq!(killer.wait_pending().await, KillResult::Clean);
        assert_eq!(living(mine), Some(0));
        assert_eq!(command.ended().await, super::super::ExitStatus(128 + libc::SIGKILL));
        let next = start("exec sleep 1000", mine);
        assert_eq!(killer.wait_pending().await, KillResult::Clean);
        assert_eq!(living(mine), Some(1), "what was owed was paid twice");
        assert_eq!(killer.kill_all().await, KillResult::Clean);
        assert_eq!(next.ended().await, super::super::ExitStatus(128 + libc::SIGKILL));
    }

    /// Needs root. After a sweep this process is unreadable again, and powerful again.
    #[tokio::test]
    async fn a_sweep_leaves_us_unreadable() {
        let killer = ProcessKiller::start(user(6)).expect("root");
        assert_eq!(killer.kill_all().await, KillResult::Clean);
        // SAFETY: prctl with plain numbers.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) }, 0);
        assert_eq!(killer.kill_all().await, KillResult::Clean);
    }
}

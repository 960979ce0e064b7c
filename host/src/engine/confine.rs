//! The constraints on a container, as data: what it may not do, what it may do, how much of it, and
//! the reason for each. An engine module writes them as a request (`docker/plan.rs`) and, once the
//! container is made, compares it with them (`docker/verify.rs`).
//!
//! Absent on purpose: a seccomp profile of ours (the engine's default applies, and the sandbox
//! restricts commands further) and any way to add a constraint without its reason.

use airlock_shared::defaults;

use super::live::LiveDirectory;

/// The name of our binary in its volume.
pub const BINARY: &str = "airlock-sandbox";

/// Where the volume with our binary is mounted in one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinaryMount {
    directory: String,
}

impl BinaryMount {
    /// THREAT: an image has a link at the path of our mount (`/.airlock` to `/proc/1/cwd/evil`). The
    /// engine then mounts elsewhere, the kernel runs the image's own program, and that program gets
    /// the handoff. No image can guess 128 random bits. Tried by
    /// escape::image::a_link_at_a_known_name_has_the_images_program_run and
    /// escape::image::no_image_gets_the_handoff.
    #[must_use]
    pub fn random() -> Self {
        Self { directory: format!("/.airlock-{:032x}", rand::random::<u128>()) }
    }

    #[must_use]
    pub fn directory(&self) -> &str {
        &self.directory
    }

    /// The binary's path.
    #[must_use]
    pub fn program(&self) -> String {
        format!("{}/{BINARY}", self.directory)
    }
}

/// What a container is made for; nothing in it is optional.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerSpec {
    /// The session's id: part of the container's name.
    pub session: String,
    /// The install that makes it. Only this install may sweep it.
    pub install: String,
    /// The mark of the lock that its host holds; empty if it holds none.
    pub lock: String,
    /// Who started it: shown to people who look at the engine.
    pub owner: String,
    /// The user and group of commands. On a live directory, its owner is used instead.
    pub uid: u32,
    /// Memory in bytes, without what a workspace in memory takes.
    pub memory: u64,
    pub cpus: f64,
    pub pids: u32,
    /// Where the workspace is.
    pub work: WorkspaceMount,
}

/// Where the workspace of a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkspaceMount {
    /// A copy in the container's memory, of limited bytes.
    Memory { bytes: u64 },
    /// A copy on the engine's disk, which has no quota.
    EngineDisk,
    /// The person's own directory.
    Live(LiveDirectory),
}

impl ContainerSpec {
    /// The user and group that commands run as; they own the workspace in the container.
    #[must_use]
    pub fn tool(&self) -> (u32, u32) {
        match &self.work {
            WorkspaceMount::Live(tree) => tree.owner(),
            WorkspaceMount::Memory { .. } | WorkspaceMount::EngineDisk => (self.uid, self.uid),
        }
    }

    /// What the person gave up with the choices for this session; the record names them.
    #[must_use]
    pub fn waivers(&self) -> Vec<Waiver> {
        match self.work {
            WorkspaceMount::Memory { .. } => vec![],
            WorkspaceMount::EngineDisk => vec![Waiver::DiskQuota],
            WorkspaceMount::Live(_) => vec![Waiver::DiskQuota, Waiver::LiveTree],
        }
    }
}

/// A constraint that is not enforced because the person chose so, or not checked because this engine
/// cannot show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiver {
    DiskQuota,
    LiveTree,
    /// The engine's `ps` has no column for the program.
    Program,
    /// The engine's runtime has its own kernel, and the engine does not see its processes.
    ProgramOfOwnKernel,
    /// Such a kernel reports that it filters no system calls.
    FilterOfOwnKernel,
    /// Such a kernel does not show its mounts.
    MountsOfOwnKernel,
    /// Such a kernel does not show its settings.
    SettingsOfOwnKernel,
}

impl Waiver {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DiskQuota => "no disk quota: nothing limits how much the workspace may hold",
            Self::LiveTree => {
                "live directory: commands change the host's files directly, and git and other \
                 programs of the host may run what they leave there; what is new is named at the end"
            }
            Self::Program => {
                "not checked from outside: which program runs in the container (the engine's `ps` cannot show it)"
            }
            Self::ProgramOfOwnKernel => {
                "not checked from outside: which program runs in the container (the engine's runtime has its own kernel)"
            }
            Self::FilterOfOwnKernel => {
                "not checked: the system call filter (the engine's runtime has its own kernel, which shows none)"
            }
            Self::MountsOfOwnKernel => {
                "not checked from inside: what is mounted where (the engine's runtime has its own kernel, which does not show it)"
            }
            Self::SettingsOfOwnKernel => {
                "not checked: the limits on memory that outlives processes (the engine's runtime has its own kernel, which does not show its settings)"
            }
        }
    }
}

/// One rule, and the reason for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Constraint {
    pub rule: Rule,
    pub reason: &'static str,
}

/// What an engine is asked to enforce.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// Exactly the resolved image.
    Image,
    NoNetwork,
    NoCapabilitiesBut(&'static [&'static str]),
    NoNewPrivileges,
    /// The engine's filter of system calls.
    SystemCallFilter,
    /// The engine's list of kernel files that are hidden or read-only.
    KernelFiles,
    /// Nothing of the host that an engine can share.
    NothingOfTheHost,
    ReadOnlyRoot,
    NoLog,
    OwnIpc,
    /// Settings of the kernel for this container, by name.
    Settings(&'static [(&'static str, &'static str)]),
    OwnCgroups,
    NoHealthCheck,
    User(&'static str),
    /// In bytes, swap included.
    Memory(u64),
    /// Microseconds of processor time in each [`CPU_PERIOD`]. A quota and not a number of processors,
    /// because the engine refuses a number that is larger than it has.
    Cpus(i64),
    Pids(i64),
    OpenFiles(i64),
    NoCore,
    Shared(i64),
    /// A file system in memory.
    Scratch {
        at: &'static str,
        bytes: u64,
        inodes: u64,
        owner: (u32, u32),
        mode: u32,
        exec: bool,
    },
    /// Its own `/dev/pts`, with at most so many terminals.
    Terminals(u32),
    /// The volume with our binary, read-only, and the binary as the only program.
    Binary,
    /// The session's own volume.
    WorkVolume,
    /// A path on the engine's machine.
    Bind {
        from: String,
        at: String,
        writable: bool,
    },
    /// Stdin stays open until the first client leaves.
    Pipe,
}

const MIB: u64 = 1 << 20;
/// Inodes of `/tmp` and of the home directory.
const SCRATCH_INODES: u64 = 100_000;
/// Inodes of a workspace in memory: twice what may be copied in.
const WORK_INODES: u64 = 2 * airlock_shared::limits::WORKSPACE_ENTRIES;
/// The period of the processor quota, in microseconds.
pub const CPU_PERIOD: i64 = 100_000;
/// How many terminals may be open at once.
const TERMINALS: u32 = 64;
/// Limits on System V memory, which outlives processes: shared memory goes with the last process that
/// has it attached, the rest is at most two MiB (the numbers of `sem`: per set, in all, per call, sets).
const SYSTEM_V_SETTINGS: &[(&str, &str)] = &[
    ("kernel.shm_rmid_forced", "1"),
    ("kernel.sem", "250 32000 100 128"),
    ("kernel.msgmni", "128"),
];
/// File descriptors of one process.
const OPEN_FILES: i64 = 8192;

/// The constraints on a container.
#[must_use]
pub fn constraints(spec: &ContainerSpec) -> Vec<Constraint> {
    let tool = spec.tool();
    let mut constraints = Vec::with_capacity(24);
    let mut add = |rule: Rule, reason: &'static str| constraints.push(Constraint { rule, reason });

    add(Rule::Image, "a tag may point to another image between two requests");
    add(Rule::NoNetwork, "the pipe is the only way out, and the host decides what passes");
    add(
        Rule::NoCapabilitiesBut(&["SETGID", "SETUID"]),
        "the sandbox gives commands their own uid, and takes that uid to kill them; nothing else",
    );
    add(Rule::User("0"), "for any other user the engine would drop these two capabilities too");
    add(Rule::NoNewPrivileges, "a set-uid program of the image would give a command root");
    add(
        Rule::SystemCallFilter,
        "system calls that no command needs are attack surface of the kernel",
    );
    add(
        Rule::KernelFiles,
        "root in the container could read and change settings of the whole kernel",
    );
    add(
        Rule::NothingOfTheHost,
        "a namespace, a device or a setting of the host is a way out of the container",
    );
    add(
        Rule::ReadOnlyRoot,
        "the image's layer has no quota, and programs changed there would run as root",
    );
    add(Rule::NoLog, "the engine would keep everything from the pipe on its disk, without a limit");
    add(Rule::OwnIpc, "other containers must not share memory with this one");
    // THREAT: commands fill shared memory that belongs to no process, until the kernel kills the
    // sandbox. Tried by escape::floods::what_outlives_its_process_is_bounded.
    add(
        Rule::Settings(SYSTEM_V_SETTINGS),
        "killing processes does not free memory that outlives them",
    );
    add(Rule::OwnCgroups, "the sandbox must not see the names of the engine's cgroups");
    add(Rule::NoHealthCheck, "the image's health check would run as root beside our program");
    add(Rule::Pipe, "when the host dies, the sandbox sees the end of stdin and exits");

    let in_memory = match spec.work {
        WorkspaceMount::Memory { bytes } => bytes,
        WorkspaceMount::EngineDisk | WorkspaceMount::Live(_) => 0,
    };
    add(
        Rule::Memory(spec.memory.saturating_add(in_memory)),
        "with swap, a command could take twice as much; a workspace in memory counts as memory",
    );
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "a saturating cast of a number of processors"
    )]
    add(
        Rule::Cpus((spec.cpus * CPU_PERIOD as f64) as i64),
        "a command in an endless loop must not slow the host down",
    );
    add(Rule::Pids(i64::from(spec.pids)), "a fork bomb must not fill the host's process table");
    add(Rule::OpenFiles(OPEN_FILES), "descriptors use memory of the host's kernel");
    add(Rule::NoCore, "a core dump of the sandbox would contain its secrets");
    #[expect(clippy::cast_possible_wrap, reason = "a constant")]
    add(Rule::Shared((64 * MIB) as i64), "shared memory is memory too");

    add(
        Rule::Scratch {
            at: "/tmp",
            bytes: (512 * MIB).min(spec.memory / 4),
            inodes: SCRATCH_INODES,
            owner: (0, 0),
            mode: 0o1777,
            exec: true,
        },
        "commands build and run there",
    );
    add(
        Rule::Scratch {
            at: "/run",
            bytes: 16 * MIB,
            inodes: 1000,
            owner: (0, 0),
            mode: 0o755,
            exec: false,
        },
        "programs expect it, and write little there",
    );
    add(
        Rule::Scratch {
            at: defaults::HOME_PATH,
            bytes: (512 * MIB).min(spec.memory / 4),
            inodes: SCRATCH_INODES,
            owner: tool,
            mode: 0o700,
            exec: true,
        },
        "tools keep their caches and settings there",
    );
    add(Rule::Binary, "the sandbox itself: read-only, and not part of any image");
    // THREAT: one container uses up the terminals that the kernel has for all containers. Tried by
    // escape::beside::terminals_are_limited.
    add(Rule::Terminals(TERMINALS), "all containers share a few thousand terminals of the kernel");

    match &spec.work {
        WorkspaceMount::Memory { bytes } => add(
            Rule::Scratch {
                at: defaults::WORKSPACE_PATH,
                bytes: *bytes,
                inodes: WORK_INODES,
                owner: tool,
                mode: 0o755,
                exec: true,
            },
            "the copy of the directory: its bytes and inodes are limited, and not on the host's disk",
        ),
        WorkspaceMount::EngineDisk => {
            add(Rule::WorkVolume, "the person asked for the copy to be on the engine's disk");
        }
        WorkspaceMount::Live(tree) => {
            let root = tree.path().display().to_string();
            add(
                Rule::Bind {
                    from: root.clone(),
                    at: defaults::WORKSPACE_PATH.to_owned(),
                    writable: true,
                },
                "the person asked for changes in the directory itself",
            );
            for git in tree.read_only() {
                // THREAT: a hook or a setting that is written there runs on the host, as the user,
                // with the next git command. Tried by engine::docker::tests::a_live_git_cannot_be_written.
                add(
                    Rule::Bind {
                        from: format!("{root}/{}", git.display()),
                        at: format!("{}/{}", defaults::WORKSPACE_PATH, git.display()),
                        writable: false,
                    },
                    "git on the host runs the hooks and settings of a repository",
                );
            }
        }
    }
    constraints
}

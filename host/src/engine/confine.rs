//! The terms of a container, as data: what it may not do, what it may, how much of it, and for each the
//! reason. An engine turns the list into its own words (`docker/plan.rs`) and, once the container
//! is made, holds what it got against it (`docker/verify.rs`).
//!
//! Absent on purpose: a seccomp profile of ours (the engine's default applies; the sandbox filters
//! what commands may do beyond it) and any way to add a term without its sentence.

use airlock_shared::defaults;

use super::live::LiveDirectory;

/// The name of our binary in its volume.
pub const BINARY: &str = "airlock-sandbox";

/// Where the volume with our binary is mounted in one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinaryMount {
    folder: String,
}

impl BinaryMount {
    /// THREAT: an image with a link in the place of our mount (`/.airlock` to `/proc/1/cwd/evil`)
    /// has the engine mount elsewhere and the kernel run the image's own program, which then gets
    /// the handoff. No image knows 128 random bits. Tried by
    /// escape::image::a_link_at_a_known_name_has_the_images_program_run and
    /// escape::image::no_image_gets_the_handoff.
    #[must_use]
    pub fn random() -> Self {
        Self { folder: format!("/.airlock-{:032x}", rand::random::<u128>()) }
    }

    #[must_use]
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// The binary's path.
    #[must_use]
    pub fn program(&self) -> String {
        format!("{}/{BINARY}", self.folder)
    }
}

/// One container, nothing optional in it.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerSpec {
    /// The run's id: part of the container's name.
    pub session: String,
    /// The install that makes it, and that alone may sweep it.
    pub install: String,
    /// The mark of the lock that its host holds; empty where it holds none.
    pub lock: String,
    /// Who started it, for people who look at the engine.
    pub owner: String,
    /// The user and group of commands, unless they work on a live tree: then they are its owner.
    pub uid: u32,
    /// Memory in bytes, beside what a workspace in memory takes.
    pub memory: u64,
    pub cpus: f64,
    pub pids: u32,
    /// Where the work tree is.
    pub work: WorkspaceMount,
}

/// Where the work tree of a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkspaceMount {
    /// A copy in the container's memory, of limited bytes.
    Memory { bytes: u64 },
    /// A copy on the engine's disk, which has no quota.
    EngineDisk,
    /// The host's own tree.
    Live(LiveDirectory),
}

impl ContainerSpec {
    /// Whom commands act as, and who owns the workspace in the container.
    #[must_use]
    pub fn tool(&self) -> (u32, u32) {
        match &self.work {
            WorkspaceMount::Live(tree) => tree.owner(),
            WorkspaceMount::Memory { .. } | WorkspaceMount::EngineDisk => (self.uid, self.uid),
        }
    }

    /// What the person gave up by the choices of this run; the record names them.
    #[must_use]
    pub fn waivers(&self) -> Vec<Waiver> {
        match self.work {
            WorkspaceMount::Memory { .. } => vec![],
            WorkspaceMount::EngineDisk => vec![Waiver::DiskQuota],
            WorkspaceMount::Live(_) => vec![Waiver::DiskQuota, Waiver::LiveTree],
        }
    }
}

/// A term that does not hold because a person said so, or that this engine cannot show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiver {
    DiskQuota,
    LiveTree,
    /// The engine's `ps` has no column for the program that runs.
    Program,
    /// The engine's runtime has a kernel of its own, whose processes its machine does not show.
    ProgramOfOwnKernel,
    /// Such a kernel says that it filters no system calls.
    FilterOfOwnKernel,
    /// Such a kernel does not say where anything is mounted.
    MountsOfOwnKernel,
    /// Such a kernel shows no settings.
    SettingsOfOwnKernel,
}

impl Waiver {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DiskQuota => "no disk quota: nothing limits how much the workspace may hold",
            Self::LiveTree => {
                "live tree: commands change the host's files as they run, and what they leave there git \
                 and other programs of the host may run; what is new of that is named at the end"
            }
            Self::Program => {
                "not checked from outside: which program runs in the container (the engine's `ps` cannot say it)"
            }
            Self::ProgramOfOwnKernel => {
                "not checked from outside: which program runs in the container (the engine's runtime has a kernel of its own)"
            }
            Self::FilterOfOwnKernel => {
                "not checked: the filter of system calls (the engine's runtime has a kernel of its own, which shows none)"
            }
            Self::MountsOfOwnKernel => {
                "not checked from inside: what is mounted where (the engine's runtime has a kernel of its own, which does not show it)"
            }
            Self::SettingsOfOwnKernel => {
                "not checked: the bounds of what outlives processes in memory (the engine's runtime has a kernel of its own, which does not show its settings)"
            }
        }
    }
}

/// One term, and why it is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Constraint {
    pub rule: Rule,
    pub reason: &'static str,
}

/// What an engine is asked to hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// The image that was resolved, and no other.
    Image,
    NoNetwork,
    NoCapabilitiesBut(&'static [&'static str]),
    NoNewPrivileges,
    /// The engine's filter of system calls.
    SystemCallFilter,
    /// The engine's list of kernel files that are hidden or cannot be written.
    KernelFiles,
    /// No part of the host that an engine can share.
    NothingOfTheHost,
    ReadOnlyRoot,
    NoLog,
    OwnIpc,
    /// Settings of the kernel for this container, by name.
    Settings(&'static [(&'static str, &'static str)]),
    OwnCgroups,
    NoHealthCheck,
    User(&'static str),
    /// Bytes, with and without swap alike.
    Memory(u64),
    /// Microseconds of processor time in each [`CPU_PERIOD`]. A quota, not a number of processors:
    /// the engine refuses a number that is more than it has.
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
    /// A `/dev/pts` of its own, with so many terminals.
    Terminals(u32),
    /// The volume with our binary, read-only, and the binary as the only program.
    Binary,
    /// A volume of this run's own.
    WorkVolume,
    /// A path of the engine's machine.
    Bind {
        from: String,
        at: String,
        writable: bool,
    },
    /// Stdin open until the first client leaves.
    Pipe,
}

const MIB: u64 = 1 << 20;
/// Inodes of `/tmp` and of the home directory.
const SCRATCH_INODES: u64 = 100_000;
/// Inodes of a workspace in memory: what may be copied in, and as much again.
const WORK_INODES: u64 = 2 * airlock_shared::limits::WORKSPACE_ENTRIES;
/// The period of the processor quota, in microseconds.
pub const CPU_PERIOD: i64 = 100_000;
/// Terminals that are open at once.
const TERMINALS: u32 = 64;
/// What System V keeps for processes: it goes with the last process that has it, or is at most two
/// MiB (the numbers for semaphores: a set, all, a call, sets).
const KEPT_FOR_PROCESSES: &[(&str, &str)] = &[
    ("kernel.shm_rmid_forced", "1"),
    ("kernel.sem", "250 32000 100 128"),
    ("kernel.msgmni", "128"),
];
/// Descriptors of one process.
const OPEN_FILES: i64 = 8192;

/// The terms of a container.
#[must_use]
pub fn clauses(spec: &ContainerSpec) -> Vec<Constraint> {
    let tool = spec.tool();
    let mut clauses = Vec::with_capacity(24);
    let mut add = |rule: Rule, reason: &'static str| clauses.push(Constraint { rule, reason });

    add(Rule::Image, "what a tag means may change between two questions");
    add(Rule::NoNetwork, "the pipe is the only way out, and the host decides what passes");
    add(
        Rule::NoCapabilitiesBut(&["SETGID", "SETUID"]),
        "the sandbox gives commands a uid of their own, and takes it on to kill them; nothing else",
    );
    add(Rule::User("0"), "with any other user the engine would drop the two capabilities too");
    add(Rule::NoNewPrivileges, "a set-uid program of the image would give a command root");
    add(Rule::SystemCallFilter, "system calls that no command needs are ways into the kernel");
    add(Rule::KernelFiles, "root in the container could read and set what is the whole kernel's");
    add(
        Rule::NothingOfTheHost,
        "a namespace, a device or a setting of the host's is a way out of the container",
    );
    add(
        Rule::ReadOnlyRoot,
        "the layer has no quota, and what is changed there would be run as root",
    );
    add(Rule::NoLog, "the engine would keep what goes over the pipe, unbounded, on its disk");
    add(Rule::OwnIpc, "shared memory of other containers is theirs");
    // THREAT: commands fill shared memory that no process has, until the kernel can only end the
    // sandbox. Tried by escape::floods::what_outlives_its_process_is_bounded.
    add(
        Rule::Settings(KEPT_FOR_PROCESSES),
        "memory that outlives its process is not freed by ending processes",
    );
    add(Rule::OwnCgroups, "the names of the engine's groups are not the sandbox's business");
    add(Rule::NoHealthCheck, "the image's check would run its command beside ours, as root");
    add(Rule::Pipe, "when the host dies the sandbox sees the end of stdin and ends");

    let in_memory = match spec.work {
        WorkspaceMount::Memory { bytes } => bytes,
        WorkspaceMount::EngineDisk | WorkspaceMount::Live(_) => 0,
    };
    add(
        Rule::Memory(spec.memory.saturating_add(in_memory)),
        "swap included, or a bomb takes twice as much; a workspace in memory counts as memory",
    );
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "a saturating cast of a number of processors"
    )]
    add(
        Rule::Cpus((spec.cpus * CPU_PERIOD as f64) as i64),
        "a spinning command must leave the host responsive",
    );
    add(Rule::Pids(i64::from(spec.pids)), "a fork bomb must not fill the host's process table");
    add(Rule::OpenFiles(OPEN_FILES), "descriptors are the host kernel's memory");
    add(Rule::NoCore, "a core of the sandbox would hold what it knows");
    #[expect(clippy::cast_possible_wrap, reason = "a constant")]
    add(Rule::Shared((64 * MIB) as i64), "it is memory under another name");

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
        "programs expect it, few write there",
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
        "caches and settings of the tools that commands call",
    );
    add(Rule::Binary, "the sandbox itself: read-only, and never part of an image");
    // THREAT: one container takes all terminals that the kernel has for containers. Tried by
    // escape::beside::terminals_are_limited.
    add(Rule::Terminals(TERMINALS), "the kernel has some thousand terminals for all containers");

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
            "the copy of the work tree: bytes and inodes end here and not on the host's disk",
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
                "the person asked for changes to be made in the tree itself",
            );
            for git in tree.read_only() {
                // THREAT: a hook or a setting written there runs on the host, as the user, at the
                // next git command. Tried by engine::docker::tests::a_live_git_cannot_be_written.
                add(
                    Rule::Bind {
                        from: format!("{root}/{}", git.display()),
                        at: format!("{}/{}", defaults::WORKSPACE_PATH, git.display()),
                        writable: false,
                    },
                    "hooks and settings of a repository run on the host",
                );
            }
        }
    }
    clauses
}

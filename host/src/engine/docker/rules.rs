//! Writes each rule as the engine's API wants it, with the check that it holds. One `match` does
//! both, so that no rule can be requested without a check.
//!
//! Checks read two sources. One is the engine's description of the container, read before the start
//! (an engine may accept a limit and drop it with a warning, or not know a field). The other is the
//! sandbox's ready line, which says what the kernel does.

use std::collections::{BTreeSet, HashMap};

use airlock_shared::defaults;
use airlock_shared::handoff::{Confinement, Mounted};
use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig,
    Mount, MountBindOptions, MountBindOptionsPropagationEnum, MountType,
    MountVolumeOptionsDriverConfig, ResourcesUlimits, RestartPolicyNameEnum,
};

use super::inject::SandboxVolume;
use super::verify::{Inspected, Violation, contains, has_option, in_place, is_own, none};
use super::{ResolvedImage, capabilities, mounts, plan};
use crate::engine::confine::{self, BinaryMount, ContainerSpec, Rule, Waiver};

/// What rules need beside their own values.
pub(super) struct RuleContext<'a> {
    pub(super) spec: &'a ContainerSpec,
    pub(super) image: &'a ResolvedImage,
    pub(super) sandbox: &'a SandboxVolume,
    pub(super) entry: &'a BinaryMount,
}

/// A check, and the violation if it fails.
pub(super) struct RuleCheck {
    pub(super) lack: Violation,
    pub(super) holds: CheckedIn,
}

/// The source that a check reads.
pub(super) enum CheckedIn {
    Outside(Box<dyn Fn(&Inspected<'_>) -> bool + Send + Sync>),
    /// What the sandbox reports, unless the engine's runtime cannot show it and that is waived.
    Inside {
        unless: Option<Waiver>,
        holds: Box<dyn Fn(&Confinement) -> bool + Send + Sync>,
    },
}

const OTHER_MOUNTS: &str = "other mounts than were asked for";

/// The rules written so far.
#[derive(Default)]
pub(super) struct WrittenRules {
    pub(super) body: ContainerCreateBody,
    pub(super) host: HostConfig,
    pub(super) checks: Vec<RuleCheck>,
}

impl WrittenRules {
    fn outside(
        &mut self,
        lack: &str,
        holds: impl Fn(&Inspected<'_>) -> bool + Send + Sync + 'static,
    ) {
        let lack = Violation::Term(lack.to_owned());
        self.checks.push(RuleCheck { lack, holds: CheckedIn::Outside(Box::new(holds)) });
    }

    fn inside(
        &mut self,
        lack: Violation,
        unless: Option<Waiver>,
        holds: impl Fn(&Confinement) -> bool + Send + Sync + 'static,
    ) {
        let holds = CheckedIn::Inside { unless, holds: Box::new(holds) };
        self.checks.push(RuleCheck { lack, holds });
    }

    /// Checks that the path is a mount of its own, and that it is `like` the requested one.
    fn at(&mut self, path: &str, like: impl Fn(&Mounted) -> bool + Send + Sync + 'static) {
        let at = path.to_owned();
        let unless = Some(Waiver::MountsOfOwnKernel);
        self.inside(Violation::Path(at.clone()), unless, move |it| {
            in_place(it, &at).is_some_and(&like)
        });
    }

    pub(super) fn mount(&mut self, mount: Mount) {
        let asked = mounts::requested(&mount);
        self.outside(OTHER_MOUNTS, move |it| mounts::found(it.found).contains(&asked));
        self.host.mounts.get_or_insert_default().push(mount);
    }

    fn limit(&mut self, name: &str, count: i64) {
        let limit =
            ResourcesUlimits { name: Some(name.to_owned()), soft: Some(count), hard: Some(count) };
        self.host.ulimits.get_or_insert_default().push(limit.clone());
        let lack = "other limits of descriptors and core files";
        self.outside(lack, move |it| it.host.ulimits.iter().flatten().any(|found| *found == limit));
    }

    /// Writes one rule.
    #[expect(
        clippy::too_many_lines,
        reason = "one match: a rule is written and checked in one place"
    )]
    pub(super) fn rule(&mut self, rule: Rule, context: &RuleContext<'_>) {
        match rule {
            Rule::Image => {
                self.body.image = Some(context.image.digest.clone());
                let id = context.image.id.trim_start_matches("sha256:").to_owned();
                self.outside("it has another image than was asked for", move |it| {
                    it.found.image.as_deref().map(|found| found.trim_start_matches("sha256:"))
                        == Some(&id)
                });
            }
            Rule::NoNetwork => {
                self.host.network_mode = Some("none".to_owned());
                self.outside("a network was given to it", |it| {
                    let networks = it.found.network_settings.as_ref();
                    let mut names = networks.iter().flat_map(|it| it.networks.iter().flatten());
                    it.host.network_mode.as_deref() == Some("none")
                        && names.all(|(name, _)| name == "none")
                });
            }
            Rule::NoCapabilitiesBut(few) => {
                self.host.cap_drop = Some(vec!["ALL".to_owned()]);
                self.host.cap_add = Some(few.iter().map(|&name| name.to_owned()).collect());
                self.outside("capabilities are not dropped", |it| {
                    capabilities::names(it.host.cap_drop.as_ref()).contains("ALL")
                });
                let asked = capabilities::names(self.host.cap_add.as_ref());
                self.outside("other capabilities than were asked for", move |it| {
                    capabilities::names(it.host.cap_add.as_ref()) == asked
                });
                let bits: u64 = few.iter().filter_map(|name| capabilities::bit(name)).sum();
                let lack =
                    Violation::Term("it has other capabilities than were asked for".to_owned());
                self.inside(lack, None, move |it| {
                    u64::from_str_radix(&it.capabilities, 16).is_ok_and(|found| found == bits)
                });
            }
            Rule::NoNewPrivileges => {
                self.host.security_opt = Some(vec!["no-new-privileges".to_owned()]);
                self.outside("new privileges can be gained", |it| {
                    it.host.security_opt.iter().flatten().any(|option| {
                        matches!(
                            option.as_str(),
                            "no-new-privileges"
                                | "no-new-privileges:true"
                                | "no-new-privileges=true"
                        )
                    })
                });
                let lack = Violation::Term("new privileges can be gained".to_owned());
                self.inside(lack, None, |it| it.no_new_privs == 1);
            }
            Rule::SystemCallFilter => {
                // THREAT: `seccomp=unconfined` is the engine's default. Tried by
                // engine::docker::verify::tests::each_rule_that_is_dropped_is_named.
                self.outside("a security profile is switched off", |it| {
                    !it.host.security_opt.iter().flatten().any(|it| it.contains("unconfined"))
                        && it.found.app_armor_profile.as_deref() != Some("unconfined")
                });
                // THREAT: an engine that was built or started without filters does not say so in its
                // description. Tried by
                // engine::docker::verify::tests::what_the_sandbox_reports_is_checked.
                self.inside(Violation::Filter, Some(Waiver::FilterOfOwnKernel), |it| {
                    it.seccomp == 2
                });
            }
            Rule::KernelFiles => {
                // If an engine does not list them, the sandbox's report decides.
                self.outside("files of the kernel are not hidden", |it| {
                    let hidden = it.host.masked_paths.as_ref();
                    hidden.is_none_or(|all| contains(all, &["/proc/kcore", "/sys/firmware"]))
                });
                self.outside("settings of the kernel can be written", |it| {
                    let fixed = it.host.readonly_paths.as_ref();
                    fixed.is_none_or(|all| contains(all, &["/proc/sys", "/proc/sysrq-trigger"]))
                });
                let lack = Violation::Term("settings of the kernel can be written".to_owned());
                self.inside(lack, Some(Waiver::MountsOfOwnKernel), |it| {
                    let mounted = |path, kind| {
                        in_place(it, path).filter(|found| found.at == path && found.kind == kind)
                    };
                    mounted("/proc", "proc").is_some()
                        && mounted("/proc/sys", "proc").is_some_and(|it| has_option(it, "ro"))
                        && mounted("/sys", "sysfs").is_some_and(|it| has_option(it, "ro"))
                });
            }
            Rule::NothingOfTheHost => {
                self.host.privileged = Some(false);
                self.outside("it is privileged", |it| it.host.privileged != Some(true));
                self.outside("it sees processes outside of it", |it| is_own(&it.host.pid_mode));
                self.outside("it can rename the host machine", |it| is_own(&it.host.uts_mode));
                self.outside("it shares the host's user ids", |it| is_own(&it.host.userns_mode));
                self.outside("it has devices of the host", |it| {
                    none(&it.host.devices)
                        && none(&it.host.device_requests)
                        && none(&it.host.device_cgroup_rules)
                });
                self.outside("it has bind mounts not asked for", |it| none(&it.host.binds));
                self.outside("it has foreign volumes", |it| none(&it.host.volumes_from));
                self.outside("it is linked with another container", |it| none(&it.host.links));
                self.outside("it is in groups that were not asked for", |it| {
                    none(&it.host.group_add)
                });
            }
            Rule::ReadOnlyRoot => {
                self.host.readonly_rootfs = Some(true);
                self.outside("the root can be written", |it| it.host.readonly_rootfs == Some(true));
            }
            Rule::NoLog => {
                let config = HostConfigLogConfig { typ: Some("none".to_owned()), config: None };
                self.host.log_config = Some(config);
                self.outside("the engine keeps a log of the pipe", |it| {
                    let log = it.host.log_config.as_ref();
                    log.and_then(|log| log.typ.as_deref()) == Some("none")
                });
            }
            Rule::OwnIpc => {
                self.host.ipc_mode = Some("private".to_owned());
                self.outside("memory is shared with other containers", |it| {
                    matches!(it.host.ipc_mode.as_deref(), Some("private" | "none"))
                });
            }
            Rule::Settings(asked) => {
                let asked = asked.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
                let asked: HashMap<_, _> = asked.collect();
                self.host.sysctls = Some(asked.clone());
                let (found, lack) = (asked.clone(), "other settings of the kernel");
                self.outside(lack, move |it| it.host.sysctls.as_ref() == Some(&found));
                let lack = Violation::Term(lack.to_owned());
                self.inside(lack, Some(Waiver::SettingsOfOwnKernel), move |it| {
                    asked.iter().all(|(name, value)| {
                        it.settings.get(name).and_then(Option::as_ref) == Some(value)
                    })
                });
            }
            Rule::OwnCgroups => {
                self.host.cgroupns_mode = Some(HostConfigCgroupnsModeEnum::PRIVATE);
                self.outside("the host's cgroup names are shown", |it| {
                    !matches!(it.host.cgroupns_mode, Some(HostConfigCgroupnsModeEnum::HOST))
                });
            }
            Rule::NoHealthCheck => {
                let none = Some(vec!["NONE".to_owned()]);
                self.body.healthcheck =
                    Some(HealthConfig { test: none, ..HealthConfig::default() });
                self.outside("the image's health check", |it| {
                    it.config.healthcheck.as_ref().is_none_or(
                        |check| matches!(check.test.as_deref(), Some([only]) if only == "NONE"),
                    )
                });
            }
            Rule::User(user) => {
                self.body.user = Some(user.to_owned());
                self.outside("another user", |it| it.config.user.as_deref() == Some(user));
            }
            Rule::Memory(bytes) => {
                let bytes = Some(i64::try_from(bytes).unwrap_or(i64::MAX));
                self.host.memory = bytes;
                self.host.memory_swap = bytes;
                self.outside("no memory limit", move |it| it.host.memory == bytes);
                self.outside("swap is not limited", move |it| it.host.memory_swap == bytes);
                self.outside("the memory limit does not kill", |it| {
                    it.host.oom_kill_disable != Some(true)
                });
            }
            Rule::Cpus(quota) => {
                self.host.cpu_period = Some(confine::CPU_PERIOD);
                self.host.cpu_quota = Some(quota);
                self.outside("no processor limit", move |it| {
                    (it.host.cpu_quota, it.host.cpu_period)
                        == (Some(quota), Some(confine::CPU_PERIOD))
                });
            }
            Rule::Pids(count) => {
                self.host.pids_limit = Some(count);
                self.outside("no limit of processes", move |it| it.host.pids_limit == Some(count));
            }
            Rule::OpenFiles(count) => self.limit("nofile", count),
            Rule::NoCore => self.limit("core", 0),
            Rule::Shared(bytes) => {
                self.host.shm_size = Some(bytes);
                self.outside("shared memory is not limited", move |it| {
                    it.host.shm_size == Some(bytes)
                });
            }
            Rule::Scratch { at, bytes, inodes, owner: (uid, gid), mode, exec } => {
                // Without `exec` the engine adds `noexec`.
                let exec_option = if exec { "exec" } else { "noexec" };
                let options = format!(
                    "rw,{exec_option},nosuid,nodev,size={bytes},nr_inodes={inodes},mode={mode:o},uid={uid},gid={gid}"
                );
                self.host.tmpfs.get_or_insert_default().insert(at.to_owned(), options.clone());
                self.outside("other file systems in memory", move |it| {
                    it.host.tmpfs.as_ref().and_then(|all| all.get(at)) == Some(&options)
                });
                self.at(at, move |it| {
                    it.kind == "tmpfs"
                        && ["rw", "nosuid", "nodev"].iter().all(|name| has_option(it, name))
                        && has_option(it, "noexec") != exec
                });
            }
            // The engine's own `/dev/pts` has no limit, and its API no field for one. A volume may be of
            // any file system type: this one is a separate devpts with a limit.
            Rule::Terminals(most) => {
                let name = plan::terminals_volume(&context.spec.session);
                let labels = Some(plan::labels(context.spec));
                let mut instance = plan::volume(&name, "/dev/pts", false, labels);
                if let Some(options) = &mut instance.volume_options {
                    let how = format!("newinstance,ptmxmode=0666,mode=0620,gid=5,max={most}");
                    let how = [("type", "devpts"), ("device", "devpts"), ("o", how.as_str())]
                        .map(|(name, value)| (name.to_owned(), value.to_owned()));
                    options.driver_config = Some(MountVolumeOptionsDriverConfig {
                        name: Some("local".to_owned()),
                        options: Some(how.into()),
                    });
                }
                self.mount(instance);
                self.at("/dev/pts", |it| it.kind == "devpts");
            }
            Rule::Binary => {
                let (directory, program) = (context.entry.directory(), context.entry.program());
                self.mount(plan::volume(&context.sandbox.name, directory, true, None));
                self.body.entrypoint = Some(vec![program.clone()]);
                self.body.cmd = Some(vec![]);
                self.body.working_dir = Some("/".to_owned());
                self.host.init = Some(false);
                self.outside("another program", move |it| {
                    it.config.entrypoint.as_deref() == Some(std::slice::from_ref(&program))
                        && none(&it.config.cmd)
                        && it.found.path.as_ref().is_none_or(|path| *path == program)
                        && none(&it.found.args)
                        && it.config.working_dir.as_deref() == Some("/")
                        && it.host.init != Some(true)
                });
            }
            Rule::WorkVolume => {
                let name = plan::work_volume(&context.spec.session);
                let labels = Some(plan::labels(context.spec));
                self.mount(plan::volume(&name, defaults::WORKSPACE_PATH, false, labels));
                self.at(defaults::WORKSPACE_PATH, |it| has_option(it, "rw"));
            }
            // Never `Binds`: if a path is missing on the engine's machine, they silently make a directory
            // there. A mount fails.
            Rule::Bind { from, at, writable } => {
                if at == defaults::WORKSPACE_PATH {
                    self.at(&at, move |it| has_option(it, "rw") == writable);
                }
                self.mount(Mount {
                    target: Some(at),
                    source: Some(from),
                    typ: Some(MountType::BIND),
                    read_only: Some(!writable),
                    bind_options: Some(MountBindOptions {
                        propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
                        ..MountBindOptions::default()
                    }),
                    ..Mount::default()
                });
            }
            Rule::Pipe => {
                self.body.open_stdin = Some(true);
                self.body.stdin_once = Some(true);
                self.body.attach_stdin = Some(true);
                self.body.attach_stdout = Some(true);
                self.body.attach_stderr = Some(true);
                self.body.tty = Some(false);
                self.outside("it would outlive its host", |it| {
                    let again = it.host.restart_policy.as_ref().and_then(|policy| policy.name);
                    it.config.stdin_once == Some(true)
                        && it.config.tty != Some(true)
                        && matches!(
                            again,
                            None | Some(RestartPolicyNameEnum::EMPTY | RestartPolicyNameEnum::NO)
                        )
                });
            }
        }
    }

    /// Checks that there are no mounts and limits beside the written ones. Call it last.
    pub(super) fn nothing_else(&mut self) {
        let asked: BTreeSet<_> = self.host.mounts.iter().flatten().map(mounts::requested).collect();
        self.outside(OTHER_MOUNTS, move |it| mounts::found(it.found) == asked);
        let asked: BTreeSet<_> = self.host.tmpfs.iter().flatten().map(|it| it.0.clone()).collect();
        self.outside("other file systems in memory", move |it| {
            let found = it.host.tmpfs.iter().flatten().map(|it| it.0.clone());
            found.collect::<BTreeSet<_>>() == asked
        });
        let asked = self.host.ulimits.iter().flatten().count();
        self.outside("other limits of descriptors and core files", move |it| {
            it.host.ulimits.iter().flatten().count() == asked
        });
    }
}

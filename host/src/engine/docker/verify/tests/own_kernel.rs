//! A runtime with its own kernel: what it is excused, and how it is recognised.

use super::*;

/// What an own kernel is excused, and the refusal of the rest.
fn of_own_kernel(change: impl Fn(&mut Confinement)) -> (Vec<Waiver>, Result<(), EngineError>) {
    let mut found = held();
    change(&mut found);
    let sandbox = SandboxVolume { name: "airlock-sandbox-x".to_owned() };
    let spec = spec(WorkspaceMount::Memory { bytes: 1 << 20 });
    let plan = plan::plan(&spec, &image(), &sandbox, &BinaryMount::random());
    let waived = verify::not_shown(Some(&found));
    let refusal = refuse(verify::inside(&plan.checks, Some(&found), &waived));
    (waived, refusal)
}

#[test]
fn an_own_kernel_is_excused_only_what_it_does_not_show() {
    use Waiver::SettingsOfOwnKernel as Settings;
    use Waiver::{FilterOfOwnKernel as Filter, MountsOfOwnKernel as Mounts};
    let program = Waiver::ProgramOfOwnKernel;
    let weaker = |rule: &str| Err(EngineError::Weaker { missing: vec![rule.to_owned()] });
    assert_eq!(of_own_kernel(|_| {}), (vec![program], Ok(())));
    assert_eq!(of_own_kernel(|it| it.seccomp = 0), (vec![program, Filter], Ok(())));
    let no_mount = |it: &mut Confinement| it.mounts.values_mut().for_each(|at| *at = None);
    assert_eq!(of_own_kernel(no_mount), (vec![program, Mounts], Ok(())));
    let no_setting = |it: &mut Confinement| it.settings.values_mut().for_each(|it| *it = None);
    assert_eq!(of_own_kernel(no_setting), (vec![program, Settings], Ok(())));
    // What it shows is checked, also beside what it does not show.
    assert_eq!(
        of_own_kernel(|it| {
            it.seccomp = 0;
            no_mount(it);
            it.capabilities = "000001ffffffffff".to_owned();
        }),
        (vec![program, Filter, Mounts], weaker("it has other capabilities than were asked for"))
    );
    assert_eq!(
        of_own_kernel(|it| it.no_new_privs = 0),
        (vec![program], weaker("new privileges can be gained"))
    );
    assert_eq!(
        of_own_kernel(|it| drop(it.mounts.insert("/tmp".into(), None))),
        (vec![program], Err(EngineError::ImagePaths { paths: vec!["/tmp".to_owned()] }))
    );
    // The control: on the engine's own kernel nothing is excused.
    assert_eq!(refusal(|it| it.seccomp = 0), Err(EngineError::NoFilter));
    assert!(matches!(refusal(no_mount), Err(EngineError::ImagePaths { .. })));
}

#[test]
fn a_runtime_with_its_own_kernel_is_known_by_its_name() {
    let own = |name: Option<&str>| {
        let runtime = name.map(str::to_owned);
        let host_config = Some(HostConfig { runtime, ..HostConfig::default() });
        let found = ContainerInspectResponse { host_config, ..Default::default() };
        has_own_kernel(&found)
    };
    assert!([Some("runsc"), Some("io.containerd.kata.v2")].into_iter().all(own));
    assert!(![None, Some("runc"), Some("crun"), Some("nvidia")].into_iter().any(own));
}

//! Where logins are kept: what somebody else could have written is not believed, and a disk that
//! cannot be written is noticed before anything is used up.

use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

use airlock_tests::issuer::Granted;
use airlock_tests::rig::Process;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::machine::{HOLDER, Machine, held, unwrapped};

fn mode(path: &Path, mode: u32) {
    let mode = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, mode).expect("a file of the test's");
}

/// # Panics
/// Where another owner cannot be made: then this proves nothing, and says so.
fn give_away(path: &Path) {
    chown(path, Some(65_534), None).expect("only root can give a file away: run the tests as root");
}

#[tokio::test]
async fn a_login_that_others_could_have_written_is_refused() {
    type Spoil = fn(&Path);
    let cases: [(&str, Spoil, &str); 7] = [
        (
            "a link",
            |file| {
                let real = file.with_file_name("real");
                std::fs::rename(file, &real).expect("a file of the test's");
                symlink(real, file).expect("a link");
            },
            "symbolic link",
        ),
        (
            "a link to nothing",
            |file| {
                std::fs::remove_file(file).expect("a file of the test's");
                symlink("/nowhere", file).expect("a link");
            },
            "symbolic link",
        ),
        ("mode 0644", |file| mode(file, 0o644), "chmod 600"),
        ("mode 0640", |file| mode(file, 0o640), "chmod 600"),
        ("mode 0620", |file| mode(file, 0o620), "chmod 600"),
        ("another owner", give_away, "another user"),
        (
            "a folder",
            |file| {
                std::fs::remove_file(file).expect("a file of the test's");
                std::fs::create_dir(file).expect("a folder");
            },
            "",
        ),
    ];
    for (name, spoil, says) in cases {
        let machine = Machine::new();
        let granted = machine.hold("default", -60);
        spoil(&machine.file("default"));
        for line in [&["secrets", "--json"][..], &["run", "x", "--login", "default"]] {
            let said = machine.said(line).await;
            assert_eq!((said.exit, said.stdout.as_str()), (Some(3), ""), "{name}: {said:#?}");
            assert!(unwrapped(&said.stderr).contains(says), "{name}: {said:#?}");
        }
        let status = machine.said(&["status"]).await;
        assert!(unwrapped(&status.stdout).contains("cannot be used"), "{name}: {status:#?}");
        assert_eq!(machine.said(&["status", "--quiet"]).await.exit, Some(3), "{name}");
        assert!(machine.issuer.asked().is_empty(), "{name}: the issuer was asked");
        assert!(machine.backend.requests().is_empty(), "{name}: the backend was asked");
        machine.assert_no_secret_in(&[&status.stdout, &status.stderr]);
        assert!(machine.issuer.takes(&granted.refresh));
    }
}

/// What is refused is repaired by the same command that signs in, and the link's other end is left
/// as it was.
#[tokio::test]
async fn a_link_in_the_place_of_a_login_is_replaced_and_not_followed() {
    let machine = Machine::new();
    machine.hold("default", 864_000);
    let (file, target) = (machine.file("default"), machine.rig.home().join("somebody-elses"));
    std::fs::write(&target, "untouched").expect("the home can be written");
    std::fs::remove_file(&file).expect("a file of the test's");
    symlink(&target, &file).expect("a link");
    let said = machine.signed_in(&["--device"]).await;
    assert!(unwrapped(&said.stderr).contains("symbolic link"), "{said:#?}");
    assert_eq!(std::fs::read_to_string(&target).unwrap_or_default(), "untouched");
    let about = std::fs::symlink_metadata(&file).expect("a login");
    assert!(about.is_file() && about.permissions().mode() & 0o7777 == 0o600);
    assert!(machine.stored("default")["refresh_token"].is_string());
}

#[tokio::test]
async fn a_folder_of_another_user_is_refused() {
    let machine = Machine::new();
    machine.hold("default", -60);
    give_away(&machine.logins());
    let said = machine.said(&["secrets", "--json"]).await;
    assert_ne!(said.exit, Some(0), "{said:#?}");
    assert!(unwrapped(&said.stderr).contains("another user"), "{said:#?}");
    assert!(machine.issuer.asked().is_empty());
}

/// A folder that others can enter is closed to them.
#[tokio::test]
async fn an_open_folder_is_closed() {
    let machine = Machine::new();
    machine.hold("default", -60);
    mode(&machine.logins(), 0o755);
    assert_eq!(machine.said(&["secrets", "--json"]).await.exit, Some(0));
    let about = std::fs::metadata(machine.logins()).expect("a folder");
    assert_eq!(about.permissions().mode() & 0o7777, 0o700);
}

#[tokio::test]
async fn what_is_no_login_is_said() {
    let torn = "{\"v\":2,\"kind\":\"chatgpt\",\"base\":\"http";
    for text in ["", "{}", "[]", torn, "{\"v\":99}", &"x".repeat(1 << 20)] {
        let machine = Machine::new();
        machine.store("default", &json!({}));
        std::fs::write(machine.file("default"), text).expect("a file of the test's");
        let said = machine.said(&["secrets", "--json"]).await;
        assert_eq!((said.exit, said.stdout.as_str()), (Some(3), ""), "{text:.40}: {said:#?}");
        assert!(said.stderr.contains("default.json"), "{said:#?}");
        // Signing in again mends it.
        machine.signed_in(&["--device"]).await;
    }
}

/// A file system of its own in the place of the logins, in a mount namespace that ends with the
/// process: `$1` is the folder, `$2` the login to put there.
struct Disk<'a> {
    machine: &'a Machine,
    granted: Granted,
}

impl<'a> Disk<'a> {
    fn new(machine: &'a Machine) -> Self {
        let granted = machine.hold("default", -60);
        let kept = machine.rig.home().join("kept.json");
        std::fs::copy(machine.file("default"), &kept).expect("the home can be written");
        mode(&kept, 0o600);
        Self { machine, granted }
    }

    /// Runs a script there; what it prints.
    async fn script(&self, script: &str) -> String {
        let mut command: Command = self.machine.rig.at_home("/usr/bin/unshare".as_ref());
        let mount =
            "mount -t tmpfs -o size=512k,mode=0700 none \"$1\"; cp -p \"$2\" \"$1/default.json\";";
        command.args(["--mount", "/bin/sh", "-ec", &format!("{mount} {script}"), "sh"]);
        command.arg(self.machine.logins()).arg(self.machine.rig.home().join("kept.json"));
        command.arg(HOLDER).arg(airlock_tests::rig::airlock().await);
        let said = Process::start(command).end().await;
        assert_eq!(said.exit, Some(0), "unshare(1) and mount(1) need root: {said:#?}");
        said.stdout + &said.stderr
    }
}

#[tokio::test]
async fn a_full_disk_is_noticed_before_the_token_is_used_up() {
    let machine = Machine::new();
    let disk = Disk::new(&machine);
    let told = disk
        .script(
            "head -c 1m /dev/zero > \"$1/filler\" 2> /dev/null || true; set +e; \
             \"$4\" secrets --json; echo \"exit $?\"; \"$4\" run x; echo \"exit $?\"; \
             \"$4\" setup codex-auth --device --replace; echo \"exit $?\"; \
             cmp \"$2\" \"$1/default.json\" && echo unchanged; ls \"$1\"",
        )
        .await;
    let words = unwrapped(&told);
    assert_eq!(words.matches("No space left on device").count(), 3, "{told}");
    assert_eq!(words.matches("exit 1").count(), 3, "{told}");
    assert!(told.contains("unchanged"), "{told}");
    assert_eq!(machine.refreshes(), 0, "the token was used up: {told}");
    assert!(machine.issuer.takes(&disk.granted.refresh));
    machine.assert_no_secret_in(&[&told]);

    // With room again it goes on.
    let told = disk
        .script(
            "head -c 1m /dev/zero > \"$1/filler\" 2> /dev/null || true; \
             \"$3\" \"$1\" default > /dev/null && exit 9; rm \"$1/filler\"; \"$3\" \"$1\" default",
        )
        .await;
    let line: Value = serde_json::from_str(told.trim()).unwrap_or_default();
    assert_eq!((&line["generation"], machine.refreshes()), (&json!(1), 1), "{told}");
}

#[tokio::test]
async fn a_read_only_folder_is_one_sentence() {
    let machine = Machine::new();
    let disk = Disk::new(&machine);
    let told = disk
        .script(
            "mount -o remount,ro \"$1\"; set +e; \"$4\" secrets --json; echo \"exit $?\"; \
             \"$4\" status > /dev/null; echo \"status $?\"; \"$4\" logout; echo \"exit $?\"",
        )
        .await;
    let words = unwrapped(&told);
    assert!(words.contains("Read-only file system"), "{told}");
    assert_eq!(words.matches("exit 1").count(), 2, "{told}");
    assert!(words.contains("status 0"), "{told}");
    assert_eq!(machine.refreshes(), 0, "the token was used up: {told}");
    machine.assert_no_secret_in(&[&told]);
}

/// A token that is good needs no disk.
#[tokio::test]
async fn a_good_token_needs_no_disk() {
    for (name, spoil) in [
        ("read-only", "mount -o remount,ro \"$1\";"),
        ("full", "head -c 1m /dev/zero > \"$1/filler\" 2> /dev/null || true;"),
    ] {
        let machine = Machine::new();
        machine.hold("default", 200);
        let kept = machine.rig.home().join("kept.json");
        std::fs::copy(machine.file("default"), &kept).expect("the home can be written");
        mode(&kept, 0o600);
        let disk = Disk { granted: machine.issuer.grant(), machine: &machine };
        let told = disk.script(&format!("{spoil} \"$3\" \"$1\" default")).await;
        let said = airlock_tests::rig::Said { exit: Some(0), stdout: told, stderr: String::new() };
        assert_eq!(held(&said)["generation"], 0, "{name}");
        assert_eq!(machine.refreshes(), 0, "{name}");
    }
}

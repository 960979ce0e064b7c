//! The directory of logins: files that another user could have written are refused, and a disk that
//! cannot be written is noticed before a token is used.

use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

use airlock_tests::issuer::Granted;
use airlock_tests::rig::Process;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::machine::{HOLDER, Machine, holder_output, unwrapped};

fn mode(path: &Path, mode: u32) {
    let mode = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, mode).expect("a file of the test's");
}

/// Changes the owner.
///
/// # Panics
/// If that is not permitted.
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
            "a directory",
            |file| {
                std::fs::remove_file(file).expect("a file of the test's");
                std::fs::create_dir(file).expect("a directory");
            },
            "",
        ),
    ];
    for (name, spoil, expected) in cases {
        let machine = Machine::new();
        let granted = machine.grant_login("default", -60);
        spoil(&machine.file("default"));
        for line in [&["secrets", "--json"][..], &["run", "x", "--login", "default"]] {
            let output = machine.run(line).await;
            assert_eq!((output.exit, output.stdout.as_str()), (Some(3), ""), "{name}: {output:#?}");
            assert!(unwrapped(&output.stderr).contains(expected), "{name}: {output:#?}");
        }
        let status = machine.run(&["status"]).await;
        assert!(unwrapped(&status.stdout).contains("cannot be used"), "{name}: {status:#?}");
        assert_eq!(machine.run(&["status", "--quiet"]).await.exit, Some(3), "{name}");
        assert!(machine.issuer.asked().is_empty(), "{name}: the issuer was asked");
        assert!(machine.backend.requests().is_empty(), "{name}: the backend was asked");
        machine.assert_no_secret_in(&[&status.stdout, &status.stderr]);
        assert!(machine.issuer.takes(&granted.refresh));
    }
}

/// Signing in again replaces the link, and the link's target stays as it was.
#[tokio::test]
async fn a_link_instead_of_a_login_is_replaced_and_not_followed() {
    let machine = Machine::new();
    machine.grant_login("default", 864_000);
    let (file, target) = (machine.file("default"), machine.rig.home().join("another-file"));
    std::fs::write(&target, "untouched").expect("the home can be written");
    std::fs::remove_file(&file).expect("a file of the test's");
    symlink(&target, &file).expect("a link");
    let output = machine.signed_in(&["--device"]).await;
    assert!(unwrapped(&output.stderr).contains("symbolic link"), "{output:#?}");
    assert_eq!(std::fs::read_to_string(&target).unwrap_or_default(), "untouched");
    let about = std::fs::symlink_metadata(&file).expect("a login");
    assert!(about.is_file() && about.permissions().mode() & 0o7777 == 0o600);
    assert!(machine.stored("default")["refresh_token"].is_string());
}

#[tokio::test]
async fn a_directory_of_another_user_is_refused() {
    let machine = Machine::new();
    machine.grant_login("default", -60);
    give_away(&machine.logins());
    let output = machine.run(&["secrets", "--json"]).await;
    assert_ne!(output.exit, Some(0), "{output:#?}");
    assert!(unwrapped(&output.stderr).contains("another user"), "{output:#?}");
    assert!(machine.issuer.asked().is_empty());
}

/// A directory that others can enter is made private.
#[tokio::test]
async fn an_open_directory_is_made_private() {
    let machine = Machine::new();
    machine.grant_login("default", -60);
    mode(&machine.logins(), 0o755);
    assert_eq!(machine.run(&["secrets", "--json"]).await.exit, Some(0));
    let about = std::fs::metadata(machine.logins()).expect("a directory");
    assert_eq!(about.permissions().mode() & 0o7777, 0o700);
}

#[tokio::test]
async fn a_file_that_is_not_a_login_is_named() {
    let torn = "{\"v\":2,\"kind\":\"chatgpt\",\"base\":\"http";
    for text in ["", "{}", "[]", torn, "{\"v\":99}", &"x".repeat(1 << 20)] {
        let machine = Machine::new();
        machine.store("default", &json!({}));
        std::fs::write(machine.file("default"), text).expect("a file of the test's");
        let output = machine.run(&["secrets", "--json"]).await;
        assert_eq!((output.exit, output.stdout.as_str()), (Some(3), ""), "{text:.40}: {output:#?}");
        assert!(output.stderr.contains("default.json"), "{output:#?}");
        // Signing in again repairs it.
        machine.signed_in(&["--device"]).await;
    }
}

/// A small file system at the directory of logins, in a mount namespace that ends with the process.
/// In a script, `$1` is the directory and `$2` the login to copy there.
struct Disk<'a> {
    machine: &'a Machine,
    granted: Granted,
}

impl<'a> Disk<'a> {
    fn new(machine: &'a Machine) -> Self {
        let granted = machine.grant_login("default", -60);
        let kept = machine.rig.home().join("kept.json");
        std::fs::copy(machine.file("default"), &kept).expect("the home can be written");
        mode(&kept, 0o600);
        Self { machine, granted }
    }

    /// Runs a script there. Gives its output.
    async fn script(&self, script: &str) -> String {
        let mut command: Command = self.machine.rig.at_home("/usr/bin/unshare".as_ref());
        let mount =
            "mount -t tmpfs -o size=512k,mode=0700 none \"$1\"; cp -p \"$2\" \"$1/default.json\";";
        command.args(["--mount", "/bin/sh", "-ec", &format!("{mount} {script}"), "sh"]);
        command.arg(self.machine.logins()).arg(self.machine.rig.home().join("kept.json"));
        command.arg(HOLDER).arg(airlock_tests::rig::airlock().await);
        let output = Process::start(command).end().await;
        assert_eq!(output.exit, Some(0), "unshare(1) and mount(1) need root: {output:#?}");
        output.stdout + &output.stderr
    }
}

#[tokio::test]
async fn a_full_disk_is_noticed_before_the_token_is_used() {
    let machine = Machine::new();
    let disk = Disk::new(&machine);
    let printed = disk
        .script(
            "head -c 1m /dev/zero > \"$1/filler\" 2> /dev/null || true; set +e; \
             \"$4\" secrets --json; echo \"exit $?\"; \"$4\" run x; echo \"exit $?\"; \
             \"$4\" setup codex-auth --device --replace; echo \"exit $?\"; \
             cmp \"$2\" \"$1/default.json\" && echo unchanged; ls \"$1\"",
        )
        .await;
    let words = unwrapped(&printed);
    assert_eq!(words.matches("No space left on device").count(), 3, "{printed}");
    assert_eq!(words.matches("exit 1").count(), 3, "{printed}");
    assert!(printed.contains("unchanged"), "{printed}");
    assert_eq!(machine.refreshes(), 0, "the token was used: {printed}");
    assert!(machine.issuer.takes(&disk.granted.refresh));
    machine.assert_no_secret_in(&[&printed]);

    // With free space again, the refresh succeeds.
    let printed = disk
        .script(
            "head -c 1m /dev/zero > \"$1/filler\" 2> /dev/null || true; \
             \"$3\" \"$1\" default > /dev/null && exit 9; rm \"$1/filler\"; \"$3\" \"$1\" default",
        )
        .await;
    let line: Value = serde_json::from_str(printed.trim()).unwrap_or_default();
    assert_eq!((&line["generation"], machine.refreshes()), (&json!(1), 1), "{printed}");
}

#[tokio::test]
async fn a_read_only_directory_is_one_sentence() {
    let machine = Machine::new();
    let disk = Disk::new(&machine);
    let printed = disk
        .script(
            "mount -o remount,ro \"$1\"; set +e; \"$4\" secrets --json; echo \"exit $?\"; \
             \"$4\" status > /dev/null; echo \"status $?\"; \"$4\" logout; echo \"exit $?\"",
        )
        .await;
    let words = unwrapped(&printed);
    assert!(words.contains("Read-only file system"), "{printed}");
    assert_eq!(words.matches("exit 1").count(), 2, "{printed}");
    assert!(words.contains("status 0"), "{printed}");
    assert_eq!(machine.refreshes(), 0, "the token was used: {printed}");
    machine.assert_no_secret_in(&[&printed]);
}

/// With a valid token nothing is written.
#[tokio::test]
async fn a_valid_token_needs_no_write() {
    for (name, spoil) in [
        ("read-only", "mount -o remount,ro \"$1\";"),
        ("full", "head -c 1m /dev/zero > \"$1/filler\" 2> /dev/null || true;"),
    ] {
        let machine = Machine::new();
        machine.grant_login("default", 200);
        let kept = machine.rig.home().join("kept.json");
        std::fs::copy(machine.file("default"), &kept).expect("the home can be written");
        mode(&kept, 0o600);
        let disk = Disk { granted: machine.issuer.grant(), machine: &machine };
        let printed = disk.script(&format!("{spoil} \"$3\" \"$1\" default")).await;
        let output =
            airlock_tests::rig::Said { exit: Some(0), stdout: printed, stderr: String::new() };
        assert_eq!(holder_output(&output)["generation"], 0, "{name}");
        assert_eq!(machine.refreshes(), 0, "{name}");
    }
}

//! A test machine: a home of its own, an issuer and a backend on loopback, and the programs.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use airlock_tests::backend::{self, Backend};
use airlock_tests::browser::Browser;
use airlock_tests::issuer::{Granted, Issuer, Options, What};
use airlock_tests::rig::{Process, Said, host_program};
use airlock_tests::scan::Scan;
use airlock_tests::{Rig, clock};
use serde_json::{Value, json};
use tokio::process::Command;

/// A program that uses a login and can be killed at any step of a refresh.
pub(crate) const HOLDER: &str = env!("CARGO_BIN_EXE_login-holder");
/// A scripted browser.
pub(crate) const BROWSER: &str = env!("CARGO_BIN_EXE_scripted-browser");

pub(crate) struct Machine {
    pub(crate) rig: Rig,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) backend: Arc<Backend>,
}

impl Machine {
    /// A machine without a login.
    pub(crate) fn new() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        let issuer = Arc::new(Issuer::start(options));
        let taken = Some(issuer.newest());
        let backend = Backend::start(backend::Options { taken, ..backend::Options::default() });
        // No test starts a real browser.
        let rig = Rig::new().variable("BROWSER", "/bin/true");
        Self { rig, issuer, backend: Arc::new(backend) }
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.rig = self.rig.variable(name, value);
        self
    }

    /// `airlock …`
    pub(crate) async fn airlock(&self, line: &[&str]) -> Command {
        let (name, rest) = line.split_first().expect("a command");
        let mut command = self.rig.command(name).await;
        command.args(rest);
        command
    }

    /// `airlock …`, to its end.
    pub(crate) async fn run(&self, line: &[&str]) -> Said {
        Process::start(self.airlock(line).await).end().await
    }

    /// `airlock setup codex-auth …` for this issuer and backend.
    pub(crate) async fn signing_in(&self, flags: &[&str]) -> Command {
        let mut command = self.airlock(&["setup", "codex-auth"]).await;
        command.args(self.peers()).args(flags);
        command
    }

    /// The same with the program `setup`.
    pub(crate) async fn setting_up(&self, flags: &[&str]) -> Command {
        let program = host_program("airlock-setup", "setup").await;
        let mut command = self.rig.at_home(program);
        command.args(flags).args(self.peers());
        command
    }

    fn peers(&self) -> [String; 4] {
        ["--issuer".to_owned(), self.issuer.url(), "--base-url".to_owned(), self.backend.url()]
    }

    /// Signs in; panics if that fails.
    pub(crate) async fn signed_in(&self, flags: &[&str]) -> Said {
        let output = Process::start(self.signing_in(flags).await).end().await;
        assert_eq!(output.exit, Some(0), "{output:#?}");
        output
    }

    pub(crate) fn logins(&self) -> PathBuf {
        self.rig.home().join("state/airlock/logins")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.rig.login_file(name)
    }

    /// The stored login; null if there is none.
    pub(crate) fn stored(&self, name: &str) -> Value {
        let text = std::fs::read(self.file(name)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or(Value::Null)
    }

    pub(crate) fn store(&self, name: &str, login: &Value) {
        let private = |path: &Path, mode: u32| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        };
        std::fs::create_dir_all(self.logins()).expect("the home can be written");
        private(&self.logins(), 0o700).expect("a directory of the test's");
        std::fs::write(self.file(name), login.to_string()).expect("the home can be written");
        private(&self.file(name), 0o600).expect("a file of the test's");
    }

    /// Changes a field of the stored login.
    pub(crate) fn change(&self, name: &str, part: &str, to: Value) {
        let mut login = self.stored(name);
        login[part] = to;
        self.store(name, &login);
    }

    /// Stores a login with new tokens of the issuer. Its access token expires in `ends_in` seconds.
    pub(crate) fn grant_login(&self, name: &str, ends_in: i64) -> Granted {
        let granted = self.issuer.grant();
        let now = clock::unix();
        let login = json!({
            "v": 2, "kind": "chatgpt", "base": self.backend.url(), "issuer": self.issuer.url(),
            "access_token": granted.access, "refresh_token": granted.refresh,
            "account_id": granted.account.id, "email": granted.account.email,
            "plan": granted.account.plan, "expires_at": now.saturating_add_signed(ends_in),
            "signed_in_at": now - 864_000, "generation": 0,
        });
        self.store(name, &login);
        granted
    }

    /// `login-holder` on a login of this machine.
    pub(crate) fn holder(&self, name: &str, flags: &[&str]) -> Command {
        let mut command = self.rig.at_home(Path::new(HOLDER));
        command.arg(self.logins()).arg(name).args(flags).stdin(Stdio::null());
        command
    }

    pub(crate) fn refreshes(&self) -> usize {
        self.issuer.asked_for(What::Refresh).len()
    }

    /// No secret of the issuer is in these texts.
    #[track_caller]
    pub(crate) fn assert_no_secret_in(&self, texts: &[&str]) {
        let secrets = self.issuer.secrets();
        let mut scan =
            Scan::for_values(secrets.iter().map(|(name, v)| (name.as_str(), v.as_str())));
        for text in texts {
            scan.text("output", text);
        }
        scan.assert_clean();
    }

    /// The issuer and the backend have recorded no violation.
    #[track_caller]
    pub(crate) fn assert_no_complaints(&self) {
        let complaints = [self.issuer.complaints(), self.backend.complaints()].concat();
        assert_eq!(complaints, [""; 0]);
    }
}

/// The text on one line: where lines break depends on the length of a temporary path.
pub(crate) fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Runs a command to its end, with this line on stdin.
pub(crate) async fn run_with_stdin(mut command: Command, stdin: &str) -> Said {
    command.stdin(Stdio::piped());
    let mut process = Process::start(command);
    process.line(stdin).await;
    process.close_stdin();
    process.end().await
}

/// Runs a command to its end, without stdin.
pub(crate) async fn run_to_end(command: Command) -> Said {
    Process::start(command).end().await
}

/// The line of JSON that `login-holder` prints.
pub(crate) fn holder_output(output: &Said) -> Value {
    serde_json::from_str(output.stdout.trim()).unwrap_or_else(|_| panic!("no JSON: {output:#?}"))
}

/// SHA-256, hexadecimal.
pub(crate) fn digest(text: &str) -> String {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Waits for an event of this name in the JSON lines.
pub(crate) async fn event(process: &mut Process, name: &str) -> Value {
    let find = |it: &Process| it.events().into_iter().find(|event| event["event"] == name);
    process.until(&format!("event {name}"), find).await
}

/// Allows at the address of an authorization. Gives the address that the issuer redirects to.
pub(crate) fn agreed(authorize: &str) -> String {
    let page = Browser::default().ask(&format!("{authorize}&auto=allow"), None).expect("a page");
    let location = page.header("location").map(str::to_owned);
    location.unwrap_or_else(|| panic!("no redirect: {page:?}"))
}

/// A parameter of an address's query.
pub(crate) fn part(url: &str, name: &str) -> String {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(given, _)| given == name).map(|(_, v)| v.into_owned()).unwrap_or_default()
}

//! Signing in with a browser. Any browser other than the one that was opened, without the printed
//! address, gets nothing and changes nothing.

use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;

use airlock_tests::browser::{Browser, Seen};
use airlock_tests::issuer::{Fault, What};
use airlock_tests::rig::{Process, Said};
use airlock_tests::scan::Scan;
use serde_json::{Value, json};

use crate::machine::{BROWSER, Machine, agreed, event, part};

/// Exclusive use of the two callback ports, among all tests of this machine.
pub(crate) struct Ports {
    _locked: File,
}

impl Ports {
    pub(crate) async fn lock() -> Self {
        let locked = tokio::task::spawn_blocking(|| {
            let path = std::env::temp_dir().join("airlock-tests-callback-ports");
            let file = File::options().create(true).append(true).open(path);
            let file = file.expect("a file in the temporary directory");
            file.lock().expect("a lock");
            file
        });
        Self { _locked: locked.await.expect("a lock") }
    }
}

/// A running sign-in with a browser.
struct SigningIn {
    machine: Machine,
    process: Process,
    log: PathBuf,
    _ports: Ports,
}

impl SigningIn {
    /// With a browser in this mode (see `scripted-browser`).
    async fn begin(mode: &str, flags: &[&str]) -> Self {
        Self::beside(Ports::lock().await, mode, flags).await
    }

    async fn beside(ports: Ports, mode: &str, flags: &[&str]) -> Self {
        let machine = Machine::new();
        let log = machine.rig.home().join("browser.log");
        let machine = machine
            .variable("BROWSER", BROWSER)
            .variable("SCRIPTED_BROWSER", mode)
            .variable("SCRIPTED_BROWSER_LOG", &log.display().to_string());
        let command = machine.signing_in(&[flags, &["--browser", "--json"]].concat()).await;
        Self { process: Process::start(command), machine, log, _ports: ports }
    }

    fn logged(&self) -> Vec<Value> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The address in the browser's arguments.
    async fn start_address(&mut self) -> String {
        let log = self.log.clone();
        let opened = move |_: &Process| {
            let log = std::fs::read_to_string(&log).ok()?;
            let first: Value = serde_json::from_str(log.lines().next()?).ok()?;
            first["argument"].as_str().map(str::to_owned)
        };
        self.process.until("address in the browser's argument", opened).await
    }

    /// The address that is printed for another browser.
    async fn printed(&mut self) -> String {
        event(&mut self.process, "browser").await["url"].as_str().unwrap_or_default().to_owned()
    }

    async fn ended(self) -> (Machine, Said) {
        (self.machine, self.process.end().await)
    }

    /// Finishes the sign-in in this browser.
    async fn finished_in(mut self, browser: &mut Browser) -> (Machine, Said) {
        let start = self.start_address().await;
        let page = browser.go(&start).expect("the page of the issuer");
        browser.press(&page, ("answer", "allow")).expect("the page at the end");
        let (machine, output) = self.ended().await;
        assert_eq!(output.exit, Some(0), "{output:#?}");
        assert!(machine.stored("default")["refresh_token"].is_string(), "nothing is stored");
        assert_eq!(machine.issuer.asked_for(What::Exchange).len(), 1);
        machine.assert_no_complaints();
        (machine, output)
    }

    fn exchanges(&self) -> usize {
        self.machine.issuer.asked_for(What::Exchange).len()
    }
}

fn ask(browser: &mut Browser, url: &str) -> Seen {
    browser.ask(url, None).expect("an answer")
}

/// Opens the issuer's page from the start page and allows. Gives the redirect, which is not
/// followed.
fn agree(browser: &mut Browser, start: &str) -> String {
    let to_issuer = ask(browser, start);
    assert_eq!(to_issuer.status, 302, "{to_issuer:?}");
    agreed(to_issuer.header("location").unwrap_or_default())
}

#[tokio::test]
async fn a_browser_that_is_opened_signs_in() {
    let signing_in = SigningIn::begin("allow", &[]).await;
    let log = signing_in.log.clone();
    let (machine, output) = signing_in.ended().await;
    assert_eq!(output.exit, Some(0), "{output:#?}");
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<Value> =
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let statuses: Vec<u64> = lines.iter().filter_map(|line| line["status"].as_u64()).collect();
    assert_eq!(statuses, [302, 200, 302, 303, 200], "start, page, agreed, callback, done: {log}");
    let events: Vec<Value> = output.stdout.lines().flat_map(serde_json::from_str).collect();
    assert_eq!((&events[0]["event"], &events[0]["opened"]), (&json!("browser"), &json!(true)));
    assert_eq!(events.last().map(|event| event["event"].clone()), Some(json!("signed_in")));
    machine.assert_no_complaints();
    machine.assert_no_secret_in(&[&output.stderr]);
}

/// Every user of this machine can read the arguments of the browser that we start.
#[tokio::test]
async fn state_and_challenge_stand_in_no_argument() {
    let mut signing_in = SigningIn::begin("look", &[]).await;
    let start = signing_in.start_address().await;
    let seen = |issuer: &airlock_tests::issuer::Issuer| issuer.asked_for(What::Authorize).pop();
    let machine = &signing_in.machine;
    let shown = signing_in.process.until("page of the issuer", |_| seen(&machine.issuer)).await;
    let (state, challenge) = (part(&shown.target, "state"), part(&shown.target, "code_challenge"));
    assert!(state.len() >= 43 && challenge.len() == 43, "{}", shown.target);
    assert!(!start.contains(&state) && !start.contains(&challenge), "{start}");
    let mut scan = Scan::for_values([("state", state.as_str()), ("challenge", &challenge)]);
    scan.all_processes();
    scan.assert_clean();
    // The printed address has another state and challenge than the browser's.
    let printed = signing_in.printed().await;
    assert!(!printed.contains(&state) && !printed.contains(&challenge), "{printed}");
    assert!(!printed.is_empty());
}

/// An attacker reads the browser's arguments or knows the state. Without the cookie that has no
/// effect, and the person can finish.
#[tokio::test]
async fn another_browser_cannot_finish_it() {
    let mut signing_in = SigningIn::begin("note", &[]).await;
    let start = signing_in.start_address().await;
    let mut person = Browser::default();
    let back = agree(&mut person, &start);
    let mut attacker = Browser::default();
    let refused = ask(&mut attacker, &start);
    assert!((400..500).contains(&refused.status), "the start page opened twice: {refused:?}");
    assert_eq!(refused.header("set-cookie"), None);
    for callback in
        [back.clone(), format!("{}&x=y", back.replace(&part(&back, "code"), "ac_of-an-attacker"))]
    {
        let refused = ask(&mut attacker, &callback);
        assert!((400..500).contains(&refused.status), "{refused:?}");
    }
    assert_eq!(signing_in.exchanges(), 0, "a code of another browser was exchanged");
    let done = person.go(&back).expect("a page");
    assert_eq!(done.status, 200, "{done:?}");
    let (machine, output) = signing_in.ended().await;
    assert_eq!(
        (output.exit, machine.issuer.asked_for(What::Exchange).len()),
        (Some(0), 1),
        "{output:#?}"
    );
    assert!(
        output.stdout.contains("another browser"),
        "the rejected request is not reported: {}",
        output.stdout
    );
}

#[tokio::test]
async fn a_wrong_state_changes_nothing() {
    let mut signing_in = SigningIn::begin("note", &[]).await;
    let start = signing_in.start_address().await;
    let mut person = Browser::default();
    let back = agree(&mut person, &start);
    let state = part(&back, "state");
    for wrong in ["", "another-state", &state[..42], &format!("{state}x")] {
        let callback = back.replace(&format!("state={state}"), &format!("state={wrong}"));
        let refused = ask(&mut person, &callback);
        assert_eq!(refused.status, 400, "{wrong}: {refused:?}");
    }
    let twice = ask(&mut person, &format!("{back}&state=another"));
    assert_eq!(twice.status, 400, "two states: {twice:?}");
    let denied = back.replace(&state, "x").replace("code=", "error=access_denied&old=");
    assert_eq!(ask(&mut person, &denied).status, 400, "a refusal with another state has no effect");
    assert_eq!(signing_in.exchanges(), 0);
    signing_in.finished_in(&mut person).await;
}

#[tokio::test]
async fn a_replayed_code_is_exchanged_once() {
    let mut signing_in = SigningIn::begin("note", &[]).await;
    signing_in.machine.issuer.fault(What::Exchange, Fault::Slow { ms: 400 });
    let start = signing_in.start_address().await;
    let mut person = Browser::default();
    let back = agree(&mut person, &start);
    // Three times at the same time, while the issuer is slow.
    let twins: Vec<_> = (0..3)
        .map(|_| {
            let (mut twin, back) = (person.clone(), back.clone());
            tokio::task::spawn_blocking(move || twin.go(&back))
        })
        .collect();
    let mut done = 0;
    for twin in twins {
        // A late one may find the port closed.
        let answer = twin.await.expect("no panic");
        done += usize::from(answer.is_ok_and(|page| page.status == 200));
    }
    assert!(done >= 1, "the person sees no page");
    let (machine, output) = signing_in.ended().await;
    assert_eq!(output.exit, Some(0), "{output:#?}");
    assert_eq!(machine.issuer.asked_for(What::Exchange).len(), 1, "a code was exchanged twice");
}

#[tokio::test]
async fn a_second_tab_of_the_same_browser_can_finish() {
    let mut signing_in = SigningIn::begin("note", &[]).await;
    let start = signing_in.start_address().await;
    let mut person = Browser::default();
    let first = agree(&mut person, &start);
    let second = agree(&mut person, &start);
    assert_ne!(part(&first, "code"), part(&second, "code"));
    let done = person.go(&second).expect("a page");
    assert_eq!(done.status, 200, "{done:?}");
    // The first tab comes late; its code is not exchanged.
    drop(person.go(&first));
    let (machine, output) = signing_in.ended().await;
    assert_eq!(
        (output.exit, machine.issuer.asked_for(What::Exchange).len()),
        (Some(0), 1),
        "{output:#?}"
    );
}

/// DNS rebinding: the name of a web page points to this machine.
#[tokio::test]
async fn another_host_name_is_refused() {
    let mut signing_in = SigningIn::begin("note", &[]).await;
    let start = signing_in.start_address().await;
    for host in ["evil.example:1455", "localhost", "localhost:80", "127.0.0.1.evil.example:1455"] {
        let mut rebound = Browser::default();
        let refused = rebound.ask_with(&start, None, &[("Host", host)]).expect("an answer");
        assert!((400..500).contains(&refused.status), "{host}: {refused:?}");
        assert_eq!((refused.header("set-cookie"), refused.header("location")), (None, None));
    }
    signing_in.finished_in(&mut Browser::default()).await;
}

#[tokio::test]
async fn no_request_of_another_program_ends_the_sign_in() {
    let mut signing_in = SigningIn::begin("note", &[]).await;
    let start = signing_in.start_address().await;
    let origin = &start[..start.find("/start").unwrap_or(0)];
    let mut other = Browser::default();
    for path in ["/cancel", "/success", "/", "/start/", "/start/guess", "/auth/callback", "/done"] {
        let refused = ask(&mut other, &format!("{origin}{path}"));
        assert!((400..500).contains(&refused.status), "{path}: {refused:?}");
    }
    let posted = other.ask(&format!("{origin}/auth/callback"), Some("code=x")).expect("an answer");
    assert!((400..500).contains(&posted.status), "{posted:?}");
    // Many silent connections do not block the browser.
    let address = origin.trim_start_matches("http://").replace("localhost", "127.0.0.1");
    let silent: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(&address)).collect();
    signing_in.finished_in(&mut Browser::default()).await;
    drop(silent);
}

#[tokio::test]
async fn the_last_page_and_its_address_hold_no_code() {
    let mut person = Browser::default();
    let (machine, output) = SigningIn::begin("note", &[]).await.finished_in(&mut person).await;
    let last = person.seen.last().expect("a page").clone();
    assert!(last.url.ends_with("/done"), "{}", last.url);
    machine.assert_no_secret_in(&[&last.url, &last.body, &output.stderr]);
    let body = last.body.to_ascii_lowercase();
    assert!(!body.contains("<script") && !body.contains("src="), "{body}");
    for seen in person.seen.iter().filter(|seen| seen.url.starts_with("http://localhost:")) {
        let policy =
            ["cache-control", "referrer-policy"].map(|name| seen.header(name).unwrap_or(""));
        assert_eq!(policy, ["no-store", "no-referrer"], "{}", seen.url);
    }
    let callback = &person.seen[person.seen.len() - 2];
    assert_eq!((callback.status, callback.header("location")), (303, Some("/done")));
    assert!(callback.body.is_empty() || !callback.body.contains("ac_"), "{callback:?}");
    let cookie = person.seen.iter().find_map(|seen| seen.header("set-cookie")).unwrap_or("");
    for part in ["HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(part), "{part}: {cookie}");
    }
}

/// The printed address needs no cookie, because it is shown only at this terminal.
#[tokio::test]
async fn the_printed_address_can_be_opened_anywhere() {
    let mut signing_in = SigningIn::begin("note", &["--no-browser"]).await;
    let browser = event(&mut signing_in.process, "browser").await;
    assert_eq!(browser["opened"], json!(false));
    let url = browser["url"].as_str().unwrap_or_default();
    let mut person = Browser::default();
    let page = person.go(&format!("{url}&auto=allow")).expect("a page");
    assert_eq!(page.status, 200, "{page:?}");
    let log = signing_in.logged();
    let (machine, output) = signing_in.ended().await;
    assert_eq!((output.exit, log.len()), (Some(0), 0), "a browser was opened: {output:#?}");
    machine.assert_no_complaints();
}

#[tokio::test]
async fn a_person_who_denies_is_not_signed_in() {
    let signing_in = SigningIn::begin("deny", &[]).await;
    let log = signing_in.log.clone();
    let (machine, output) = signing_in.ended().await;
    assert_eq!(output.exit, Some(3), "{output:#?}");
    assert_eq!(machine.stored("default"), Value::Null);
    assert!(output.stdout.contains("access_denied"), "{output:#?}");
    assert_eq!(machine.issuer.asked_for(What::Exchange).len(), 0);
    // The issuer's message is not HTML on our page.
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let last: Value =
        log.lines().last().and_then(|l| serde_json::from_str(l).ok()).unwrap_or_default();
    let body = last["body"].as_str().unwrap_or_default();
    assert!(!body.contains("<b>no</b>"), "{body}");
}

#[tokio::test]
async fn a_busy_port_is_reported() {
    let ports = Ports::lock().await;
    let first = TcpListener::bind("127.0.0.1:1455").expect("the lock says that it is free");
    let mut signing_in = SigningIn::beside(ports, "note", &[]).await;
    let browser = event(&mut signing_in.process, "browser").await;
    assert_eq!(browser["port"], json!(1457), "{browser}");
    let (machine, _) = signing_in.finished_in(&mut Browser::default()).await;
    drop(machine);

    // Neither port is free: the program that holds them is named, and the other methods go on.
    let ports = Ports::lock().await;
    let second = TcpListener::bind("127.0.0.1:1457").expect("the lock says that it is free");
    let machine = Machine::new();
    let mut command = machine.signing_in(&["--browser"]).await;
    command.stdin(Stdio::null());
    let output = crate::machine::run_to_end(command).await;
    assert_eq!(output.exit, Some(3), "{output:#?}");
    let holder = format!("(pid {})", std::process::id());
    for part in ["1455", "1457", holder.as_str()] {
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
    }
    let output = machine.signed_in(&["--json"]).await;
    assert!(output.stdout.contains("1455") && output.stdout.contains("device_code"), "{output:#?}");
    drop((first, second, ports));
}

/// Browser and device code at the same time, and the browser is faster.
#[tokio::test]
async fn the_first_method_to_finish_wins() {
    let ports = Ports::lock().await;
    let device = airlock_tests::issuer::Device::Waits;
    let machine = Machine::with(airlock_tests::issuer::Options { device, ..Default::default() });
    let machine = machine.variable("BROWSER", BROWSER);
    let output = machine.signed_in(&["--json"]).await;
    let events: Vec<Value> = output.stdout.lines().flat_map(serde_json::from_str).collect();
    let mut names: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(names.pop(), Some("signed_in"), "{output:#?}");
    assert!(names.contains(&"browser"), "{output:#?}");
    drop(ports);
}

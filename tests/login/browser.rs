//! The way of the browser: whoever is not the browser that was opened, or does not bring what was
//! printed here, gets nothing and changes nothing.

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

/// The two ports are this machine's only ones: whoever listens there keeps everybody else out, in
/// this process and in others.
pub(crate) struct Ports {
    _locked: File,
}

impl Ports {
    pub(crate) async fn alone() -> Self {
        let locked = tokio::task::spawn_blocking(|| {
            let path = std::env::temp_dir().join("airlock-tests-callback-ports");
            let file = File::options().create(true).append(true).open(path);
            let file = file.expect("a file in the temporary folder");
            file.lock().expect("a lock");
            file
        });
        Self { _locked: locked.await.expect("a lock") }
    }
}

/// A sign-in that goes on in a browser.
struct SigningIn {
    machine: Machine,
    process: Process,
    log: PathBuf,
    _ports: Ports,
}

impl SigningIn {
    /// With a browser that does this (see `scripted-browser`).
    async fn begin(mode: &str, flags: &[&str]) -> Self {
        Self::beside(Ports::alone().await, mode, flags).await
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

    /// What the browser was told to open: all that stands in its arguments.
    async fn start_address(&mut self) -> String {
        let log = self.log.clone();
        let opened = move |_: &Process| {
            let log = std::fs::read_to_string(&log).ok()?;
            let first: Value = serde_json::from_str(log.lines().next()?).ok()?;
            first["argument"].as_str().map(str::to_owned)
        };
        self.process.until("address in the browser's argument", opened).await
    }

    /// What is printed for a browser that was not opened.
    async fn printed(&mut self) -> String {
        event(&mut self.process, "browser").await["url"].as_str().unwrap_or_default().to_owned()
    }

    async fn ended(self) -> (Machine, Said) {
        (self.machine, self.process.end().await)
    }

    /// Goes on to the end in a browser that has been at the start page.
    async fn finished_in(mut self, browser: &mut Browser) -> (Machine, Said) {
        let start = self.start_address().await;
        let page = browser.go(&start).expect("the page of the issuer");
        browser.press(&page, ("answer", "allow")).expect("the page at the end");
        let (machine, said) = self.ended().await;
        assert_eq!(said.exit, Some(0), "{said:#?}");
        assert!(machine.stored("default")["refresh_token"].is_string(), "nothing is stored");
        assert_eq!(machine.issuer.asked_for(What::Exchange).len(), 1);
        machine.assert_no_complaints();
        (machine, said)
    }

    fn exchanges(&self) -> usize {
        self.machine.issuer.asked_for(What::Exchange).len()
    }
}

fn ask(browser: &mut Browser, url: &str) -> Seen {
    browser.ask(url, None).expect("an answer")
}

/// The first page of the issuer, and where it sends who agrees: not gone to.
fn agree(browser: &mut Browser, start: &str) -> String {
    let to_issuer = ask(browser, start);
    assert_eq!(to_issuer.status, 302, "{to_issuer:?}");
    agreed(to_issuer.header("location").unwrap_or_default())
}

#[tokio::test]
async fn a_browser_that_is_opened_signs_in() {
    let signing_in = SigningIn::begin("allow", &[]).await;
    let log = signing_in.log.clone();
    let (machine, said) = signing_in.ended().await;
    assert_eq!(said.exit, Some(0), "{said:#?}");
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<Value> =
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let statuses: Vec<u64> = lines.iter().filter_map(|line| line["status"].as_u64()).collect();
    assert_eq!(statuses, [302, 200, 302, 303, 200], "start, page, agreed, callback, done: {log}");
    let events: Vec<Value> = said.stdout.lines().flat_map(serde_json::from_str).collect();
    assert_eq!((&events[0]["event"], &events[0]["opened"]), (&json!("browser"), &json!(true)));
    assert_eq!(events.last().map(|event| event["event"].clone()), Some(json!("signed_in")));
    machine.assert_no_complaints();
    machine.assert_no_secret_in(&[&said.stderr]);
}

/// What every user of this machine can read of the browser that we start.
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
    // The address that is printed is another sign-in's: what the browser has is not on the screen.
    let printed = signing_in.printed().await;
    assert!(!printed.contains(&state) && !printed.contains(&challenge), "{printed}");
    assert!(!printed.is_empty());
}

/// Somebody reads the browser's arguments, or has learned the state: without the cookie it is of
/// no use, and the person goes on.
#[tokio::test]
async fn another_browser_cannot_finish_it() {
    let mut signing_in = SigningIn::begin("note", &[]).await;
    let start = signing_in.start_address().await;
    let mut person = Browser::default();
    let back = agree(&mut person, &start);
    let mut thief = Browser::default();
    let refused = ask(&mut thief, &start);
    assert!((400..500).contains(&refused.status), "the start page opens twice: {refused:?}");
    assert_eq!(refused.header("set-cookie"), None);
    for callback in
        [back.clone(), format!("{}&x=y", back.replace(&part(&back, "code"), "ac_of-a-thief"))]
    {
        let refused = ask(&mut thief, &callback);
        assert!((400..500).contains(&refused.status), "{refused:?}");
    }
    assert_eq!(signing_in.exchanges(), 0, "a code of another browser was exchanged");
    let done = person.go(&back).expect("a page");
    assert_eq!(done.status, 200, "{done:?}");
    let (machine, said) = signing_in.ended().await;
    assert_eq!(
        (said.exit, machine.issuer.asked_for(What::Exchange).len()),
        (Some(0), 1),
        "{said:#?}"
    );
    assert!(said.stdout.contains("another browser"), "the stranger is not named: {}", said.stdout);
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
    assert_eq!(ask(&mut person, &denied).status, 400, "a stranger's refusal ends nothing");
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
    // Twice at the same time, and once more while the issuer takes its time.
    let twins: Vec<_> = (0..3)
        .map(|_| {
            let (mut twin, back) = (person.clone(), back.clone());
            tokio::task::spawn_blocking(move || twin.go(&back))
        })
        .collect();
    let mut done = 0;
    for twin in twins {
        // One that comes too late finds nobody.
        let answer = twin.await.expect("a thread of ours");
        done += usize::from(answer.is_ok_and(|page| page.status == 200));
    }
    assert!(done >= 1, "the person sees no page");
    let (machine, said) = signing_in.ended().await;
    assert_eq!(said.exit, Some(0), "{said:#?}");
    assert_eq!(machine.issuer.asked_for(What::Exchange).len(), 1, "a code was exchanged twice");
}

#[tokio::test]
async fn a_second_tab_of_the_same_browser_is_welcome() {
    let mut signing_in = SigningIn::begin("note", &[]).await;
    let start = signing_in.start_address().await;
    let mut person = Browser::default();
    let first = agree(&mut person, &start);
    let second = agree(&mut person, &start);
    assert_ne!(part(&first, "code"), part(&second, "code"));
    let done = person.go(&second).expect("a page");
    assert_eq!(done.status, 200, "{done:?}");
    // The first tab is late; whatever it is shown, its code is nobody's any more.
    drop(person.go(&first));
    let (machine, said) = signing_in.ended().await;
    assert_eq!(
        (said.exit, machine.issuer.asked_for(What::Exchange).len()),
        (Some(0), 1),
        "{said:#?}"
    );
}

/// A page of the open web whose name was pointed at this machine.
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
async fn strangers_can_end_nothing() {
    let mut signing_in = SigningIn::begin("note", &[]).await;
    let start = signing_in.start_address().await;
    let origin = &start[..start.find("/start").unwrap_or(0)];
    let mut stranger = Browser::default();
    for path in ["/cancel", "/success", "/", "/start/", "/start/guess", "/auth/callback", "/done"] {
        let refused = ask(&mut stranger, &format!("{origin}{path}"));
        assert!((400..500).contains(&refused.status), "{path}: {refused:?}");
    }
    let posted =
        stranger.ask(&format!("{origin}/auth/callback"), Some("code=x")).expect("an answer");
    assert!((400..500).contains(&posted.status), "{posted:?}");
    // Connections that say nothing keep nobody out, however many they are.
    let address = origin.trim_start_matches("http://").replace("localhost", "127.0.0.1");
    let silent: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(&address)).collect();
    signing_in.finished_in(&mut Browser::default()).await;
    drop(silent);
}

#[tokio::test]
async fn the_page_and_its_address_hold_no_code() {
    let mut person = Browser::default();
    let (machine, said) = SigningIn::begin("note", &[]).await.finished_in(&mut person).await;
    let last = person.seen.last().expect("a page").clone();
    assert!(last.url.ends_with("/done"), "{}", last.url);
    machine.assert_no_secret_in(&[&last.url, &last.body, &said.stderr]);
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

/// The printed address needs no cookie: it was shown at this terminal alone.
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
    let (machine, said) = signing_in.ended().await;
    assert_eq!((said.exit, log.len()), (Some(0), 0), "a browser was opened: {said:#?}");
    machine.assert_no_complaints();
}

#[tokio::test]
async fn a_person_who_says_no_is_not_signed_in() {
    let signing_in = SigningIn::begin("deny", &[]).await;
    let log = signing_in.log.clone();
    let (machine, said) = signing_in.ended().await;
    assert_eq!(said.exit, Some(3), "{said:#?}");
    assert_eq!(machine.stored("default"), Value::Null);
    assert!(said.stdout.contains("access_denied"), "{said:#?}");
    assert_eq!(machine.issuer.asked_for(What::Exchange).len(), 0);
    // The issuer's own words are text on our page, never a part of it.
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let last: Value =
        log.lines().last().and_then(|l| serde_json::from_str(l).ok()).unwrap_or_default();
    let body = last["body"].as_str().unwrap_or_default();
    assert!(!body.contains("<b>no</b>"), "{body}");
}

#[tokio::test]
async fn a_busy_port_is_explained() {
    let ports = Ports::alone().await;
    let first = TcpListener::bind("127.0.0.1:1455").expect("the lock says that it is free");
    let mut signing_in = SigningIn::beside(ports, "note", &[]).await;
    let browser = event(&mut signing_in.process, "browser").await;
    assert_eq!(browser["port"], json!(1457), "{browser}");
    let (machine, _) = signing_in.finished_in(&mut Browser::default()).await;
    drop(machine);

    // Neither is free: who has them is said, and the other ways go on.
    let ports = Ports::alone().await;
    let second = TcpListener::bind("127.0.0.1:1457").expect("the lock says that it is free");
    let machine = Machine::new();
    let mut command = machine.signing_in(&["--browser"]).await;
    command.stdin(Stdio::null());
    let said = crate::machine::ended(command).await;
    assert_eq!(said.exit, Some(3), "{said:#?}");
    let holder = format!("(pid {})", std::process::id());
    for part in ["1455", "1457", holder.as_str()] {
        assert!(said.stderr.contains(part), "{part}: {}", said.stderr);
    }
    let said = machine.signed_in(&["--json"]).await;
    assert!(said.stdout.contains("1455") && said.stdout.contains("device_code"), "{said:#?}");
    drop((first, second, ports));
}

/// Browser and code at once, and the browser is quicker.
#[tokio::test]
async fn the_first_way_to_finish_wins() {
    let ports = Ports::alone().await;
    let device = airlock_tests::issuer::Device::Waits;
    let machine = Machine::with(airlock_tests::issuer::Options { device, ..Default::default() });
    let machine = machine.variable("BROWSER", BROWSER);
    let said = machine.signed_in(&["--json"]).await;
    let events: Vec<Value> = said.stdout.lines().flat_map(serde_json::from_str).collect();
    let mut names: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(names.pop(), Some("signed_in"), "{said:#?}");
    assert!(names.contains(&"browser"), "{said:#?}");
    drop(ports);
}

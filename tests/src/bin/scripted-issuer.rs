//! The scripted issuer by itself, for other clients and for people, with a scripted backend beside
//! it that takes its newest tokens.
//!
//! ```console
//! $ cargo run -p airlock-tests --bin scripted-issuer
//! issuer  http://127.0.0.1:40123
//! backend http://127.0.0.1:40124/backend-api/codex
//! $ airlock setup codex-auth --issuer http://127.0.0.1:40123 \
//!     --base-url http://127.0.0.1:40124/backend-api/codex
//! ```
//!
//! A person signs in by opening the page; for a program, `&auto=allow` at the end of the authorize
//! address presses the button, and so does a POST of `user_code` to `/codex/device`. It prints a
//! line for each request and ends when its input does.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use airlock_tests::backend::{self, Backend, Script};
use airlock_tests::issuer::{Account, Device, Issuer, Options};

const USAGE: &str = "scripted-issuer [--port N] [--backend-port N] [--account NAME] [--plan PLAN] \
                     [--lifetime SECONDS] [--interval SECONDS] [--types-after POLLS] [--no-device] \
                     [--ahead SECONDS] [--any-client] [--script NAME]";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            say(&format!("{message}\n{USAGE}"));
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), String> {
    let waits = Device::Waits;
    let mut options = Options { device: waits, interval: "2".to_owned(), ..Options::default() };
    let mut beside = backend::Options::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} takes a value"));
        let not = |_| format!("{argument} takes a number");
        match argument.as_str() {
            "--port" => options.port = value()?.parse().map_err(not)?,
            "--backend-port" => beside.port = value()?.parse().map_err(not)?,
            "--account" => options.account = Account::named(&value()?),
            "--plan" => options.account.plan = value()?,
            "--lifetime" => options.lifetime = value()?.parse().map_err(not)?,
            "--interval" => options.interval = value()?,
            "--types-after" => {
                options.device = Device::Types { after_polls: value()?.parse().map_err(not)? };
            }
            "--no-device" => options.device = Device::Off,
            "--ahead" => options.ahead = value()?.parse().map_err(|_| "--ahead takes a number")?,
            "--any-client" => (options.ours, beside.ours) = (false, false),
            "--script" => {
                let name = value()?;
                beside.script = Script::named(&name).ok_or(format!("no script {name}"))?;
            }
            other => return Err(format!("unknown: {other}")),
        }
    }
    let issuer = Issuer::start(options);
    beside.taken = Some(issuer.newest());
    let backend = Backend::start(beside);
    say(&format!("issuer  {}\nbackend {}", issuer.url(), backend.url()));
    let (ended, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut rest = Vec::new();
        drop(std::io::stdin().read_to_end(&mut rest));
        // The main thread may have ended already.
        let _ = ended.send(());
    });
    let (mut told, mut asked, mut complained) = (0, 0, HashSet::new());
    loop {
        let over = end.recv_timeout(std::time::Duration::from_millis(50));
        for done in issuer.asked().iter().skip(told) {
            told += 1;
            let (what, request) = (done.what, &done.request);
            // Without its query: a state or a code is nobody's business, not even here.
            say(&format!("{} {what:?} {} {}", request.status, request.method, request.path()));
        }
        for request in backend.requests().iter().skip(asked) {
            asked += 1;
            say(&format!("{} {} {}", request.status, request.method, request.path()));
        }
        for complaint in issuer.complaints().into_iter().chain(backend.complaints()) {
            if complained.insert(complaint.clone()) {
                say(&format!("  complaint: {complaint}"));
            }
        }
        if !matches!(over, Err(std::sync::mpsc::RecvTimeoutError::Timeout)) {
            return Ok(());
        }
    }
}

fn say(line: &str) {
    // Whoever reads may have gone; there is nobody to tell.
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}

//! The scripted backend by itself, for other clients and for people.
//!
//! ```console
//! $ cargo run -p airlock-tests --bin scripted-backend -- --port 8787 --script three-rounds
//! ```
//!
//! It prints its base, and a line for each request; it ends when its input does or by a signal.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use airlock_tests::backend::{Backend, Options, Script, api_catalogue};

const USAGE: &str = "scripted-backend [--port N] [--script NAME|FILE.json] [--tls] [--any-client] \
                     [--api-catalogue] [--ca-file FILE]\nnames of scripts: answer, three-rounds, \
                     three-rounds-codex; without one, every request is told that the script ended";

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
    let mut options = Options::default();
    let mut ca_file = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} takes a value"));
        match argument.as_str() {
            "--port" => options.port = value()?.parse().map_err(|_| "--port takes a number")?,
            "--script" => options.script = script(&value()?)?,
            "--tls" => options.tls = true,
            "--any-client" => options.ours = false,
            "--api-catalogue" => options.catalogue = api_catalogue(),
            "--ca-file" => ca_file = Some(value()?),
            other => return Err(format!("unknown: {other}")),
        }
    }
    let backend = Backend::start(options);
    if let (Some(file), Some(ca)) = (ca_file, backend.ca()) {
        std::fs::write(&file, ca).map_err(|error| format!("{file}: {error}"))?;
    }
    say(&backend.url());
    let (ended, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut rest = Vec::new();
        drop(std::io::stdin().read_to_end(&mut rest));
        // The main thread may have ended already.
        let _ = ended.send(());
    });
    let (mut told, mut complained) = (0, HashSet::new());
    loop {
        let over = end.recv_timeout(std::time::Duration::from_millis(50));
        for request in backend.requests().iter().skip(told) {
            told += 1;
            let (method, target) = (&request.method, &request.target);
            let (bytes, status) = (request.body.len(), request.status);
            say(&format!(
                "{status} {method} {target} {bytes} bytes, {} items",
                request.input().len()
            ));
        }
        for complaint in backend.complaints() {
            if complained.insert(complaint.clone()) {
                say(&format!("  complaint: {complaint}"));
            }
        }
        if !matches!(over, Err(std::sync::mpsc::RecvTimeoutError::Timeout)) {
            say(&format!("{} steps left over", backend.left_over()));
            return Ok(());
        }
    }
}

fn script(name: &str) -> Result<Script, String> {
    if let Some(script) = Script::named(name) {
        return Ok(script);
    }
    let json = std::fs::read_to_string(name).map_err(|error| format!("{name}: {error}"))?;
    Script::parse(&json).map_err(|error| format!("{name}: {error}"))
}

fn say(line: &str) {
    // Whoever reads may have gone; there is nobody to tell.
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}

//! `airlock-sandbox`: the program inside the container. It makes itself unreadable, writes the
//! ready line, reads one line, and works until there is an outcome.
//!
//! Deliberately absent: flags, environment variables and configuration. All input is in the one
//! line on stdin; see `airlock_shared::handoff`.

mod mounts; // what is mounted where
mod confinement; // our confinement, for the ready line
mod agent; // the turn: ask the model, run its calls, ask again
mod exec; // processes and ids: the only unsafe code
mod files; // the workspace in, the changes out
mod keep; // sends the changes to the host, during the turn and at the end
mod link; // HTTP/2 on the pipe to the host
mod plain; // without our host: events on stdout
mod report; // events as JSON lines
mod responses; // one model request, from body to answer
#[cfg(test)]
mod scripted; // for tests: a backend and a host on the wire
mod scrub; // removes our secrets from text of others
mod session; // from the handoff to the outcome
mod stdio; // the handoff line, and fd 0 and 1 as streams
mod tools; // what the model can do

use std::io::Write as _;
use std::process::ExitCode;

use airlock_shared::outcome::Fault;

const HELP: &str = "airlock-sandbox: the program of Airlock that runs inside a container.

It takes no arguments. It writes {\"ready\":1,…} to stdout, reads one line of JSON (the handoff) from
stdin, does the job in it, and ends. With \"link\":\"none\" it prints events as JSON lines on stdout.
The handoff's schema: airlock sandbox --schema

Exit codes: 0 finished, 1 failed, 2 usage, 3 sign-in needed, 4 usage limit, 5 budget spent,
130 cancelled.
";

fn main() -> ExitCode {
    quiet_panics();
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        None => {}
        Some(flag) if flag == "--version" => {
            return print(&format!("airlock-sandbox {}\n", env!("CARGO_PKG_VERSION")));
        }
        Some(flag) if flag == "--help" => return print(HELP),
        Some(_) => {
            complain("this program takes no arguments: see --help");
            return ExitCode::from(2);
        }
    }
    // THREAT: a command of the model, or another program of the image, reads the handoff in our
    // memory. So this comes before the first byte of stdin is read.
    if let Err(fault) = exec::harden() {
        return give_up(&fault);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_stack_size(256 << 10)
        .max_blocking_threads(32)
        .build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(session::run());
            // A blocked read or file operation must not delay the end.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            complain(&format!("the runtime could not be started: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// THREAT: the payload of a panic may hold data, even a token. Only the place in our sources is
/// printed.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        complain(&format!("the sandbox panicked at {place}: this is a bug"));
    }));
}

fn give_up(fault: &Fault) -> ExitCode {
    complain(&fault.message);
    ExitCode::FAILURE
}

/// One line on stderr. If stderr is closed, that is no reason to fail.
fn complain(line: &str) {
    let _unheard = writeln!(std::io::stderr().lock(), "airlock-sandbox: {line}");
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

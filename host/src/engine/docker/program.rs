//! Which program runs in a container, seen from outside: the engine's `ps` reads it from the
//! kernel. What says that it is ready could be anything; only this shows that it is ours.

use bollard::errors::Error;
use bollard::models::ContainerTopResponse;
use bollard::query_parameters::TopOptionsBuilder;

use super::Docker;
use crate::engine::error::{EngineError, Step, said};

/// What `ps` is asked for: Docker needs the first to tell the container's processes from others.
const ASKED: &str = "-eo pid,exe";
/// What else it shows for a program that it cannot read.
const UNREADABLE: &str = "-";

/// What was seen.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// One process, and that is the program.
    Ours,
    /// The container has no process any more, or another.
    Other(String),
    /// This engine cannot say it: no `ps`, one that knows no `exe`, or may not read it.
    Unknown,
}

/// Asks.
pub(super) async fn seen(docker: &Docker, id: &str, program: &str) -> Result<Seen, EngineError> {
    let options = TopOptionsBuilder::new().ps_args(ASKED).build();
    match docker.client().top_processes(id, Some(options)).await {
        Ok(answer) => Ok(judged(&answer, program)),
        // It has ended: whoever waits for its first line hears that.
        Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => {
            Ok(Seen::Other("nothing".to_owned()))
        }
        Err(Error::DockerResponseServerError { message, .. }) => {
            tracing::debug!(message, "the engine's ps does not say which program runs");
            Ok(Seen::Unknown)
        }
        Err(error) => Err(EngineError::Box { step: Step::Ready, reason: said(&error) }),
    }
}

fn judged(answer: &ContainerTopResponse, program: &str) -> Seen {
    let titles = answer.titles.as_deref().unwrap_or_default();
    let Some(column) = titles.iter().position(|title| title.eq_ignore_ascii_case("exe")) else {
        return Seen::Unknown;
    };
    let rows = answer.processes.as_deref().unwrap_or_default();
    let programs: Vec<&str> =
        rows.iter().map(|row| row.get(column).map_or("", String::as_str)).collect();
    // THREAT: a program of the image that runs as the first process, or beside ours with the same
    // stdin, reads the handoff. Tried by
    // engine::docker::tests::another_program_that_says_ready_gets_nothing.
    match programs.iter().find(|&&found| found != program) {
        Some(&(UNREADABLE | "")) if programs.len() == 1 => Seen::Unknown,
        Some(other) => Seen::Other(other.chars().filter(|c| !c.is_control()).take(200).collect()),
        None if programs.len() == 1 => Seen::Ours,
        None => Seen::Other(format!("{} processes", programs.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_of_ours_and_no_other() {
        let top = |titles: &[&str], rows: &[&[&str]]| {
            let texts = |row: &[&str]| row.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
            let answer = ContainerTopResponse {
                titles: Some(texts(titles)),
                processes: Some(rows.iter().map(|row| texts(row)).collect()),
            };
            judged(&answer, "/.airlock-1/airlock-sandbox")
        };
        let ours: &[&str] = &["7", "/.airlock-1/airlock-sandbox"];
        assert_eq!(top(&["PID", "EXE"], &[ours]), Seen::Ours);
        let other = |text: &str| Seen::Other(text.to_owned());
        assert_eq!(top(&["PID", "EXE"], &[&["7", "/evil"]]), other("/evil"));
        assert_eq!(top(&["PID", "EXE"], &[ours, &["8", "/evil"]]), other("/evil"));
        assert_eq!(top(&["PID", "EXE"], &[ours, &["8", "-"]]), other("-"));
        assert_eq!(top(&["PID", "EXE"], &[ours, ours]), other("2 processes"));
        assert_eq!(top(&["PID", "EXE"], &[]), other("0 processes"));
        assert_eq!(top(&["PID", "EXE"], &[&["7", "/ev\u{1b}il"]]), other("/evil"));
        // An engine that cannot say it.
        assert_eq!(top(&["PID", "EXE"], &[&["7", "-"]]), Seen::Unknown);
        assert_eq!(top(&["PID", "COMMAND"], &[&["7", "airlock-sandbox"]]), Seen::Unknown);
    }
}

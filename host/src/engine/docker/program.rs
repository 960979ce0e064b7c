//! Which program runs in a container, seen from outside: the engine's `ps` reads it from the
//! kernel. What says that it is ready could be anything; only this shows that it is ours.

use std::time::Duration;

use bollard::errors::Error;
use bollard::models::ContainerTopResponse;
use bollard::query_parameters::TopOptionsBuilder;

use super::Docker;
use crate::engine::error::{EngineError, EngineStep, said};

/// What `ps` is asked for: Docker needs the first to tell the container's processes from others.
const ASKED: &str = "-eo pid,exe";
/// What a `ps` says that has no such column, and an engine that has no `ps`.
const NO_COLUMN: [&str; 3] =
    ["unknown user-defined format specifier", "bad -o argument", "executable file not found"];
/// How often it is asked before an engine that fails counts as one that fails.
const TIMES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);

/// What was seen.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ObservedProgram {
    /// One process, and that is the program.
    Ours,
    /// Another, or one that cannot be read.
    Other(String),
    /// This engine cannot say it: no `ps`, or one that has no column for it.
    Unknown,
}

/// Asks until there is an answer, a few times.
///
/// THREAT: the engine fails for a moment, by chance or because a program of the image brought it
/// about, and what was not seen counts as ours. Tried by
/// flow::accents::an_engine_that_fails_to_say_which_program_runs_gets_no_handoff.
pub(super) async fn seen(
    docker: &Docker,
    id: &str,
    program: &str,
) -> Result<ObservedProgram, EngineError> {
    for _ in 1..TIMES {
        if let Ok(seen) = look(docker, id, program).await {
            return Ok(seen);
        }
        tokio::time::sleep(PAUSE).await;
    }
    look(docker, id, program).await.map_err(|why| EngineError::Box {
        step: EngineStep::Ready,
        reason: format!("the engine does not say which program runs in the container: {why}"),
    })
}

/// Asks once.
///
/// # Errors
/// Why there was no answer: the next time there may be one.
pub(super) async fn look(
    docker: &Docker,
    id: &str,
    program: &str,
) -> Result<ObservedProgram, String> {
    let options = TopOptionsBuilder::new().ps_args(ASKED).build();
    match docker.client().top_processes(id, Some(options)).await {
        Ok(answer) => Ok(judged(&answer, program)),
        Err(Error::DockerResponseServerError { message, .. }) if has_no_column(&message) => {
            tracing::debug!(message, "the engine's ps does not say which program runs");
            Ok(ObservedProgram::Unknown)
        }
        Err(error) => Err(said(&error)),
    }
}

fn has_no_column(message: &str) -> bool {
    NO_COLUMN.iter().any(|words| message.contains(words))
}

fn judged(answer: &ContainerTopResponse, program: &str) -> ObservedProgram {
    let titles = answer.titles.as_deref().unwrap_or_default();
    let Some(column) = titles.iter().position(|title| title.eq_ignore_ascii_case("exe")) else {
        return ObservedProgram::Unknown;
    };
    let rows = answer.processes.as_deref().unwrap_or_default();
    let programs: Vec<&str> =
        rows.iter().map(|row| row.get(column).map_or("", String::as_str)).collect();
    // THREAT: a program of the image that runs as the first process, or beside ours with the same
    // stdin, reads the handoff. Tried by
    // engine::docker::tests::another_program_that_says_ready_gets_nothing. A program whose first
    // thread has ended is shown as `-`, and is not ours either.
    match programs.iter().find(|&&found| found != program) {
        Some(other) => {
            ObservedProgram::Other(other.chars().filter(|c| !c.is_control()).take(200).collect())
        }
        None if programs.len() == 1 => ObservedProgram::Ours,
        None => ObservedProgram::Other(format!("{} processes", programs.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_engine_cannot_say_is_told_from_a_failure() {
        for message in [
            "error: unknown user-defined format specifier \"exe\": exit status 1",
            "Error running ps: ps: bad -o argument 'exe', supported arguments: user,pid",
            "exec: \"ps\": executable file not found in $PATH",
        ] {
            assert!(has_no_column(message), "{message}");
        }
        for message in
            ["Couldn't find PID field in ps output", "Error running ps: exit status 1", ""]
        {
            assert!(!has_no_column(message), "{message}");
        }
    }

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
        assert_eq!(top(&["PID", "EXE"], &[ours]), ObservedProgram::Ours);
        let other = |text: &str| ObservedProgram::Other(text.to_owned());
        assert_eq!(top(&["PID", "EXE"], &[&["7", "/evil"]]), other("/evil"));
        assert_eq!(top(&["PID", "EXE"], &[ours, &["8", "/evil"]]), other("/evil"));
        assert_eq!(top(&["PID", "EXE"], &[ours, &["8", "-"]]), other("-"));
        assert_eq!(top(&["PID", "EXE"], &[ours, ours]), other("2 processes"));
        assert_eq!(top(&["PID", "EXE"], &[]), other("0 processes"));
        assert_eq!(top(&["PID", "EXE"], &[&["7", "/ev\u{1b}il"]]), other("/evil"));
        // One that hides: its first thread has ended.
        assert_eq!(top(&["PID", "EXE"], &[&["7", "-"]]), other("-"));
        // An engine that cannot say it.
        assert_eq!(
            top(&["PID", "COMMAND"], &[&["7", "airlock-sandbox"]]),
            ObservedProgram::Unknown
        );
    }
}

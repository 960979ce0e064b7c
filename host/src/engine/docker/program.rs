//! Which program runs in a container, checked from outside: the engine's `ps` reads it from the
//! kernel. Any program could say that it is ready; only this check shows that it is ours.

use std::time::Duration;

use bollard::errors::Error;
use bollard::models::ContainerTopResponse;
use bollard::query_parameters::TopOptionsBuilder;

use super::Docker;
use crate::engine::error::{EngineError, EngineStep, engine_message};

/// The arguments of `ps`. Docker needs `pid` to select the container's processes.
const ASKED: &str = "-eo pid,exe";
/// The errors of a `ps` without this column, and of an engine without a `ps`.
const NO_COLUMN: [&str; 3] =
    ["unknown user-defined format specifier", "bad -o argument", "executable file not found"];
/// How often the engine is asked before its error counts.
const TIMES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);

/// What the engine shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ObservedProgram {
    /// One process, and it is our program.
    Ours,
    /// Another program, or one that cannot be read, or several.
    Other(String),
    /// This engine cannot show it: it has no `ps`, or its `ps` has no column for it.
    Unknown,
}

/// Asks a few times, until there is an answer.
///
/// THREAT: the engine fails for a moment, by chance or because of a program of the image, and a
/// program that was not seen counts as ours. Tried by
/// flow::accents::an_engine_that_fails_to_say_which_program_runs_gets_no_handoff.
pub(super) async fn observe(
    docker: &Docker,
    id: &str,
    program: &str,
) -> Result<ObservedProgram, EngineError> {
    for _ in 1..TIMES {
        if let Ok(observed) = observe_once(docker, id, program).await {
            return Ok(observed);
        }
        tokio::time::sleep(PAUSE).await;
    }
    observe_once(docker, id, program).await.map_err(|why| EngineError::Failed {
        step: EngineStep::Ready,
        reason: format!("the engine does not say which program runs in the container: {why}"),
    })
}

/// Asks once.
///
/// # Errors
/// Why there was no answer; another attempt may succeed.
pub(super) async fn observe_once(
    docker: &Docker,
    id: &str,
    program: &str,
) -> Result<ObservedProgram, String> {
    let options = TopOptionsBuilder::new().ps_args(ASKED).build();
    match docker.client().top_processes(id, Some(options)).await {
        Ok(answer) => Ok(classify(&answer, program)),
        Err(Error::DockerResponseServerError { message, .. }) if has_no_column(&message) => {
            tracing::debug!(message, "the engine's ps does not say which program runs");
            Ok(ObservedProgram::Unknown)
        }
        Err(error) => Err(engine_message(&error)),
    }
}

fn has_no_column(message: &str) -> bool {
    NO_COLUMN.iter().any(|words| message.contains(words))
}

fn classify(answer: &ContainerTopResponse, program: &str) -> ObservedProgram {
    let titles = answer.titles.as_deref().unwrap_or_default();
    let Some(column) = titles.iter().position(|title| title.eq_ignore_ascii_case("exe")) else {
        return ObservedProgram::Unknown;
    };
    let rows = answer.processes.as_deref().unwrap_or_default();
    let programs: Vec<&str> =
        rows.iter().map(|row| row.get(column).map_or("", String::as_str)).collect();
    // THREAT: a program of the image runs as the first process, or beside ours with the same stdin,
    // and reads the handoff. Tried by
    // engine::docker::tests::another_program_that_says_ready_gets_no_handoff. A program whose first
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
    fn an_engine_without_the_column_is_not_an_engine_that_fails() {
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
            classify(&answer, "/.airlock-1/airlock-sandbox")
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
        // A program whose first thread has ended.
        assert_eq!(top(&["PID", "EXE"], &[&["7", "-"]]), other("-"));
        // An engine that cannot show it.
        assert_eq!(
            top(&["PID", "COMMAND"], &[&["7", "airlock-sandbox"]]),
            ObservedProgram::Unknown
        );
    }
}

//! Engines that are spoken to as Docker is, and show or say less: what could not be seen stands in the
//! record, and what is wrong is refused.

use airlock_host::engine::Waiver;
use airlock_tests::Rig;
use airlock_tests::backend::{answer, script};
use airlock_tests::engine::Engine;
use airlock_tests::proxy::Proxy;
use airlock_tests::rig::Ran;
use serde_json::json;

/// A word, and what stands for it.
type Word = (&'static str, &'static str);

const OWN_KERNEL: Word = (r#""Runtime":"runc""#, r#""Runtime":"kata""#);

/// A run on an engine that says the second of two words for the first.
async fn spoken(words: &[Word]) -> Ran {
    let proxy = Proxy::with_accent(&Engine::connect().await, words);
    let rig = Rig::new().variable("DOCKER_HOST", &proxy.docker_host());
    let ran = rig.model(script![answer("done")]).prompt("x").run().await;
    ran.assert_nothing_left_behind().await
}

#[tokio::test]
async fn what_an_engine_cannot_show_is_named_in_the_record() {
    let cases: [(&[Word], &[Waiver]); 3] = [
        (&[], &[]),
        (&[OWN_KERNEL], &[Waiver::ProgramOfOwnKernel]),
        // Its `ps` has no such column.
        (&[("pid%2Cexe", "pid%2Czzz")], &[Waiver::Program]),
    ];
    for (words, waivers) in cases {
        let ran = spoken(words).await.assert_finished("done");
        let expected = json!(waivers.iter().map(|waiver| waiver.as_str()).collect::<Vec<_>>());
        assert_eq!(ran.events_named("started")[0]["waivers"], expected, "{words:?}");
        assert_eq!(ran.record().await["waivers"], expected, "{words:?}");
    }
}

/// The control is the same accent without it, above.
#[tokio::test]
async fn a_kernel_of_its_own_excuses_no_capabilities() {
    let more = ("00000000000000c0", "000001ffffffffff");
    let ran = spoken(&[OWN_KERNEL, more]).await.assert_exit(6, "");
    assert_eq!(ran.backend.model_requests().len(), 0);
    assert_eq!(
        ran.outcome()["message"],
        "the sandbox cannot be made safe: the engine does not enforce what was asked of it: it has \
         other capabilities than were asked for"
    );
}

/// It asks for a column that the engine itself needs another beside: an error each time, and none that
/// says what its `ps` has.
#[tokio::test]
async fn an_engine_that_fails_to_say_which_program_runs_gets_no_handoff() {
    let ran = spoken(&[("pid%2Cexe", "exe%2Cexe")]).await.assert_exit(6, "");
    assert_eq!(ran.backend.model_requests().len(), 0);
    let message = ran.outcome()["message"].as_str().unwrap_or_default().to_owned();
    let expected = "the sandbox did not say that it is ready: the engine does not say which program \
                    runs in the container: ";
    assert!(message.starts_with(expected), "{message}");
}

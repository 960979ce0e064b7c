//! What the person's git configuration names is held, and the rest is applied.

use super::*;

#[tokio::test]
async fn what_git_runs_is_held() {
    let trial = ApplyFixture::new(&[
        ".git/HEAD = ref: refs/heads/main",
        ".git/config = [core]\nhooksPath = githooks\nfsmonitor = ./tools/fsm.sh\n[include]\npath = ../.gitconfig",
        ".git/hooks -> ../ghooks",
        ".gitconfig = [alias]\nup = \"!sh up.sh\"",
        "ghooks/x = x",
        "tools/fsm.sh = x",
        "tools/other.sh = x",
        "up.sh = x",
    ]);
    let stream = TarBytes::default()
        .file(".gitconfig", "agent")
        .file("ghooks/post-checkout", "agent")
        .folder("githooks")
        .file("githooks/pre-commit", "agent")
        .file("tools/fsm.sh", "agent")
        .file("tools/other.sh", "agent")
        .gone("up.sh");
    taken(&trial, stream).await;
    let applied = apply(&trial.session).unwrap();
    let held: Vec<_> =
        applied.held.iter().map(|it| (it.path.to_string(), it.held.clone().unwrap())).collect();
    let (linked, held): (Vec<_>, Vec<_>) =
        held.into_iter().partition(|(path, _)| path == "ghooks/post-checkout");
    // The link `.git/hooks` alone makes a hook of it.
    assert!(matches!(&linked[..], [(_, HeldReason::RunsByItself { .. })]), "{linked:?}");
    let named = [".gitconfig", "githooks/pre-commit", "tools/fsm.sh"];
    assert_eq!(held, named.map(|path| (path.to_owned(), HeldReason::NamedInGit)));
    let read = |path: &str| std::fs::read_to_string(trial.root.join(path)).ok();
    assert_eq!(read("tools/fsm.sh").as_deref(), Some("x"));
    assert_eq!(read("tools/other.sh").as_deref(), Some("agent"));
    assert_eq!(read("up.sh"), None);
}

/// The control: the same change where no configuration names it. And a link in the place of a
/// folder on the way to a program.
#[tokio::test]
async fn a_link_on_the_way_to_a_program_is_held() {
    let set_up = async |config: &str| {
        let config = format!(".git/config = {config}");
        let trial =
            ApplyFixture::new(&[".git/HEAD = x", &config, "tools/fsm.sh = x", "evil/fsm.sh = x"]);
        taken(&trial, TarBytes::default().link("tools", "evil")).await;
        let applied = apply(&trial.session).unwrap();
        applied.held.iter().map(|it| it.path.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(set_up("[core]\nfsmonitor = tools/fsm.sh").await, ["tools", "tools/fsm.sh"]);
    assert_eq!(set_up("[core]\nbare = false").await, [""; 0]);
}

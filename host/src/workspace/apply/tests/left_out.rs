//! What was left out of the copy and is in the changes all the same: held, and in the way of
//! nothing.

use super::*;

/// What was copied with `exclude = ["target"]`, and an agent that builds and writes `.env`.
async fn left_out(trial: &ApplyFixture, known: bool) {
    chmod(&trial.root.join("locked"), 0o000);
    let (_, copied, workspace) = trial.copy_with(&[".aws/config"], &["target"], 1 << 20).await;
    copied.unwrap();
    if !known {
        let base = trial.session.path().join("base.jsonl");
        let text = std::fs::read_to_string(&base).unwrap();
        let kept: Vec<_> = text.lines().filter(|line| !line.contains("left_out")).collect();
        std::fs::write(&base, kept.join("\n")).unwrap();
    }
    let stream = TarBytes::default()
        .file("src", "agent")
        .file(".env", "agent")
        .folder("target")
        .file("target/x", "agent")
        .file("target/debug/new", "agent")
        .file("d/.ENV", "agent")
        .file(".aws/config", "agent")
        .file(".aws/credentials", "agent")
        .file("conf", "now a file")
        .gone("gone");
    workspace.take_changes(crate::workspace::trial::body(stream.end())).await.unwrap();
}

const LEFT_OUT: [&str; 10] = [
    "src = person",
    ".env = person",
    "target/x = person",
    ".aws/config = person",
    ".aws/credentials = person",
    "conf/.env = person",
    "conf/x = person",
    "gone/id_rsa = person",
    "d/.env = person",
    "locked/",
];

#[tokio::test]
async fn what_was_left_out_is_held_and_the_rest_is_applied() {
    let trial = ApplyFixture::new(&LEFT_OUT);
    left_out(&trial, true).await;
    let applied = apply(&trial.session).unwrap();
    let held: Vec<_> = applied
        .held
        .iter()
        .map(|it| format!("{}: {}", it.path, it.held.clone().unwrap()))
        .collect();
    insta::assert_snapshot!(held.join("\n"), @r"
    .aws/credentials: your .aws was left out of the copy, because it looks like a secret
    .env: your .env was left out of the copy, because it looks like a secret
    conf: your conf/.env was left out of the copy, because it looks like a secret
    conf/x: its folder conf is held
    d/.ENV: on some systems it is the same file as d/.env
    target: your target was left out of the copy, because it was excluded
    target/debug: your target was left out of the copy, because it was excluded
    target/debug/new: your target was left out of the copy, because it was excluded
    target/x: your target was left out of the copy, because it was excluded
    ");
    let now = tree(&trial.root);
    let expected = [("src", "agent"), (".aws/config", "agent"), (".env", "person")];
    for (path, content) in expected {
        assert_eq!(now[path], format!("644 {content}"), "{path}");
    }
    for untouched in [".aws/credentials", "target/x", "conf/.env", "conf/x", "gone/id_rsa"] {
        assert_eq!(now[untouched], "644 person", "{untouched}");
    }
    assert!(!now.contains_key("target/debug") && !now.contains_key("d/.ENV"));
    assert!(matches!(apply(&trial.session), Err(ApplyError::AlreadyApplied)));

    // The control: were it not known what was left out, it would be in the way of everything.
    let trial = ApplyFixture::new(&LEFT_OUT);
    left_out(&trial, false).await;
    let expected = [".aws/credentials", ".env", "conf", "target/x"];
    let found: Vec<_> = conflicts(&trial).into_iter().map(|(path, _)| path).collect();
    assert_eq!(found, expected);
}

/// What an agent does to a tree of which something was left out; what is held then, and when.
async fn held(tree: &[&str], exclude: &[&str], stream: TarBytes) -> (Vec<String>, Vec<String>) {
    let trial = ApplyFixture::new(tree);
    let (_, copied, workspace) = trial.copy_with(&[], exclude, 1 << 20).await;
    copied.unwrap();
    workspace.take_changes(crate::workspace::trial::body(stream.end())).await.unwrap();
    let paths = |held: &[Change]| held.iter().map(|it| it.path.to_string()).collect();
    let set = crate::workspace::changes(&trial.session).unwrap().unwrap();
    let kept: Vec<_> = set.held().cloned().collect();
    (paths(&kept), paths(&apply(&trial.session).unwrap().held))
}

#[tokio::test]
async fn a_link_that_was_left_out_leads_where_it_leads() {
    let all = |path: &str| (vec![path.to_owned()], vec![path.to_owned()]);
    let at_last = |path: &str| (Vec::new(), vec![path.to_owned()]);
    let tasks = || TarBytes::default().file("config/tasks.json", "agent").file("other", "agent");
    let tree = [".vscode -> config", "config/tasks.json = person"];
    assert_eq!(held(&tree, &[".vscode"], tasks()).await, all("config/tasks.json"));
    // The control: without the link it is a file as any other.
    assert_eq!(held(&tree[1..], &[".vscode"], tasks()).await, (Vec::new(), Vec::new()));
    // In a folder that was left out as a whole, only the host knows of it.
    let tree = [".vscode/tasks.json -> ../config/tasks.json", "config/tasks.json = person"];
    assert_eq!(held(&tree, &[".vscode"], tasks()).await, at_last("config/tasks.json"));
    let hook = || TarBytes::default().file("tools/check", "agent");
    let tree = [".git/HEAD", ".git/hooks/pre-commit -> ../../tools/check", "tools/check = person"];
    assert_eq!(held(&tree, &[], hook()).await, at_last("tools/check"));
    let tree = [".git/HEAD", ".git/hooks -> ../tools", "tools/check = person"];
    assert_eq!(held(&tree, &[], hook()).await, all("tools/check"));
    assert_eq!(held(&tree[2..], &[], hook()).await, (Vec::new(), Vec::new()));
    // Through a link in a folder that was left out, and through one that is held.
    let way = || TarBytes::default().link("notes", "out/up/../x");
    let tree = ["out/up -> ../d", "d/"];
    assert_eq!(held(&tree, &["out"], way()).await, (Vec::new(), Vec::new()));
    let tree = ["out/up -> ..", "d/"];
    assert_eq!(held(&tree, &["out"], way()).await, at_last("notes"));
}

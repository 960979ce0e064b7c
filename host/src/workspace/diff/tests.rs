//! Changes shown and counted, and what takes too long.

use super::*;
use crate::workspace::trial::{ApplyFixture, TarBytes};

/// Time enough for what a test compares.
fn patient() -> CompareDeadline {
    let until = Instant::now() + Duration::from_secs(3600);
    CompareDeadline { until, hurry: CancellationToken::new() }
}

/// The same lines in another order: 4,000 of them differ, fewer if they are compared well.
fn shuffled() -> (String, String) {
    let line = |number: u32| format!("{number}\n");
    let old = (0..2000).map(line).collect();
    let new = (0..2000).map(|number| line(number * 773 % 2000)).collect();
    (old, new)
}

/// The control of the next one: a time that is over ends a comparison.
#[test]
fn a_comparison_ends_when_its_time_is_over() {
    let (old, new) = shuffled();
    let differ = |until| {
        let compared = compared(&old, &new, until);
        compared.iter_all_changes().filter(|it| it.tag() != ChangeTag::Equal).count()
    };
    let now = Instant::now();
    assert_eq!(differ(now - Duration::from_millis(1)), 3998);
    assert!(differ(now + Duration::from_secs(3600)) < 3990);
}

#[tokio::test]
async fn what_takes_too_long_to_compare_is_not_counted() {
    let (old, new) = shuffled();
    let trial = ApplyFixture::new(&["a = 1"]);
    std::fs::write(trial.root.join("b"), old).unwrap();
    trial.take(TarBytes::default().file("a", "2").file("b", &new).end()).await.unwrap();
    let texts = |effort: CompareDeadline| {
        let lines = stat(&trial.session, DiffView::Applied, &effort).unwrap();
        lines.iter().map(|line| line.text(4)).collect::<Vec<_>>()
    };
    assert!(texts(patient()).iter().all(|text| !text.contains("changed")));
    let spent = ["a | changed, 1 B", "b | changed, 8.8 kB"];
    assert_eq!(texts(CompareDeadline { until: Instant::now(), ..patient() }), spent);
    let hurried = patient();
    hurried.hurry.cancel();
    assert_eq!(texts(hurried), spent);
    // Shown they are all the same: whoever asks for the lines gets them.
    let mut text = Vec::new();
    diff(&trial.session, DiffView::Applied, &mut text).unwrap();
    assert!(String::from_utf8(text).unwrap().contains("+++ b/b"));
}

#[tokio::test]
async fn changes_are_shown_against_what_is_there() {
    let trial = ApplyFixture::new(&[
        "src/pad.js = a\nb\nc\nd\n",
        "run = x",
        "old = gone\n",
        "pic = \0",
        "d/",
    ]);
    let stream = TarBytes::default()
        .file("src/pad.js", "a\nB\nc\nd\ne\n")
        .entry(tar::EntryType::Regular, "tree/run", "", 0o755, b"x")
        .entry(tar::EntryType::Regular, "tree/tool", "", 0o755, b"#!\n")
        .gone("old")
        .gone("d")
        .file("pic", "\0\0")
        .file("empty", "")
        .link("l", "run")
        .file(".envrc", "x\n")
        .file(".git/hooks/post-checkout", "rm -rf ~\n");
    trial.take(stream.end()).await.unwrap();
    let mut text = Vec::new();
    diff(&trial.session, DiffView::Applied, &mut text).unwrap();
    insta::assert_snapshot!(String::from_utf8(text).unwrap(), @r"
    held .git: git would run it on your machine
    look at .envrc: direnv runs it once you allow it
    --- /dev/null
    +++ b/.envrc
    @@ -0,0 +1 @@
    +x
    folder d is removed
    new empty file empty
    link l -> run
    --- a/old
    +++ /dev/null
    @@ -1 +0,0 @@
    -gone
    binary pic: 1 -> 2 bytes
    mode of run: 0644 -> 0755
    --- a/src/pad.js
    +++ b/src/pad.js
    @@ -1,4 +1,5 @@
     a
    -b
    +B
     c
     d
    +e
    mode of tool: 0755
    --- /dev/null
    +++ b/tool
    @@ -0,0 +1 @@
    +#!
    ");
    let mut text = Vec::new();
    diff(&trial.session, DiffView::Held, &mut text).unwrap();
    insta::assert_snapshot!(String::from_utf8(text).unwrap(), @r"
    held .git: git would run it on your machine
    new folder .git
    held .git/hooks: git would run it on your machine
    new folder .git/hooks
    held .git/hooks/post-checkout: git would run it on your machine
    --- /dev/null
    +++ b/.git/hooks/post-checkout
    @@ -0,0 +1 @@
    +rm -rf ~
    ");
    let lines = stat(&trial.session, DiffView::Applied, &patient()).unwrap();
    let lines: Vec<_> = lines.iter().map(|line| line.text(20)).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    .envrc | 1 +
    d | gone
    empty | empty
    l | link
    old | 1 -
    pic | binary
    run | mode
    src/pad.js | 3 ++-
    tool | 1 +
    ");
}

//! Copies of secrets that editors and people leave, and a secret late in a long file.

use super::tests::left_out;

/// Copies of secrets are left out, and copies of ordinary files are not.
#[tokio::test]
async fn copies_of_secrets_are_judged_as_their_originals() {
    let names = [
        ".env~",
        "..env.swp",
        "#.env#",
        ".env.~1~",
        "id_rsa.1",
        "id_rsa.bak",
        ".id_rsa.swo",
        "a.key.orig",
        ".netrc.old",
        ".pgpass.save",
        "x.p12.bak.2",
        ".git-credentials copy",
        "prod.env.2024",
        "backup/.local/state/airlock/logins/default.json",
        "backup/airlock/logins/a.json.next",
    ];
    let files: Vec<_> = names.map(|path| (path, "x")).into();
    assert_eq!(left_out(&files).await, names);
    let token = "//registry.npmjs.org/:_authToken=npm_a8Ud03kdPq8s1mVb6Zx4Rt7Lw2Yc5Ne9Gh0J\n";
    let by_content = [(".npmrc.bak", token), (".npmrc~", "save-exact=true\n"), ("x.rs~", token)];
    assert_eq!(left_out(&by_content).await, [".npmrc.bak"]);
    let ordinary =
        ["main.rs~", ".main.rs.swp", "#notes#", "x.1", "~", "#", "##", ".bak", "1", ".~1~"];
    let ordinary: Vec<_> = ordinary.map(|path| (path, "x")).into();
    assert_eq!(left_out(&ordinary).await, [""; 0]);
}

/// A `.bashrc` may be longer than 64 KiB.
#[tokio::test]
async fn a_long_file_is_read_to_its_end() {
    let long = "alias a=b\n".repeat(7_000);
    let with = format!("{long}export GITHUB_TOKEN=ghp_16C7e42F292c6912E7710c838347Ae178B4a\n");
    assert_eq!(left_out(&[(".bashrc", &with), ("b/.bashrc", &long)]).await, [".bashrc"]);
}

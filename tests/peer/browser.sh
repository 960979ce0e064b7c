#!/bin/sh
# A real browser goes the browser's way: headless Chromium, steered by its driver, opens what
# `airlock setup codex-auth --browser` opens, presses the issuer's button, and ends on our page. Not
# part of the tests: it needs Debian's packages `chromium` and `chromium-driver`, curl and jq.
#
#     tests/peer/browser.sh
#
# The issuer is the scripted one; everything lies under target/peer, and all traffic is loopback's.
set -eu
cd "$(dirname "$0")/../.."
peer="$PWD/target/peer"
mkdir -p "$peer"
for program in chromium chromedriver curl jq; do
    command -v "$program" > /dev/null || {
        echo "no $program: apt-get install chromium chromium-driver curl jq"
        exit 1
    }
done
cargo build --quiet --locked -p airlock-tests --bin scripted-issuer
cargo build --quiet --locked -p airlock-host --bin airlock
target="${CARGO_TARGET_DIR:-$PWD/target}/debug"

rm -rf "$peer/chromium" "$peer/issuer.in"
home="$peer/chromium"
mkdir -p "$home"
mkfifo "$peer/issuer.in"
"$target/scripted-issuer" < "$peer/issuer.in" > "$peer/issuer.out" &
serving=$!
exec 9> "$peer/issuer.in"
chromedriver --port=9515 > "$peer/driver.out" 2>&1 &
driving=$!
signing_in=
end() {
    [ -z "$session" ] || curl -s -X DELETE "$driver/session/$session" > /dev/null || true
    [ -z "$signing_in" ] || kill "$signing_in" 2> /dev/null || true
    kill "$driving" 2> /dev/null || true
    exec 9>&-
    wait "$serving" || true
}
session=
driver=http://127.0.0.1:9515
trap end EXIT
until [ "$(wc -l < "$peer/issuer.out")" -ge 2 ]; do sleep 0.05; done
until curl -s "$driver/status" > /dev/null; do sleep 0.05; done
issuer=$(sed -n 's/^issuer  //p' "$peer/issuer.out")
backend=$(sed -n 's/^backend //p' "$peer/issuer.out")

failed=0
check() {
    what=$1
    shift
    if "$@"; then echo "ok      $what"; else echo "FAILED  $what"; failed=1; fi
}

# say PATH [JSON]: one command of WebDriver; its value.
say() {
    if [ $# = 2 ]; then
        curl -s -H 'content-type: application/json' -d "$2" "$driver$1"
    else
        curl -s "$driver$1"
    fi | jq -r '.value'
}
page() { say "/session/$session/url"; }
open() { say "/session/$session/url" "$(jq -n --arg url "$1" '{url: $url}')" > /dev/null; }
press() {
    element=$(say "/session/$session/element" '{"using":"css selector","value":"'"$1"'"}' | jq -r '.[]')
    say "/session/$session/element/$element/click" '{}' > /dev/null
}
arrived() { for _ in $(seq 200); do case "$(page)" in $1) return 0 ;; esac; sleep 0.05; done; return 1; }

session=$(curl -s -H 'content-type: application/json' "$driver/session" -d '{"capabilities":{"alwaysMatch":{
    "browserName":"chrome","goog:chromeOptions":{"args":["--headless=new","--no-sandbox",
    "--disable-gpu","--disable-background-networking","--user-data-dir='"$home/profile"'"]}}}}' |
    jq -r '.value.sessionId')
say "/session/$session/cookie" > /dev/null
chromium --version

# What the person's browser is told to open: written down by a program in its place, so that the
# driver can open it in the real one.
cat > "$home/opened" << 'OPENED'
#!/bin/sh
printf '%s\n' "$1" > "$HOME/start"
OPENED
chmod +x "$home/opened"
env -i PATH="$PATH" HOME="$home" XDG_STATE_HOME="$home/state" BROWSER="$home/opened" \
    "$target/airlock" setup codex-auth --browser --json --issuer "$issuer" --base-url "$backend" \
    > "$home/out" 2> "$home/err" < /dev/null &
signing_in=$!
until [ -s "$home/start" ]; do sleep 0.05; kill -0 "$signing_in"; done
start=$(cat "$home/start")
check "what is opened is a start page on loopback" sh -c "case '$start' in http://localhost:145[57]/start/*) ;; *) exit 1 ;; esac"
check "neither state nor challenge stand in its address" sh -c "! echo '$start' | grep -q '[?&]'"

open "$start"
check "Chromium is sent to the issuer's page" arrived "$issuer/oauth/authorize*"
# The second tab: the same browser may come again.
open "$start"
check "and a second time" arrived "$issuer/oauth/authorize*"
state=$(page | sed 's/.*[?&]state=\([^&]*\).*/\1/')
press '#allow'
check "it ends on a page of ours" arrived 'http://localhost:145[57]/done'
source=$(say "/session/$session/source")
title=$(say "/session/$session/title")
curl -s "$driver/session/$session/screenshot" | jq -r .value | base64 -d > "$peer/done.png"
wait "$signing_in" && code=0 || code=$?
signing_in=
echo "page    $(page)"
echo "title   $title"
say "/session/$session/execute/sync" '{"script":"return document.body.innerText","args":[]}' | sed 's/^/page    /'
sed "s/^/airlock /" "$home/out" "$home/err"
check "airlock is signed in" [ "$code" = 0 ]
check "the login is stored" [ "$(stat -c %a "$home/state/airlock/logins/default.json")" = 600 ]
check "the page holds no code, token or state" sh -c "! printf %s \"\$1\" | grep -qE 'ac_|eyJ|rt_|$state|<script'" sh "$source"
check "and says so once" [ "$(grep -c '"signed_in"' "$home/out")" = 1 ]
refresh=$(jq -r .refresh_token "$home/state/airlock/logins/default.json")
check "nothing of the login stands in the browser's profile" sh -c "! grep -rqF '$refresh' '$home/profile'"

curl -s -X DELETE "$driver/session/$session" > /dev/null
session=

# What a browser keeps on its disk: the page it ended on, and on the way to it an address whose code
# was good once.
history="$home/profile/Default/History"
check "the page stands in the browser's history" grep -aqE 'localhost:145[57]/done' "$history"
if grep -aqE 'callback\?[^ ]*code=' "$history"; then
    echo "note    the callback's address stands there too, with a code that has been used up"
fi
sed 's/^/issuer  /' "$peer/issuer.out"
check "one code was exchanged" [ "$(grep -c '^200 Exchange' "$peer/issuer.out")" = 1 ]
check "nothing to complain about" sh -c "! grep -q complaint '$peer/issuer.out'"
if [ "$failed" = 0 ]; then
    echo "ok: a real browser signed in"
else
    echo "FAILED"
    exit 1
fi

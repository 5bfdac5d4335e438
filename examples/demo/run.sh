#!/usr/bin/env bash
# The main job, shown with real containers, a real HAProxy and a real nginx: containers start, appear in DNS and behind
# both proxies, scale, fail, get replaced by a new version without one failed request, and go. Every step says what it saw.
#
#   make demo            stays up at the end, until Ctrl-C
#   make demo ONCE=1     cleans up at the end, and exits 0 only if every step held
#   make clean-demo      removes what a demo that was killed left behind
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/sbin:/sbin
ONCE=${ONCE:-}
unset CONSUL_HTTP_ADDR CONSUL_HTTP_TOKEN

# A short path: the socket of a Docker daemon of our own lies below it.
DIR=/tmp/flotilla-demo
DOCKERD=/tmp/flotilla-dockerd.demo
LABEL=flotilla-demo
BIN=target/debug   # where cargo puts the programs; asked for once they are built
PROGRAMS=()   # process ids of what this script has started
TIMELINE=()
BEGAN=${EPOCHREALTIME/[.,]/}
FAILED=''

# --- saying ----------------------------------------------------------------------------------------------------------

if [ -t 1 ]; then BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' GREEN=$'\e[32m' PLAIN=$'\e[0m'; else BOLD='' DIM='' RED='' GREEN='' PLAIN=''; fi

seconds() { local ms=$(((${EPOCHREALTIME/[.,]/} - BEGAN) / 1000)); printf '%d.%d' $((ms / 1000)) $((ms % 1000 / 100)); }
step() { STEP=$1; STEP_BEGAN=${EPOCHREALTIME/[.,]/}; printf '\n%s%s%s\n' "$BOLD" "$STEP" "$PLAIN"; }
saw() { printf '   %-9s %s\n' "$1" "$2"; }
shown() { printf '   %s$ %s%s\n' "$DIM" "${*/#"$BIN"\//}" "$PLAIN"; "$@"; }

held() {
    local ms=$(((${EPOCHREALTIME/[.,]/} - STEP_BEGAN) / 1000))
    TIMELINE+=("$(printf '%6ss  %-52s %sheld%s, %s' "$(seconds)" "$STEP" "$GREEN" "$PLAIN" "${1:-after $ms ms}")")
}
failed() {
    FAILED=1
    printf '   %s%s%s\n' "$RED" "$1" "$PLAIN"
    TIMELINE+=("$(printf '%6ss  %-52s %sFAILED%s: %s' "$(seconds)" "$STEP" "$RED" "$PLAIN" "$1")")
}

# --- starting and removing ---------------------------------------------------------------------------------------------

# The first port from $1 on that nobody listens on.
free_port() {
    local port=$1
    while [ -n "$(ss -H -l -n -t -u "sport = :$port")" ]; do port=$((port + 1)); done
    echo "$port"
}

# start NAME COMMAND...: runs it in the background, in a session of its own so that Ctrl-C reaches only this script.
start() {
    local name=$1
    shift
    setsid "$@" </dev/null >"$DIR/$name.log" 2>&1 &
    remember $! "$1"
    printf '   %s$ %s &%s\n' "$DIM" "${*/#"$BIN"\//}" "$PLAIN"
}
# Kept in a file too, so that what a killed demo left behind can be found: the process id and what it runs.
remember() { PROGRAMS+=("$1"); echo "$1 $2" >>"$DIR/programs"; }

# Waits until "$@" succeeds, 15 s at most.
until_ok() {
    local _
    for _ in {1..150}; do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.1
    done
    return 1
}

containers() { docker ps --all --quiet --no-trunc --filter "label=$LABEL"; }

clean() {
    trap '' INT TERM HUP
    local pid ids
    for pid in "${PROGRAMS[@]}"; do kill "$pid" 2>/dev/null || true; done
    if ids=$(containers 2>/dev/null) && [ -n "$ids" ]; then xargs docker rm --force --volumes <<<"$ids" >/dev/null || true; fi
    wait 2>/dev/null || true
    if [ -d "$DOCKERD" ]; then
        tests/dockerd.sh remove "$DOCKERD"
    elif [ -n "${MADE_IMAGE:-}" ]; then
        docker rmi flotilla-demo/hello-web >/dev/null 2>&1 || true
    fi
    rm -rf "$DIR"
}

end() {
    local code=$?
    [ "${#TIMELINE[@]}" = 0 ] || printf '\n%sTimeline%s\n%s\n' "$BOLD" "$PLAIN" "$(printf '%s\n' "${TIMELINE[@]}")"
    if [ "$code" != 0 ] || [ -n "$FAILED" ]; then
        local log
        for log in "$DIR"/*.log; do
            [ ! -s "$log" ] || { printf '\n--- the end of %s\n' "$log"; tail -n 15 "$log"; }
        done
        [ "$code" != 0 ] || code=1
    fi
    clean
    printf '\n%s\n' "All that the demo started is gone."
    exit "$code"
}

# --- looking ---------------------------------------------------------------------------------------------------------

# Four views of who serves `web`; each prints one word a line, sorted.
view_catalog() {
    # The port of the instance itself, which "Weights" follow, not those of its tagged addresses.
    curl --silent --fail --max-time 2 "$REGISTRY/v1/health/service/web?passing" |
        grep -oE '"Port": ?[0-9]+, ?"Weights"' | tr -dc '0-9\n' | sort -u
}
view_dns() { dig @127.0.0.1 -p "$DNS_PORT" +short +time=2 +tries=1 web.service.consul SRV | awk '{ print $3 }' | sort -u; }
view_proxy() {
    local _
    for ((_ = 0; _ < $2 * 3; _++)); do curl --silent --max-time 5 "$1" | awk '/^hello from/ { print $3 }'; done | sort -u
}

short() { local id; for id; do echo "${id:0:12}"; done | sort; }
ports() { local id; for id; do docker port "$id" 8080/tcp | sed -n '1s/.*://p'; done | sort; }
words() { tr '\n' ' ' <<<"$1"; }

# expect ID...: waits until the catalog, DNS and both proxies know exactly these containers, 15 s at most.
expect() {
    local want_ports want_ids catalog dns haproxy nginx deadline=$((SECONDS + 15)) ms
    want_ports=$(ports "$@") want_ids=$(short "$@")
    while :; do
        catalog=$(view_catalog || true) dns=$(view_dns || true)
        haproxy='' nginx=''
        if [ "$catalog" = "$want_ports" ] && [ "$dns" = "$want_ports" ]; then
            haproxy=$(view_proxy "$HAPROXY" $(($# + 1))) nginx=$(view_proxy "$NGINX" $(($# + 1)))
            [ "$haproxy" != "$want_ids" ] || [ "$nginx" != "$want_ids" ] || break
        fi
        if [ "$SECONDS" -ge "$deadline" ]; then
            failed "wanted ports $(words "$want_ports"), got catalog: $(words "$catalog") DNS: $(words "$dns") HAProxy: $(words "$haproxy") nginx: $(words "$nginx")"
            return
        fi
        sleep 0.05
    done
    ms=$(((${EPOCHREALTIME/[.,]/} - STEP_BEGAN) / 1000))
    saw catalog "web: $# passing${want_ports:+, on ports $(words "$want_ports")}"
    saw DNS "dig @127.0.0.1 -p $DNS_PORT web.service.consul SRV: $# in the answer"
    if [ $# -gt 0 ]; then
        saw HAProxy "$HAPROXY is answered by $(words "$haproxy")"
        saw nginx "$NGINX is answered by $(words "$nginx")"
    else
        saw proxies "nobody answers behind HAProxy and nginx"
    fi
    held "all agree on $# after $ms ms"
}

# run_web VERSION: starts a container and prints its id.
run_web() {
    docker run --detach --label "$LABEL" --publish 8080 --env "VERSION=$1" --env SERVICE_NAME=web \
        --env SERVICE_CHECK_HTTP=/health --env SERVICE_CHECK_INTERVAL=1s flotilla-demo/hello-web
}
ask_container() { curl --silent --max-time 5 --request POST "http://127.0.0.1:$(ports "$1")$2" >/dev/null; }

# --- the demo ----------------------------------------------------------------------------------------------------------

prepare() {
    step "Build, and install what is missing"
    tests/setup.sh
    shown cargo build --workspace --bins --locked
    BIN=$(cargo metadata --locked --offline --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/debug
    rm -rf "$DIR"
    mkdir -p "$DIR"/haproxy "$DIR"/nginx
    if docker version >/dev/null 2>&1; then
        saw Docker "the daemon that runs already"
    else
        tests/dockerd.sh start "$DOCKERD" $$
        export DOCKER_HOST=unix://$DOCKERD/docker.sock
        saw Docker "none ran; one of our own is at $DOCKER_HOST"
    fi
    MADE_IMAGE=1
    PREFIX=flotilla-demo PROGRAMS=$BIN examples/images/make.sh hello-web
    saw image "flotilla-demo/hello-web, FROM scratch, $(docker image inspect --format '{{.Size}}' flotilla-demo/hello-web) bytes"
    held
}

start_programs() {
    step "Start registry, registrar, two proxies and templaters"
    local port haproxy_port nginx_port
    port=$(free_port 8500) DNS_PORT=$(free_port 8600) haproxy_port=$(free_port 8080)
    nginx_port=$(free_port $((haproxy_port + 1)))
    REGISTRY=http://127.0.0.1:$port HAPROXY=http://127.0.0.1:$haproxy_port/ NGINX=http://127.0.0.1:$nginx_port/
    start kvstore "$BIN/kvstore" agent --dev --http-addr "127.0.0.1:$port" --dns-addr "127.0.0.1:$DNS_PORT"
    until_ok curl --silent --fail "$REGISTRY/v1/status/leader" || { failed "the registry does not answer"; return; }
    start registrar "$BIN/registrar" --registry "$REGISTRY" --ip 127.0.0.1 --state-dir "$DIR/registrar" \
        --docker "${DOCKER_HOST:-unix:///var/run/docker.sock}"

    cp examples/haproxy/haproxy.tmpl "$DIR/haproxy/"
    cp examples/nginx/nginx.tmpl "$DIR/nginx/"
    HTTP_PORT=$haproxy_port shown "$BIN/templater" --registry "$REGISTRY" --template "$DIR/haproxy/haproxy.tmpl" --once
    HTTP_PORT=$nginx_port shown "$BIN/templater" --registry "$REGISTRY" --template "$DIR/nginx/nginx.tmpl" --once
    start haproxy haproxy -W -f "$DIR/haproxy/haproxy.cfg"
    start nginx nginx -p "$DIR/nginx" -c "$DIR/nginx/nginx.conf" -e stderr -g 'daemon off;'
    until_ok curl --silent "$HAPROXY" || failed "HAProxy does not listen"
    until_ok curl --silent "$NGINX" || failed "nginx does not listen"
    HTTP_PORT=$haproxy_port start templater-haproxy "$BIN/templater" --registry "$REGISTRY" --template "$DIR/haproxy/haproxy.tmpl"
    HTTP_PORT=$nginx_port start templater-nginx "$BIN/templater" --registry "$REGISTRY" --template "$DIR/nginx/nginx.tmpl"
    expect
}

play() {
    local one two three new
    step "A container starts"
    printf '   %s$ %s%s\n' "$DIM" "docker run -d -p 8080 -e SERVICE_NAME=web -e SERVICE_CHECK_HTTP=/health flotilla-demo/hello-web" "$PLAIN"
    one=$(run_web v1)
    expect "$one"

    step "Scale to 3"
    two=$(run_web v1) three=$(run_web v1)
    expect "$one" "$two" "$three"
    shown dig @127.0.0.1 -p "$DNS_PORT" +noall +answer web.service.consul SRV | sed 's/^/   /'

    step "One dies (kill -9)"
    docker kill "$three" >/dev/null
    expect "$one" "$two"

    step "One turns unhealthy"
    ask_container "$two" /health/ill
    expect "$one"

    step "It recovers"
    ask_container "$two" /health/well
    expect "$one" "$two"

    step "A template is saved that nginx refuses"
    refuse

    step "v2 replaces v1 under load: the first v2 comes"
    "$BIN/load" "$HAPROXY" >"$DIR/load-haproxy.log" &
    local load_haproxy=$!
    "$BIN/load" "$NGINX" >"$DIR/load-nginx.log" &
    local load_nginx=$!
    remember "$load_haproxy" "$BIN/load"
    remember "$load_nginx" "$BIN/load"
    new=$(run_web v2)
    expect "$one" "$two" "$new"
    step "v2 replaces v1 under load: the first v1 goes"
    docker stop "$one" >/dev/null
    expect "$two" "$new"
    step "v2 replaces v1 under load: the second v2 comes"
    local newer
    newer=$(run_web v2)
    expect "$two" "$new" "$newer"
    step "v2 replaces v1 under load: the second v1 goes"
    docker stop "$two" >/dev/null
    expect "$new" "$newer"
    visitors HAProxy "$load_haproxy" "$DIR/load-haproxy.log"
    visitors nginx "$load_nginx" "$DIR/load-nginx.log"

    if [ -z "$ONCE" ]; then return; fi
    step "All go"
    docker rm --force "$new" "$newer" >/dev/null
    expect
}

# A broken template must not reach nginx, and a mended one must.
refuse() {
    local live=$DIR/nginx/nginx.conf before
    before=$(cat "$live")
    sed -i 's/proxy_connect_timeout 2s;/proxy_connect_timeout soon;/' "$DIR/nginx/nginx.tmpl"
    until_ok grep -q 'nginx refused' "$DIR/templater-nginx.log" || true
    local said
    said=$(grep -m 1 -o 'nginx refused.*' "$DIR/templater-nginx.log" || true)
    if [ -z "$said" ]; then
        failed "the templater said nothing of a refusal"
    elif [ "$(cat "$live")" != "$before" ] || [ -z "$(view_proxy "$NGINX" 1)" ]; then
        failed "the refused file went live"
    else
        saw templater "$said"
        saw nginx "goes on with the file that it had"
        held
    fi
    sed -i 's/proxy_connect_timeout soon;/proxy_connect_timeout 2s;/' "$DIR/nginx/nginx.tmpl"
}

# visitors NAME PID LOG: ends a load client and judges what it counted.
visitors() {
    local code=0
    kill "$2"
    wait "$2" || code=$?
    saw "$1" "$(tail -n 1 "$3")"
    STEP="v2 replaced v1: no visitor of $1 noticed"
    if [ "$code" = 0 ]; then held "$(tail -n 1 "$3")"; else failed "$(tail -n 1 "$3")"; fi
}

if [ "${1:-}" = clean ]; then
    while read -r pid program; do
        # The number may have gone to somebody else's program since.
        if tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "$program"; then PROGRAMS+=("$pid"); fi
    done < <(cat "$DIR/programs" 2>/dev/null || true)
    [ ! -d "$DOCKERD" ] || export DOCKER_HOST=unix://$DOCKERD/docker.sock
    MADE_IMAGE=1
    clean
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "demo: a Docker daemon of its own and nginx want root; try: sudo --preserve-env=PATH,HOME,ONCE make demo" >&2
    exit 1
fi
trap end EXIT
trap 'exit 130' INT TERM HUP
prepare
start_programs
[ -n "$FAILED" ] || play
if [ -n "$ONCE" ] || [ -n "$FAILED" ]; then exit; fi
printf '\n%sTimeline%s\n%s\n' "$BOLD" "$PLAIN" "$(printf '%s\n' "${TIMELINE[@]}")"
TIMELINE=()
cat <<END

It stays up until Ctrl-C. Look at
   the registry   $REGISTRY/v1/health/service/web
   HAProxy        $HAPROXY
   nginx          $NGINX
   DNS            dig @127.0.0.1 -p $DNS_PORT web.service.consul
   its files      $DIR
and start more yourself${DOCKER_HOST:+, with DOCKER_HOST=$DOCKER_HOST}:
   docker run -d --label $LABEL -p 8080 -e SERVICE_NAME=web -e VERSION=v3 flotilla-demo/hello-web
END
trap 'exit 0' INT TERM HUP
# Waiting for a child, unlike a child in the foreground, is interrupted by a signal.
sleep infinity &
remember $! sleep
wait $!

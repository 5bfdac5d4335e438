# What dockerd.sh and podman.sh have in common; they read it. A daemon keeps all that it has in a directory: its socket is
# docker.sock there, its process id is in pid, its last words are in log.

die() { echo "${0##*/}: $*" >&2; exit 1; }

# A zombie has ended too: where PID 1 does not collect them they stay for ever.
alive() { [ -r "/proc/$1/stat" ] && [ "$(sed 's/.*) //; s/ .*//' "/proc/$1/stat" 2>/dev/null || echo Z)" != Z ]; }

# The process id of the daemon of directory $1, if it runs; the command line tells it from a later owner of the number.
daemon() {
    local pid
    pid=$(cat "$1/pid" 2>/dev/null) && alive "$pid" && tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF -- "$1/docker.sock" && echo "$pid"
}

# Waits until the daemon $1 of directory $2, whose process is $3, answers.
wait_for_answer() {
    local name=$1 dir=$2 started=$3
    for _ in {1..300}; do
        if curl --silent --fail --max-time 2 --unix-socket "$dir/docker.sock" http://daemon/_ping >/dev/null; then return; fi
        alive "$started" || { tail -n 20 "$dir/log" >&2; die "$name ended; its last words are above"; }
        sleep 0.1
    done
    tail -n 20 "$dir/log" >&2
    die "$name did not answer within 30 s; its last words are above"
}

# Ends the daemon of directory $1 by the signal $2, or TERM.
halt() {
    local pid
    pid=$(daemon "$1") || return 0
    kill -s "${2:-TERM}" "$pid"
    for _ in {1..200}; do
        alive "$pid" || return 0
        sleep 0.05
    done
    kill -KILL "$pid"
}

# Removes what owners that are gone left behind in directories such as $1.
sweep() {
    local owner dir
    for owner in $1/owner; do
        [ -s "$owner" ] || continue
        dir=${owner%/owner}
        alive "$(cat "$owner")" || { echo "${0##*/}: removing $dir, whose owner is gone" >&2; remove "$dir"; }
    done
}

# Does what the arguments of the script say, in functions of that name.
run() {
    [ $# -ge 2 ] || die "usage: ${0##*/} start|halt|remove DIR; see the head of the file"
    case $1 in
        start | halt | remove) "$@" ;;
        *) die "start, halt or remove, not $1" ;;
    esac
}

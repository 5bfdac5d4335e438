#!/usr/bin/env bash
# Builds the image `flotilla/haproxy` out of this machine's own haproxy and the libraries it loads; nothing is pulled.
# It runs `haproxy -W -f /etc/haproxy/haproxy.cfg` as process 1, so `docker kill --signal HUP` reloads it. The Docker
# daemon is the one that DOCKER_HOST names.
#
#   tests/haproxy-image.sh [TAG]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tag=${1:-flotilla/haproxy:latest}

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
root=$context/root
mkdir -p "$root"/{etc/haproxy,run,tmp,var/lib/haproxy}
"$here/../examples/images/add.sh" "$root" haproxy
# For programs that run another one by a shell.
"$here/../examples/images/add.sh" "$root" sh
# A configuration may want to give up root for a user with a name.
echo 'haproxy:x:99:99::/:/' >"$root/etc/passwd"
echo 'haproxy:x:99:' >"$root/etc/group"

cat >"$context/Dockerfile" <<'END'
FROM scratch
COPY root /
ENV PATH=/bin
STOPSIGNAL SIGUSR1
ENTRYPOINT ["haproxy"]
CMD ["-W", "-f", "/etc/haproxy/haproxy.cfg"]
END
# The classic builder needs no plugin, and no base image to do so little.
DOCKER_BUILDKIT=0 docker build --quiet --tag "$tag" "$context" >/dev/null 2>"$context/log" ||
    { cat "$context/log" >&2; exit 1; }

#!/usr/bin/env bash
# Builds the image `flotilla/NAME` out of this machine's own haproxy or nginx and the libraries it loads; nothing is pulled.
# It runs the proxy as process 1 with its usual file, so `docker kill --signal HUP` reloads it. The Docker daemon is the one
# that DOCKER_HOST names.
#
#   tests/proxy-image.sh haproxy|nginx
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
name=$1

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
root=$context/root
mkdir -p "$root"/{etc/"$name",run,tmp,var/lib/"$name",var/log/"$name"}
"$here/../examples/images/add.sh" "$root" "$name"
# For programs that run another one by a shell.
"$here/../examples/images/add.sh" "$root" sh
# A configuration may want to give up root for a user with a name.
echo "$name:x:99:99::/:/" >"$root/etc/passwd"
echo "$name:x:99:" >"$root/etc/group"

case $name in
haproxy) stop=SIGUSR1 command='["-W", "-f", "/etc/haproxy/haproxy.cfg"]' ;;
nginx) stop=SIGQUIT command='["-e", "stderr", "-g", "daemon off;"]' ;;
esac
cat >"$context/Dockerfile" <<END
FROM scratch
COPY root /
ENV PATH=/bin
STOPSIGNAL $stop
ENTRYPOINT ["$name"]
CMD $command
END
# The classic builder needs no plugin, and no base image to do so little.
DOCKER_BUILDKIT=0 docker build --quiet --tag "flotilla/$name:latest" "$context" >/dev/null 2>"$context/log" ||
    { cat "$context/log" >&2; exit 1; }

#!/usr/bin/env bash
# Makes what is installed, in dist/: the programs themselves, static, and a Debian package of each, with their checksums.
# With IMAGES=1 also the images flotilla/NAME, in the Docker daemon that DOCKER_HOST names.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dist=$here/../dist
programs=(kvstore registrar templater overlay)

PROGRAMS=$("$here/static.sh")
export PROGRAMS
rm -rf "$dist"
mkdir "$dist"
for program in "${programs[@]}"; do strip --strip-debug -o "$dist/$program" "$PROGRAMS/$program"; done
"$here/packages/make.sh" "$dist" "$dist" "${programs[@]}"
(cd "$dist" && sha256sum -- * >SHA256SUMS)
if [ -n "${IMAGES:-}" ]; then "$here/images/make.sh" "${programs[@]}" overlay-nft; fi
ls -l "$dist"

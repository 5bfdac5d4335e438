#!/usr/bin/env bash
# Builds two images out of this machine's own programs, for containers that ask; nothing is pulled. The Docker daemon is
# the one that DOCKER_HOST names.
#
#   flotilla/caller        glibc with its resolver, and getent, dig, curl, sleep
#   flotilla/caller-musl   a program that asks by musl's resolver, linked to musl: `resolve NAME...`
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT

# Makes the image $2 of the root $1.
build() {
    mkdir -p "$1/etc" "$1/tmp"
    printf 'FROM scratch\nCOPY . /\nENV PATH=/bin\n' >"$context/Dockerfile.${1##*/}"
    # The classic builder needs no plugin, and no base image to do so little.
    DOCKER_BUILDKIT=0 docker build --quiet --tag "$2" --file "$context/Dockerfile.${1##*/}" "$1" >/dev/null \
        2>"$context/log" || { cat "$context/log" >&2; exit 1; }
}

glibc=$context/glibc
for program in getent dig curl sleep; do "$here/../examples/images/add.sh" "$glibc" "$program"; done
# Loaded by name when the first host is looked up; newer versions have it inside.
libc=$(ldd "$(command -v getent)" | grep -o '/[^ ]*libc\.so[^ ]*')
for module in libnss_dns.so.2 libnss_files.so.2; do
    [ ! -e "$(dirname "$libc")/$module" ] || cp --dereference "$(dirname "$libc")/$module" "$glibc$(dirname "$libc")/"
done
mkdir -p "$glibc/etc"
echo 'hosts: files dns' >"$glibc/etc/nsswitch.conf"
build "$glibc" flotilla/caller:latest

musl=$context/musl
mkdir -p "$musl/bin"
cat >"$context/resolve.c" <<'END'
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>

/* Prints the IPv4 addresses of each name, a line each; as getent, it ends with 2 if there is none. */
int main(int count, char **names) {
    for (int i = 1; i < count; i++) {
        struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found;
        int failed = getaddrinfo(names[i], NULL, &hints, &found);
        if (failed) {
            fprintf(stderr, "%s: %s\n", names[i], gai_strerror(failed));
            return 2;
        }
        for (; found; found = found->ai_next) {
            char text[INET_ADDRSTRLEN];
            struct sockaddr_in *address = (struct sockaddr_in *)found->ai_addr;
            puts(inet_ntop(AF_INET, &address->sin_addr, text, sizeof text));
        }
    }
    return 0;
}
END
musl-gcc -static -O1 -o "$musl/bin/resolve" "$context/resolve.c"
build "$musl" flotilla/caller-musl:latest

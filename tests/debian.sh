#!/usr/bin/env bash
# A small Debian of our own, as fresh as debootstrap makes it, with systemd as its first process: in namespaces of its own,
# so without a network, and with all that is written in memory. It runs until this script is told to end.
#
#   tests/debian.sh run DIR BASE    DIR/pid is the first process's id once it is there. BASE is a folder where the Debian is
#                                   kept from run to run; of the machine's own release, since our programs load its libraries
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

# Makes folder $1, from where this machine gets its packages.
make_base() {
    local codename mirror
    mkdir -p "$(dirname "$1")"
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    # "main" tells Debian's own archive from those that have one program each.
    mirror=$(apt-get indextargets --format '$(SITE) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' |
        sed -n "s/ $codename main\$//p" | head -n 1)
    rm -rf "$1.new"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,nftables "$codename" "$1.new" $mirror >"$1.log" 2>&1 ||
        { cat "$1.log" >&2; exit 1; }
    rm -rf "$1.log" "$1.new"/var/cache/apt/archives/*.deb "$1"
    mv "$1.new" "$1"
}

# Starts it, and waits for its end or for ours. In a namespace of its own for mounts.
supervise() {
    local dir=$1 base=$2
    # What the packages depend on is part of it.
    [ -x "$base/usr/sbin/nft" ] || make_base "$base"
    mkdir "$dir/cgroup" "$dir/inside"
    mount -t cgroup2 cgroup "$dir/cgroup"
    # Its processes are a group below whatever we are in.
    group=$dir/cgroup/flotilla-debian.$$
    mkdir "$group"
    trap end EXIT
    trap 'exit 0' TERM INT
    (
        echo "$BASHPID" >"$group/cgroup.procs"
        exec unshare --mount --pid --fork --kill-child --cgroup --net --uts --ipc "$0" become_init "$dir" "$base"
    ) &
    wait $!
}

# Removes the group, which has those of its services in it.
end() {
    local tries=100
    echo 1 >"$group/cgroup.kill"
    until grep -q 'populated 0' "$group/cgroup.events" || [ "$((tries--))" = 0 ]; do sleep 0.05; done
    find "$group" -depth -type d -exec rmdir {} +
}

# Lays memory over folder $2, and becomes the first process there.
become_init() {
    local dir=$1 root=$1/inside/root pid device
    # This /proc is still the outer one, and tells the number that we have there.
    read -r pid _ </proc/self/stat
    mount -t tmpfs -o mode=755 memory "$dir/inside"
    mkdir "$dir"/inside/{upper,work,root}
    mount -t overlay -o "lowerdir=$2,upperdir=$dir/inside/upper,workdir=$dir/inside/work" overlay "$root"
    mount -t proc proc "$root/proc"
    # What is set there would be set for the whole machine.
    mount -o bind,ro "$root/proc/sys" "$root/proc/sys"
    # But not what each network has of its own.
    mount --bind "$root/proc/sys/net" "$root/proc/sys/net"
    mount -o remount,bind,rw "$root/proc/sys/net"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t cgroup2 cgroup "$root/sys/fs/cgroup"
    mount -t tmpfs -o mode=755 run "$root/run"
    mount -t tmpfs -o mode=755 dev "$root/dev"
    mkdir "$root"/dev/{net,pts,shm}
    mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    for device in null zero full random urandom tty net/tun; do
        [ -e "/dev/$device" ] || continue
        touch "$root/dev/$device"
        mount --bind "/dev/$device" "$root/dev/$device"
    done
    ip link set lo up
    mkdir "$root/old"
    cd "$root"
    pivot_root . old
    echo "$pid" >"/old$dir/pid"
    umount --lazy /old
    export container=flotilla
    exec /lib/systemd/systemd --log-target=console </dev/null
}

case $1 in
run) exec unshare --mount "$0" supervise "${@:2}" ;;
supervise | become_init) "$@" ;;
esac

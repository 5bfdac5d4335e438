/* Linked into the static programs (static.sh): how glibc looks up names of hosts and users in them: in the system's files and
 * in DNS, and by nothing else. It would load a module for whatever else /etc/nsswitch.conf names (systemd's, mDNS...), and
 * with it a second glibc: where that is of another version, the program dies by a signal. */
#include <nss.h>

/* Before main, when no other thread can be looking anything up. */
__attribute__((constructor)) static void look_names_up_without_modules(void) {
    __nss_configure_lookup("hosts", "files dns");
    __nss_configure_lookup("passwd", "files");
    __nss_configure_lookup("group", "files");
}

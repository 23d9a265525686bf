#!/usr/bin/env bash
# Runs a command on a copy of this tree in a Debian 13 root, where the current stack fits, whatever the host:
#   .ci/debian13.sh make test
# Needs root privileges. The root is made once, in DEBIAN13_ROOT, and kept. The copy holds what git tracks or
# would track, and goes when the command ends; ../shared beside the checkout is there, read-only.
#   .ci/debian13.sh --bare DIR
# only makes a root in DIR, with no packages beyond the least: a base for the container image.
# Exit code: the command's; 77 where such a root cannot be had at all.
set -euo pipefail
cd "$(dirname "$0")/.."
root=${DEBIAN13_ROOT:-/var/cache/segmentation-pipeline/debian13}
export PATH=$PATH:/usr/sbin:/sbin # debootstrap, chroot

cannot() {
    echo "debian13: $*" >&2
    exit 77
}

# The host's own Debian mirror and proxy; nothing on another system, where debootstrap knows a mirror itself.
mirror() {
    # shellcheck disable=SC1091
    . /etc/os-release
    apt-get indextargets --format "\$(CREATED_BY) \$(RELEASE) \$(REPO_URI)" 2>/dev/null |
        awk -v release="${VERSION_CODENAME:-}" '$1 == "Packages" && $2 == release { print $3; exit }'
}

make_root() { # make_root PACKAGES
    command -v debootstrap >/dev/null ||
        { apt-get update && apt-get install -y debootstrap; } >/dev/null 2>&1 ||
        cannot "debootstrap is missing and apt-get cannot install it; install it by hand."
    mkdir -p "$(dirname "$root")"
    local building log=$root.log
    building=$(mktemp -d "$root.XXXXXX")
    echo "debian13: making $root, about a minute"
    eval "$(apt-config shell http_proxy Acquire::http::Proxy 2>/dev/null)"
    export http_proxy=${http_proxy:-}
    # In a mount namespace, so that nothing debootstrap mounts can stay behind.
    if ! unshare --mount debootstrap --variant=minbase \
        ${1:+--include="$1"} trixie "$building" $(mirror) >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        rm -rf "$building"
        echo "debian13: debootstrap failed; see $log, fix the problem and run this again." >&2
        exit 1
    fi
    rm -rf "$building"/var/cache/apt/archives/*.deb
    chmod 755 "$building"
    # Renamed when complete, so that a root that exists is a whole one. Somebody else may have been faster.
    mv -T "$building" "$root" 2>/dev/null || rm -rf "$building"
}

# Runs in namespaces of its own: the mounts and the processes end with it, whatever happens.
enter() {
    local root=$1 work=$2
    shift 2
    bind() { # bind SOURCE TARGET: makes a file or folder of the host visible in the root
        [ -e "$1" ] || return 0
        if [ -d "$1" ]; then mkdir -p "$root$2"; else mkdir -p "$(dirname "$root$2")" && touch "$root$2"; fi
        mount --rbind "$1" "$root$2"
    }
    local bundle=/etc/ssl/certs/ca-certificates.crt
    mount -t proc proc "$root/proc"
    bind /dev /dev
    bind "$work/tmp" /tmp
    bind /sys /sys
    bind /etc/hosts /etc/hosts
    bind /etc/resolv.conf /etc/resolv.conf
    bind "${SSL_CERT_FILE:-$bundle}" "$bundle"
    local file
    for file in /etc/pip.conf /etc/uv; do bind "$file" "$file"; done
    for file in .pip .config/pip .config/uv .m2/settings.xml; do bind "$HOME/$file" "/root/$file"; done
    # Java has certificates of its own. Not at their place, where its packages write when they are installed.
    local certificates=/etc/ssl/certs/java/cacerts java=/usr/local/share/java-cacerts
    bind "$certificates" "$java"
    if [ -d ../shared ]; then
        bind ../shared "${work#"$root"}/shared"
        mount -o remount,bind,ro "$work/shared"
    fi
    # What pip, uv and OpenBLAS were told outside; a path of the host would mean nothing in there.
    local pass=() name
    for name in ${!PIP_@} ${!UV_@} ${!OPENBLAS_@} CI TEST_ALL SECOND_STACK http_proxy https_proxy no_proxy \
        HTTP_PROXY HTTPS_PROXY NO_PROXY; do
        case ${!name-} in '' | /*) ;; *) pass+=("$name=${!name}") ;; esac
    done
    [ ! -e "$certificates" ] || pass+=("MAVEN_OPTS=-Djavax.net.ssl.trustStore=$java")
    env -i "${pass[@]}" HOME=/root LANG=C.UTF-8 PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        SSL_CERT_FILE="$bundle" PIP_CERT="$bundle" \
        chroot "$root" sh -c 'cd "$1" && shift && exec "$@"' sh "${work#"$root"}/main" "$@"
}
export -f enter

if [ $# = 0 ]; then
    echo "debian13: no command given; for example: .ci/debian13.sh make test" >&2
    exit 2
fi
[ "$(id -u)" = 0 ] || cannot "this needs root privileges; run it as root."
unshare --mount --pid --fork true 2>/dev/null || cannot "this machine does not allow mount namespaces."
if [ "$1" = --bare ]; then
    root=${2:-}
    if [ -z "$root" ] || [ -e "$root" ]; then
        echo "debian13: --bare takes a folder that does not exist yet, not '$root'." >&2
        exit 2
    fi
    make_root ""
    exit
fi
[ -d "$root" ] || make_root ca-certificates,g++,git,make,python3,python3-dev,python3-venv
# Only a call that was killed leaves its copy behind.
find "$root" -maxdepth 1 -name 'work.*' -mtime +0 -exec rm -rf {} +
work=$(mktemp -d "$root/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # a test or a program may give up root's rights
mkdir -m 1777 "$work/tmp"
mkdir "$work/main" "$work/shared"
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
    [ ! -e "$file" ] || printf '%s\0' "$file"
done | tar --null --files-from=- --create | tar --extract --directory "$work/main"
unshare --mount --pid --fork --kill-child bash -euo pipefail -c 'enter "$@"' enter "$root" "$work" "$@"

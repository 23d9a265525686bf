#!/bin/sh
# Makes .venv with exactly the locked packages of the stack that fits this machine (docs/how_to/set_up.md).
#   sh requirements/setup.sh           makes .venv, or keeps it when it is complete and still right
#   sh requirements/setup.sh --which   only says which stack and which interpreter that would be
# PYTHON=/path/to/python3.X names the interpreter to use.
set -eu
cd "$(dirname "$0")/.."

fail() {
    echo "setup: $*" >&2
    exit 1
}

# "3.12" or nothing. Really runs the interpreter, because a pyenv shim may exist and fail. A virtual
# environment does not count: .venv itself may be first on PATH, and goes away when it is made anew.
version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2] if sys.prefix == sys.base_prefix else "")' \
        2>/dev/null || true
}

# The first interpreter of version $1 that runs.
find_python() {
    pyenv_root=${PYENV_ROOT:-$(pyenv root 2>/dev/null || echo "$HOME/.pyenv")}
    {
        echo "$PATH" | tr ':' '\n'
        printf '%s\n' "$pyenv_root/versions/$1".*/bin "$HOME/.local/share/uv/python/cpython-$1".*/bin
        # A variable only so that the tests can point it at a folder of their own.
        for prefix in ${PYTHON_PREFIXES-/usr/local /opt/homebrew}; do echo "$prefix/bin"; done
    } | while read -r folder; do
        if [ "$(version_of "$folder/python$1")" = "$1" ]; then
            echo "$folder/python$1"
            break
        fi
    done
}

# Sets machine (in words) and wanted (the Python versions that have a stack here, best first).
look_at_machine() {
    machine="$(uname -s) $(uname -m)"
    wanted=
    case $machine in
    "Darwin arm64") wanted="3.13 3.12 3.11" ;;
    "Linux x86_64")
        glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | sed 's/^glibc //')
        machine="$machine, ${glibc:+glibc }${glibc:-no glibc}"
        case $glibc in
        2.39* | 2.[4-9][0-9]*) wanted="3.13 3.12 3.11 3.10" ;;
        2.*) wanted="3.10" ;;
        esac
        ;;
    esac
    [ -n "$wanted" ] || fail "TFX has no packages for this machine ($machine): use Linux on x86_64 with glibc," \
        "or macOS on arm64."
}

# The versions in words.
listed() { echo "Python $(echo "$wanted" | sed 's/ / or /g')"; }

# Sets python and version.
choose_python() {
    if [ -n "${PYTHON:-}" ]; then
        python=$(command -v "$PYTHON") || fail "PYTHON=$PYTHON does not exist: name an interpreter that does."
        version=$(version_of "$python")
        [ -n "$version" ] || fail "PYTHON=$PYTHON does not run, or belongs to a virtual environment: name another."
        case " $wanted " in
        *" $version "*) return ;;
        *) fail "PYTHON=$PYTHON is Python $version, but this machine ($machine) needs $(listed)." ;;
        esac
    fi
    for version in $wanted; do
        python=$(find_python "$version")
        [ -z "$python" ] || return 0
    done
    found=
    for version in 3.8 3.9 3.10 3.11 3.12 3.13 3.14; do
        [ -z "$(find_python "$version")" ] || found="$found $version"
    done
    fail "no suitable Python: this machine ($machine) needs $(listed), but found${found:- none};" \
        "install one, for example with \"pyenv install ${wanted%% *}\", or name one with PYTHON=/path/to/python${wanted%% *}."
}

# uv does not read pip's settings, and on a machine with only Python those are the ones that exist.
take_over_pip_settings() {
    # Not `pip config get`, which misses /etc/pip.conf in some versions.
    setting() { .venv/bin/python -m pip config list | sed -n "s/^global\.$1='\(.*\)'\$/\1/p"; }
    certificates=${SSL_CERT_FILE:-${PIP_CERT:-$(setting cert)}}
    [ -z "$certificates" ] || export SSL_CERT_FILE="$certificates"
    index=${UV_DEFAULT_INDEX:-${PIP_INDEX_URL:-$(setting index-url)}}
    [ -z "$index" ] || export UV_DEFAULT_INDEX="$index"
}

install() {
    lacking=$("$python" requirements/check_build.py)
    [ -z "$lacking" ] || fail "$python lacks $lacking: install that (macOS: xcode-select --install), then run this again."
    echo "setup: $stack stack with $python, $(grep -c '==' "$lock") packages into .venv: a minute or two"
    # From nothing, never on top: what an interrupted or older install left behind is in nobody's lock.
    # The lock also pins what source packages are built with.
    rm -rf .venv &&
        "$python" -m venv .venv &&
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
            -r requirements/uv.txt &&
        take_over_pip_settings &&
        .venv/bin/uv pip sync --quiet --python .venv/bin/python --require-hashes \
            --build-constraints "$lock" "$lock" ||
        fail "installing $lock failed; see the output above. Run the command again to start from scratch."
}

look_at_machine
choose_python
stack=current
[ "$version" != 3.10 ] || stack=compatible
if [ "${1:-}" = --which ]; then
    echo "$stack $python"
    exit
fi

# LOCK names another lock of the same stack: that of the container image.
lock=${LOCK:-requirements/$stack.txt}
complete=.venv/complete
# cksum, because every POSIX machine has it; the file is written last, so half an install has none.
key="$stack $python $(cat "$lock" requirements/uv.txt | cksum)"
if [ "$(cat "$complete" 2>/dev/null)" != "$key" ]; then
    install
    echo "$key" >"$complete"
    echo "setup: .venv is ready"
fi

#!/bin/sh
# Prepares a machine: `tools/setup.sh build` gets what compiling needs, `demo` and `test` also what those need: Debian packages, and in
# .deps a Python environment and the HTTP parser. Whatever is there already is left alone, so a second run takes a blink.
set -eu

build_packages="meson ninja-build pkgconf gcc libc6-dev libjansson-dev libpcre2-dev libutf8proc-dev libzip-dev libevent-dev libssl-dev
    libcmocka-dev python3-venv"
demo_packages="curl"
test_packages="$demo_packages clang clang-format libclang-rt-14-dev valgrind"

usage() {
    echo "usage: tools/setup.sh build|demo|test" >&2
    exit 2
}

# Installs those of the named packages that are missing.
install_packages() {
    missing=
    for package in "$@"; do
        status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$status" = installed ] || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        as_root=sudo
        if ! command -v sudo >/dev/null; then
            echo "These system packages are missing:$missing" >&2
            echo "Install them as root: apt-get install --no-install-recommends$missing" >&2
            exit 1
        fi
        sudo -v # asks for the password here, where the question can be seen
    fi
    tools/step.sh apt-update "updating the list of system packages" \
        $as_root apt-get -o DPkg::Lock::Timeout=600 update
    tools/step.sh apt-install "installing system packages:$missing" \
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends $missing
}

# A private Python in .deps/venv. Debian's python3 is tried before one that PATH finds first (pyenv, conda): its version is known, and
# the other may lack what venv needs.
create_venv() {
    .deps/venv/bin/python3 -c 'import pip' 2>/dev/null && return 0
    mkdir -p .deps
    for python in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        rm -rf .deps/venv
        if tools/step.sh venv "creating a Python environment in .deps/venv" "$python" -m venv .deps/venv; then return 0; fi
    done
    echo "No Python 3.11 or later with a working venv module was found (Debian: python3-venv)." >&2
    exit 1
}

install_requirements() {
    cmp -s tests/requirements.txt .deps/venv/requirements.installed && return 0
    tools/step.sh pip "installing Python test packages" \
        .deps/venv/bin/python3 -m pip install --disable-pip-version-check --no-deps --requirement tests/requirements.txt
    cp tests/requirements.txt .deps/venv/requirements.installed
}

cd "$(dirname "$0")/.."
[ $# -eq 1 ] || usage
case $1 in
build) packages=$build_packages ;;
demo) packages="$build_packages $demo_packages" ;;
test) packages="$build_packages $test_packages" ;;
*) usage ;;
esac

# Elsewhere than on Debian the libraries are the user's to install; meson names what is missing.
if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then install_packages $packages; fi
create_venv
PYTHON=.deps/venv/bin/python3 tools/fetch_llhttp.sh
if [ "$1" = test ]; then install_requirements; fi

#!/bin/sh
# The project's own Python environment in .venv, made from the lock files, every package checked by its hash.
#
#   bin/env.sh         what bin/mesh needs
#   bin/env.sh dev     the test tools as well
#   bin/env.sh gateway the real LiteLLM for tests/gateway, in an environment of its own that clones share; prints where its command is
#   bin/env.sh lock    write the lock files anew from pyproject.toml (needs the network)
#
# A copy of the lock file inside .venv says that it is complete. A run that was killed leaves none, and the next one starts over.
set -eu
cd "$(dirname "$0")/.."
say() { printf '%s\n' "$*" >&2; }
die() { say "bin/env.sh: $*" && exit 1; }

works() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
find_python() {
    for python in python3 python3.13 python3.12 python3.11; do
        if works "$python"; then return 0; fi
    done
    return 1
}
can_make_venv() { "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; }
install_packages() { # install_packages WHAT PACKAGE...: as root on Debian and Ubuntu; otherwise say what to do
    what=$1 && shift
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        die "$what is missing. On Debian and Ubuntu: sudo apt-get install $*"
    fi
    say "$what is missing: installing $* (about 20 s)"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } >/dev/null ||
        die "apt-get could not install $*; its own words are above"
}

progress() { # progress FOLDER TOTAL: reads pip's lines; says how far it is: one line on a terminal, one in ten elsewhere
    total=$2 count=0
    while IFS= read -r line; do
        printf '%s\n' "$line" >>"$1/pip.log"
        case "$line" in
        Collecting* | Processing*) count=$((count + 1)) ;;
        Installing*) if [ -t 2 ]; then printf '\r' >&2; fi && say "  unpacking $count packages" && continue ;;
        *) continue ;;
        esac
        if [ -t 2 ]; then printf '\r  %s of %s packages' "$count" "$total" >&2
        elif [ $((count % 10)) -eq 0 ]; then say "  $count of $total packages"; fi
    done
}

make_environment() { # make_environment LOCKFILE FOLDER
    lockfile=$1 venv=$2
    find_python || { install_packages "Python 3.11 or newer" python3 python3-venv && find_python; } ||
        die "no Python 3.11 or newer here (Debian 12, Ubuntu 24.04 and later have one; Ubuntu 22.04: python3.11 and python3.11-venv)"
    can_make_venv || install_packages "the venv module of $python" "$(
        "$python" -c 'import sys; print(f"python{sys.version_info[0]}.{sys.version_info[1]}-venv")'
    )"
    total=$(grep -c '==' "$lockfile" || :)
    say "Setting up the Python environment in $venv: up to $total packages, about a minute the first time"
    started=$(date +%s)
    "$python" -m venv --clear "$venv" || die "$venv could not be made; is the disk full, or the folder not yours?"
    { PIP_USER=0 "$venv/bin/python" -m pip install --require-hashes --only-binary :all: --no-input --disable-pip-version-check \
        --progress-bar off -r "$lockfile" 2>&1 || touch "$venv/failed"; } | progress "$venv" "$total"
    if [ -e "$venv/failed" ]; then
        say "" && grep -i -A3 '^error' "$venv/pip.log" >&2 || tail -5 "$venv/pip.log" >&2
        die "pip could not install from $lockfile; all it said is in $venv/pip.log. Is the network up, is pip's index reachable?"
    fi
    say "  done after $(($(date +%s) - started)) s"
}

make_own() { # make_own LOCKFILE: .venv
    make_environment "$1" .venv
    # The project itself, relative: the clone may be moved.
    printf '../../../..\n' >"$(echo .venv/lib/python3.*/site-packages)/homelab-mesh.pth"
    if [ "$1" = requirements-dev.lock ]; then cp requirements-dev.lock .venv/requirements-dev.lock; fi
    pwd >.venv/made-in
    cp requirements.lock .venv/requirements.lock.new && mv .venv/requirements.lock.new .venv/requirements.lock
}

make_gateway() {
    lock=tests/lab/images/litellm/requirements.lock
    folder=${XDG_CACHE_HOME:-$HOME/.cache}/homelab-mesh/litellm
    mkdir -p "${folder%/*}"
    if command -v flock >/dev/null; then exec 8>"$folder.lock" && flock 8; fi
    if ! [ -x "$folder/bin/litellm" ] || ! cmp -s "$lock" "$folder/requirements.lock"; then
        make_environment "$lock" "$folder" && cp "$lock" "$folder/requirements.lock"
    fi
    printf '%s\n' "$folder/bin/litellm"
}

write_locks() {
    find_python || die "no Python 3.11 or newer here"
    tools=$(mktemp -d)
    trap 'rm -rf "$tools"' EXIT
    "$python" -m venv "$tools" && "$tools/bin/pip" install --quiet --disable-pip-version-check uv
    lock() { # lock FILE ARGUMENT...: uv starts from the versions that the file holds, and moves only what has to move
        file=$1 && shift
        "$tools/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
            --no-emit-find-links --no-annotate --output-file "$file" "$@" pyproject.toml
    }
    lock requirements.lock && lock requirements-dev.lock --extra dev --constraint requirements.lock
    say "requirements.lock and requirements-dev.lock are written"
}

fresh() { # fresh base|dev: whether .venv is complete, as locked, and still where it was made
    [ -x .venv/bin/python ] && cmp -s requirements.lock .venv/requirements.lock || return 1
    [ "$1" = base ] || { cmp -s requirements-dev.lock .venv/requirements-dev.lock && [ "$(cat .venv/made-in)" = "$(pwd)" ]; }
}

level=${1:-base}
case "$level" in
base | dev) ;;
lock) write_locks && exit 0 ;;
gateway) make_gateway && exit 0 ;;
*) die "unknown argument '$level' (base, dev, gateway, lock)" ;;
esac
if fresh "$level"; then exit 0; fi
if [ "$level" = base ] && [ -e .venv/requirements-dev.lock ]; then level=dev; fi # keep the test tools over a changed lock
mkdir -p .cache
if command -v flock >/dev/null; then
    exec 9>.cache/env.lock
    flock -n 9 || { say "Another run is setting up .venv: waiting for it" && flock 9; }
fi
if fresh "$level"; then exit 0; fi
if [ "$level" = dev ]; then make_own requirements-dev.lock; else make_own requirements.lock; fi

"""The POSIX sh script of the second look at a host. It only reads, and values of secrets do not leave the host.

It goes to `sh -s` on stdin like `mesh.state.script`, whose form its output has; `mesh.plan.looked` reads it.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from mesh.plan.textdiff import LARGEST


@dataclass(frozen=True, slots=True)
class Ask:
    """What to look at.

    texts: paths of files to fetch, never of one under secrets/. secrets: paths of files with secrets: a keyed hash of each of
    their variables is told, with its name where that is among `names`. containers: names, for their mounts.
    """

    texts: Collection[str] = ()
    secrets: Collection[str] = ()
    names: Collection[str] = ()
    containers: Collection[str] = ()


def look_script(ask: Ask, *, docker: str, boundary: str, nonce: str) -> str:
    """boundary, nonce: unpredictable words, new for each run. docker: the host's docker command."""
    for path in ask.texts:
        if "/secrets/" in path:
            raise ValueError(f"{path} holds secrets: it is not fetched")
    settings = {
        "b": boundary,
        "nonce": nonce,
        "docker": docker,
        "limit": str(LARGEST),
        "names": f" {' '.join(sorted(ask.names))} ",
        "mounts": '{"name":{{json .Name}},"mounts":{{json .Mounts}}}',
        "volumes": '{"name":{{json .Name}},"driver":{{json .Driver}},"options":{{json .Options}}'
        ',"project":{{json (index .Labels "com.docker.compose.project")}}}',
    }
    head = "\n".join(f"{name}={shlex.quote(value)}" for name, value in settings.items())
    body = _BODY
    for name, words in {"texts": ask.texts, "secrets": ask.secrets, "containers": ask.containers}.items():
        body = body.replace(f"@{name}@", _words(words))
    return f"{head}\n{body}"


def _words(values: Iterable[str]) -> str:
    return " ".join(shlex.quote(value) for value in sorted(values))


# printf is a builtin of every sh, so what it is given is on no command line. A link is never followed: it could lead to
# any file of root's. A name that the laptop did not send is not printed: in a value of several lines it may be a piece of it.
_BODY = r"""
LC_ALL=C
PATH=$PATH:/usr/local/bin:/usr/local/sbin:/usr/sbin:/sbin
export LC_ALL PATH

say() { printf '\n%s %s\n' "$b" "$*"; }

hex() { printf '%s' "$1" | od -An -v -tx1 | tr -d ' \n'; }

text() { # FILE
    if [ -h "$1" ]; then
        say link "$(hex "$1")"
        return
    fi
    [ -f "$1" ] && [ -r "$1" ] || return 0
    size=$(($(wc -c <"$1")))
    say file "$size $(hex "$1")"
    if [ "$size" -gt "$limit" ]; then echo large; else head -c "$limit" "$1" | base64; fi
}

flush() {
    [ -n "$chunk" ] || return 0
    case $names in
    *" $name "*) ;;
    *) name=- ;;
    esac
    printf '%s %s\n' "$name" "$(printf '%s%s' "$nonce" "$chunk" | sha256sum)"
}

assigned() { # FILE of NAME='value' lines
    [ -f "$1" ] && ! [ -h "$1" ] && [ -r "$1" ] || return 0
    say variables "$(hex "$1")"
    name=- chunk=
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
        [A-Za-z_]*=\'*)
            candidate=${line%%=*}
            case $candidate in
            *[!A-Za-z0-9_]*) ;;
            *)
                flush
                name=$candidate chunk=
                ;;
            esac
            ;;
        esac
        chunk="$chunk$line
"
    done <"$1"
    flush
}

look() {
    exec </dev/null
    for file in @texts@; do text "$file"; done
    for file in @secrets@; do assigned "$file"; done
    say platform
    $docker version --format '{{.Server.Os}}/{{.Server.Arch}}' 2>/dev/null
    set -- @containers@
    if [ $# -gt 0 ]; then
        say mounts
        $docker inspect --type container --format "$mounts" "$@" 2>/dev/null
    fi
    set -- $($docker volume ls -q 2>/dev/null)
    if [ $# -gt 0 ]; then
        say volumes
        $docker volume inspect --format "$volumes" "$@" 2>/dev/null
    fi
    say end
}

look
"""

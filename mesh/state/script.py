"""The POSIX sh script that observes a host in one round trip. It only reads.

It needs sh, docker, ls, sha256sum, od and tr (all of them in BusyBox) and goes to `sh -s` on stdin, so that nothing of it
is on a command line. `mesh.state.parse` reads what it prints:

    <boundary> <section> [argument]
    ...lines of the section...

The boundary is random and chosen for each run, so no file, label or banner can forge a section; whatever a login shell
prints before the first one is ignored, and a missing `end` section means that the output was cut short.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from mesh.state.cards import QUERY
from mesh.state.deployment import HostDeployment

SAFE = "A-Za-z0-9._/@:+,=~%-"
"""File names of these characters only are listed in bulk. Every other name is listed alone, in hexadecimal."""


_NOT_NVIDIA = "rx-"
"""Cards of AMD: there is no nvidia-smi to ask."""


def observe_script(host: HostDeployment, *, mesh: str, docker: str, boundary: str) -> str:
    """The script for one host. `boundary` is any unpredictable word; `docker` is the host's docker command."""
    stacks = [stack.name for stack in host.stacks]
    files = [file.path for stack in host.stacks for file in stack.files]
    listed = {f"{host.root}/stacks/{stack}" for stack in stacks}
    folders = [folder for folder in dict.fromkeys(path.rpartition("/")[0] for path in files) if folder not in listed]
    images = sorted({service.image for stack in host.stacks for service in stack.services})
    settings = {
        "b": boundary,
        "root": host.root,
        "docker": docker,
        "safe": SAFE,
        "containers": _containers_template(mesh, stacks),
        "cards": "yes" if any(not card.name.startswith(_NOT_NVIDIA) for card in host.cards) else "",
        "images": '{"id":{{json .ID}},"tags":{{json .RepoTags}},"digests":{{json .RepoDigests}}}',
    }
    head = "\n".join(f"{name}={shlex.quote(value)}" for name, value in settings.items())
    boxes = [ollama.container for ollama in host.ollamas if ollama.on_cards]
    lists = {"folders": folders, "files": files, "refs": images, "boxes": boxes, "query": QUERY.split()}
    body = _BODY
    for name, words in lists.items():
        body = body.replace(f"@{name}@", _words(words))
    return f"{head}\n{body}"


def _words(values: Iterable[str]) -> str:
    return " ".join(shlex.quote(value) for value in values)


def _containers_template(mesh: str, stacks: Iterable[str]) -> str:
    """Go template for `docker inspect`: one JSON object a line; environment and labels of our own containers only."""
    ours = " ".join([f'(eq (index $l "mesh.name") "{mesh}")', *(f'(eq $p "{stack}")' for stack in stacks)])
    return (
        '{{$l := .Config.Labels}}{{$p := index $l "com.docker.compose.project"}}'
        '{"id":{{json .ID}},"name":{{json .Name}},"project":{{json $p}}'
        ',"service":{{json (index $l "com.docker.compose.service")}}'
        ',"image":{{json .Config.Image}},"state":{{json .State.Status}}'
        ',"image_id":{{json .Image}}'
        f"{{{{if or {ours} false}}}}"
        ',"labels":{{json $l}},"env":{{json .Config.Env}}'
        ',"health":{{with .State.Health}}{{json .Status}}{{else}}""{{end}}'
        "{{end}}}"
    )


# Everything is in one function that is called on the last line: a script cut short does nothing, and no command can eat
# the rest of the script from stdin. A container that goes away between `ps` and `inspect` is an error of inspect: ask again.
# An image by digest that `ps` lists for a container is there, and is what the container was made from: it is not looked up
# (`ps` shows the image's id in place of a reference that has become another image's, or nobody's).
# Compose is only run where its plugin is in none of the usual places, because it is slow to start.
_BODY = r"""
LC_ALL=C
PATH=$PATH:/usr/local/bin:/usr/local/sbin:/usr/sbin:/sbin
export LC_ALL PATH

say() { printf '\n%s %s\n' "$b" "$*"; }

hex() { printf '%s' "$1" | od -An -v -tx1 | tr -d ' \n'; }

odd() { # a file whose name is not safe to print: its attributes, the hexadecimal name, its hash
    say odd "$(hex "$1")"
    ls -ldn -- "$1" | head -n 1
    if [ "$2" = hash ]; then sha256sum <"$1"; fi
}

observe_docker() {
    tries=0
    while :; do
        listed=$($docker ps -a --no-trunc --format '{{.ID}}@{{.Image}}' 2>&1) || {
            say failed $?
            printf '%s' "$listed"
            return
        }
        ids= held=
        for word in $listed; do
            case $word in *@*) ids="$ids ${word%%@*}" held="$held ${word#*@}" ;; esac
        done
        say containers
        [ -n "$ids" ] || break
        $docker inspect --type container --format "$containers" $ids 2>/dev/null && break
        tries=$((tries + 1))
        if [ $tries -ge 4 ]; then
            say failed 1
            $docker inspect --type container --format "$containers" $ids 2>&1 >/dev/null
            return
        fi
    done
    set --
    for ref in @refs@; do
        case $ref in
        *@sha256:*) case "$held " in *" $ref "*) say held "$ref" && continue ;; esac ;;
        esac
        set -- "$@" "$ref"
    done
    if [ $# -gt 0 ]; then
        say images
        $docker image inspect --format "$images" "$@" 2>/dev/null
    fi
    for dir in ~/.docker /usr/local/lib/docker /usr/local/libexec/docker /usr/lib/docker /usr/libexec/docker; do
        if [ -x "$dir/cli-plugins/docker-compose" ]; then return; fi
    done
    words=$($docker compose version 2>&1) || {
        say lacking compose
        printf '%s' "$words"
    }
}

observe_files() {
    set --
    if [ -f "$root/journal.jsonl" ]; then set -- "$root/journal.jsonl"; fi
    for dir in @folders@ "$root"/stacks/*; do
        [ -d "$dir" ] || continue
        if ! [ -r "$dir" ] || ! [ -x "$dir" ]; then
            say denied "$(hex "$dir")"
            continue
        fi
        for file in "$dir"/* "$dir"/.[!.]* "$dir"/..?*; do
            [ -f "$file" ] || [ -h "$file" ] || continue
            case $file in
            *[!$safe]*) odd "$file" ;;
            *) set -- "$@" "$file" ;;
            esac
        done
    done
    if [ $# -gt 0 ]; then
        say files
        ls -ldn "$@"
    fi
    set --
    for file in @files@; do
        [ -f "$file" ] || continue
        if ! [ -r "$file" ]; then
            say denied "$(hex "$file")"
            continue
        fi
        case $file in
        *[!$safe]*) odd "$file" hash ;;
        *) set -- "$@" "$file" ;;
        esac
    done
    if [ $# -gt 0 ]; then
        say hashes
        sha256sum "$@"
    fi
    for file in "$root"/stacks/*/.release.json; do
        [ -f "$file" ] || continue
        stack=${file%/.release.json}
        say release "$(hex "${stack##*/}")"
        cat "$file"
    done
    if [ -d "$root/lock" ]; then
        say lock
        cat "$root/lock/holder" 2>/dev/null
    fi
}

observe_cards() { # only where the spec has cards; a driver that hangs must not hang us
    [ -n "$cards" ] || return 0
    limit=
    if command -v timeout >/dev/null; then limit='timeout 10'; fi
    words=$($limit nvidia-smi @query@ 2>&1)
    say cards $?
    printf '%s\n' "$words"
    for box in @boxes@; do
        words=$($limit $docker exec "$box" nvidia-smi -L 2>&1)
        say inside "$? $(hex "$box")"
        printf '%s\n' "$words"
    done
}

observe() { # stdin: what is told about the cards; it is told meanwhile, and comes last
    exec 3<&0 </dev/null
    observe_files
    observe_docker
    cat <&3
    say end
}

observe_cards </dev/null | observe
"""

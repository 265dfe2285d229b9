"""The text that observes a host in one round trip: the code of observe.sh, which is fixed, and data that says what to look at.

It needs sh, docker, ls, sha256sum, od and tr (all of them in BusyBox) and goes to `sh -s` on stdin, so that nothing of it
is on a command line. A host that gives us a limited key runs its own copy of the code instead, takes nothing but the lines
between DATA and END from what we send, and answers in the same form. `mesh.state.parse` reads what is printed:

    <boundary> <section> [argument]
    ...lines of the section...

The boundary is random and chosen for each run, so no file, label or banner can forge a section; whatever a login shell
prints before the first one is ignored, and a missing `end` section means that the output was cut short.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from mesh.state.cards import QUERY
from mesh.state.deployment import HostDeployment

DATA, END = "@mesh-data", "@mesh-end"
_SAFE = re.compile(r"[A-Za-z0-9._/@:+,=~%-]+")
"""Words of these characters only are data as they are. Every other path is escaped, and listed alone, in hexadecimal."""
_NOT_NVIDIA = "rx-"
"""Cards of AMD: there is no nvidia-smi to ask."""


@cache
def code() -> str:
    """The functions of observe.sh."""
    text = Path(__file__).with_name("observe.sh").read_text("utf-8")
    return text.replace("@query@", " ".join(map(shlex.quote, QUERY.split())))


@cache
def version() -> str:
    """Of the code, in 12 hexadecimal characters: a host with another one has to be given ours before it can answer."""
    return hashlib.sha256(code().encode()).hexdigest()[:12]


def observe_script(host: HostDeployment, *, mesh: str, docker: str, boundary: str, hash_secrets: bool = True) -> str:
    """The script for one host. `boundary` is any unpredictable word; `docker` is the host's docker command.

    hash_secrets: whether files that hold secrets are hashed, which is no use where their values are not known.
    """
    data = "\n".join(_data(host, mesh, docker, boundary, hash_secrets))
    return f"limited=\n{code()}\nobserve_host <<'{END}'\n{DATA}\n{data}\n{END}\n"


def installed_script(root: str, docker: str, mesh: str) -> str:
    """What a host runs for a limited key, whatever the key's owner asks for: an executable file."""
    fixed = {"limited": "yes", "root": root, "docker": docker, "mesh": mesh, "version": version()}
    head = "".join(f"{name}={shlex.quote(value)}\n" for name, value in fixed.items())
    what = "# Installed by `mesh host trust --read-only`: tells how the mesh's stacks are on this host, and does no more.\n"
    return f"#!/bin/sh\n{what}{head}{_ONLY}{code()}\nsed -n -e '/^{DATA}$/,/^{END}$/p' -e '/^{END}$/q' | observe_host\n"


_ONLY = """\
case ${SSH_ORIGINAL_COMMAND-sh -s} in # sshd tells what was asked for; sudo does not pass it on
*"sh -s") ;;
*) echo 'this key is for mesh drift and nothing else' >&2 && exit 1 ;;
esac
"""


def _data(host: HostDeployment, mesh: str, docker: str, boundary: str, hash_secrets: bool) -> Iterator[str]:
    yield f"version {version()}"
    yield f"boundary {boundary}"
    yield f"root {host.root}"
    yield f"docker {docker}"
    yield f"mesh {mesh}"
    stacks = [stack.name for stack in host.stacks]
    yield from (f"stack {stack}" for stack in stacks)
    files = [file for stack in host.stacks for file in stack.files]
    yield from (_path("file", file.path) for file in files if hash_secrets or not file.secret_names)
    listed = {f"{host.root}/stacks/{stack}" for stack in stacks}
    folders = dict.fromkeys(file.path.rpartition("/")[0] for file in files)
    yield from (_path("folder", folder) for folder in folders if folder not in listed)
    images = sorted({service.image for stack in host.stacks for service in stack.services})
    yield from (f"image {image}" for image in images if _SAFE.fullmatch(image))
    if any(not card.name.startswith(_NOT_NVIDIA) for card in host.cards):
        yield "cards yes"
        yield from (f"box {ollama.container}" for ollama in host.ollamas if ollama.on_cards)


def _path(word: str, path: str) -> str:
    """One line for a path; escaped for printf's %b where its characters are not safe."""
    if _SAFE.fullmatch(path):
        return f"{word} {path}"
    octal = "".join(f"\\0{byte:03o}" for byte in path.encode("utf-8", "surrogateescape"))
    return f"{word}% {octal}"

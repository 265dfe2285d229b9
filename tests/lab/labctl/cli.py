"""bin/lab: the lab from the shell."""

from __future__ import annotations

import argparse
import json
import os
import sys

from labctl.lab import Lab
from labctl.settings import HOSTS
from labctl.shell import say
from mesh.errors import EXIT_ERROR, EXIT_OK, MeshError

EXIT_INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        return _run(arguments)
    except MeshError as error:
        print(error, file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("\nlab: interrupted. `bin/lab up` goes on from here, `bin/lab down` takes everything away.", file=sys.stderr)
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bin/lab", description="Three Debian hosts with Docker as containers on this machine.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("up", help="everything up and ready; takes over what a killed run left")
    down = verbs.add_parser("down", help="nothing of the lab runs afterwards; images stay in the cache")
    down.add_argument("--purge", action="store_true", help="delete the lab's images, its registry's content and its cache too")
    reset = verbs.add_parser("reset", help="a host, or all three, anew with an empty disk")
    reset.add_argument("host", nargs="?", metavar="HOST", choices=list(HOSTS))
    reset.add_argument("--bare", action="store_true", help="without Docker installed")
    ssh = verbs.add_parser("ssh", help="a shell or a command on a host")
    ssh.add_argument("host", metavar="HOST", choices=list(HOSTS))
    ssh.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    verbs.add_parser("status", help="what runs; exit status 1 when the lab is not all up")
    images = verbs.add_parser("images", help="the images the lab's registry offers")
    images.add_argument("--json", action="store_true", help="name -> reference with digest")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    lab = Lab()
    match arguments.verb:
        case "up":
            lab.up()
            say("the lab is up: " + ", ".join(f"{host.name} {host.address}" for host in HOSTS.values()))
        case "down":
            lab.down(purge=arguments.purge)
            say("the lab is down")
        case "reset":
            for name in [arguments.host] if arguments.host else list(HOSTS):
                lab.reset_host(name, bare=arguments.bare)
        case "ssh":
            lab.facts()  # says so when the lab is down, rather than wait for a network that is not there
            args = lab.ssh_args(arguments.host)
            os.execvp(args[0], [*args, *arguments.command])
        case "status":
            return _status(lab)
        case "images":
            references = lab.images()
            print(json.dumps(references, indent=2) if arguments.json else "\n".join(references.values()))
    return EXIT_OK


def _status(lab: Lab) -> int:
    states = lab.states()
    for name in [*HOSTS, "registry", "cloud"]:
        address = HOSTS[name].address if name in HOSTS else ""
        print(f"{name:10} {address:12} {states.get(name, 'not there')}")
    return EXIT_OK if len(states) == len(HOSTS) + 2 and all(state.startswith("Up") for state in states.values()) else EXIT_ERROR

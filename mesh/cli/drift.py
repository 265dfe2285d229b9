"""`mesh drift`: what on the hosts is not as the spec says, for people and for CI. It only reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mesh.cli.look import Look, as_data, as_error, beside, count, look, odd_lines, safe, summary, text
from mesh.cli.output import note, print_error
from mesh.cli.plan import exit_code
from mesh.errors import EXIT_CHANGES, EXIT_OK, MeshError

if TYPE_CHECKING:
    from mesh.state.plan import Deviation

Format = Literal["text", "json", "github", "junit"]


def run(folder: Path, *, hosts: Collection[str] = (), stacks: Collection[str] = (), format: Format = "text") -> int:
    """Print the drift. 0 none, 2 drift, 1 something could not be read (then the drift found elsewhere is printed as well)."""
    seen = look(folder, hosts=hosts, stacks=stacks)
    seen = replace(seen, plan=replace(seen.plan, notes=(*seen.plan.notes, *_slowed(folder, hosts, stacks))))
    writers: Mapping[str, Callable[[Look], str]] = {"text": _text, "json": _json, "github": _github, "junit": _junit}
    output = writers[format](seen)
    if output:
        print(output)
    if format == "text":
        for line in beside(seen.plan):
            note(line)
    for each in seen.plan.unknown:
        print_error(as_error(each))
    return exit_code(seen.plan) or (EXIT_CHANGES if seen.plan.deviations else EXIT_OK)


def _text(seen: Look) -> str:
    odd = "\n".join(odd_lines(seen.plan))
    if seen.plan.changes:
        changes = f"{text(seen.plan, seen.deployment)}\n\ndrift: {summary(seen.plan)}"
        return f"{changes}; {_beyond(seen)}\n{odd}" if odd else changes
    if odd:
        return f"{odd}\n\ndrift: {_beyond(seen)}"
    if seen.plan.unknown:
        return ""
    stacks = sum(len(host.stacks) for host in seen.deployment.hosts.values())
    return f"no drift: {count(stacks, 'stack')} on {count(len(seen.deployment.hosts), 'host')} are as the spec says"


def _slowed(folder: Path, hosts: Collection[str], stacks: Collection[str]) -> Iterator[str]:
    """Models whose last recorded speed is well under their best: a driver, a power limit, a hot card, a model that spills."""
    from mesh.measure.record import read_measurements, slowed

    try:
        measured = read_measurements(folder)
    except MeshError as error:  # no reason to keep the drift from whoever asked for it
        yield f"{error}: no speed is compared"
        return
    for latest, best in slowed(measured):
        if (hosts and latest.host not in hosts) or (stacks and latest.stack not in stacks):
            continue
        yield (
            f"{latest.host}/{latest.stack}: {latest.model} wrote {latest.tok_s:.1f} tok/s on {latest.taken[:10]},"
            f" {100 - 100 * latest.tok_s / best.tok_s:.0f} % under the {best.tok_s:.1f} of {best.taken[:10]}"
        )


def _beyond(seen: Look) -> str:
    return f"{count(len(seen.plan.deviations), 'finding')} that apply cannot mend"


def _json(seen: Look) -> str:
    return json.dumps(as_data(seen.plan), indent=2, ensure_ascii=False)


def _github(seen: Look) -> str:
    """Workflow commands, which GitHub shows as annotations of the run."""
    lines = [
        f"::warning title={_property(f'drift on {change.host}/{change.stack}')}::"
        + _data(f"{change.subject} {change.name} {change.why}")
        for change in seen.plan.changes
    ]
    lines += [
        f"::warning title={_property(f'drift on {each.host}')}::{_data(f'{each.subject} {each.name}: {each.why}; {each.mend}')}"
        for each in seen.plan.deviations
    ]
    lines += [f"::notice title=beside the drift::{_data(line)}" for line in seen.plan.notes]
    lines += [f"::error title={_property(f'cannot tell: {each.where}')}::{_data(each.why)}" for each in seen.plan.unknown]
    return "\n".join(lines)


def _data(text: str) -> str:
    return safe(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _junit(seen: Look) -> str:
    """A suite a host, a case a stack and one for the cards: red for drift, an error for what could not be read."""

    from xml.etree import ElementTree as Xml

    def fail(case: Xml.Element, odd: list[Deviation]) -> None:
        for each in odd:
            failure = Xml.SubElement(case, "failure", message=_printable(f"{each.subject} {each.name}: {each.why}"))
            failure.text = _printable(each.mend)

    root = Xml.Element("testsuites", name="mesh drift")
    for host in seen.deployment.hosts.values():
        suite = Xml.SubElement(root, "testsuite", name=host.name)
        unread = [each for each in seen.plan.unknown if each.where == host.name]
        for each in unread:
            case = Xml.SubElement(suite, "testcase", classname=host.name, name="reachable and readable")
            Xml.SubElement(case, "error", message=_printable(each.why)).text = _printable(each.mend)
        spec = [stack.name for stack in host.stacks]
        for stack in [] if unread else dict.fromkeys([*spec, *seen.plan.stacks(host.name)]):
            case = Xml.SubElement(suite, "testcase", classname=host.name, name=stack)
            found = [each for each in seen.plan.changes if (each.host, each.stack) == (host.name, stack)]
            if found:
                lines = [f"{each.subject} {each.name} {each.why}" for each in found]
                Xml.SubElement(case, "failure", message=count(len(found), "difference")).text = _printable("\n".join(lines))
            fail(case, [each for each in seen.plan.deviations if (each.host, each.stack) == (host.name, stack)])
            for each in seen.plan.unknown:
                if each.where == f"{host.name}/{stack}":
                    Xml.SubElement(case, "error", message=_printable(each.why))
        if host.cards and not unread:
            case = Xml.SubElement(suite, "testcase", classname=host.name, name="cards")
            fail(case, [each for each in seen.plan.deviations if (each.host, each.stack) == (host.name, "")])
        suite.set("tests", str(len(suite)))
        suite.set("failures", str(len(suite.findall("testcase/failure"))))
        suite.set("errors", str(len(suite.findall("testcase/error"))))
    Xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(root, encoding="unicode")


def _printable(text: str) -> str:
    """Characters that XML knows."""
    return "".join(letter for letter in safe(text) if letter in "\t\n" or letter >= " ")

"""Drift for programs: JSON, GitHub's annotations, JUnit's XML. Values of secrets and control characters are taken out of all."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from mesh.cli.look import Look, as_data, count, safe
from mesh.state.ignores import Ignored
from mesh.state.plan import Change, Deviation

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


def as_json(seen: Look, ignored: Sequence[Ignored]) -> str:
    """`mesh plan --json`'s document, and what is ignored."""
    data = as_data(seen.plan)
    data["ignored"] = [_ignored(each) for each in ignored]
    return json.dumps(data, indent=2, ensure_ascii=False)


def _ignored(each: Ignored) -> dict[str, str]:
    found = each.found
    return {
        "host": found.host,
        "stack": found.stack,
        "subject": found.subject,
        "name": safe(found.name),
        "why": safe(found.why),
        "reason": safe(each.by.reason),
        "until": each.by.until,
    }


def as_github(seen: Look, ignored: Sequence[Ignored]) -> str:
    """Workflow commands, which GitHub, Gitea and Forgejo show as annotations of the run. GitHub shows ten of a kind a step."""
    plan = seen.plan
    lines = [
        _command("warning", f"drift on {each.host}/{each.stack}", f"{each.subject} {each.name} {each.why}")
        for each in plan.changes
    ]
    lines += [
        _command("warning", f"drift on {_where(each)}", f"{each.subject} {each.name}: {each.why}; {each.mend}")
        for each in plan.deviations
    ]
    lines += [_command("error", f"cannot tell: {each.where}", f"{each.why}; {each.mend}".rstrip("; ")) for each in plan.unknown]
    lines += [_command("notice", "drift", each) for each in plan.notes]
    lines += [
        _command("notice", f"ignored until {each.by.until} on {_where(each.found)}", f"{each.found.subject} {each.found.name}")
        for each in ignored
    ]
    return "\n".join(lines)


def _where(found: Change | Deviation) -> str:
    return f"{found.host}/{found.stack}" if found.stack else found.host


def _command(level: str, title: str, message: str) -> str:
    """One annotation. `%`, line ends and, in the title, `:` and `,` have to be written as the runner decodes them."""
    data, name = _escaped(message), _escaped(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={name}::{data}"


def _escaped(text: str) -> str:
    return safe(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def as_junit(seen: Look, ignored: Sequence[Ignored]) -> str:
    """A suite a host, a case a stack and one for the host itself: a case has one failure or one error, as readers expect.

    Ignored things are cases of their own that were skipped.
    """
    from xml.etree import ElementTree as Xml

    plan = seen.plan
    root = Xml.Element("testsuites", name="mesh drift")
    totals = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for host in seen.deployment.hosts.values():
        suite = Xml.SubElement(root, "testsuite", name=host.name)
        unread = [each for each in plan.unknown if each.where == host.name]
        for each in unread:
            case = _case(suite, host.name, "reachable and readable")
            Xml.SubElement(case, "error", message=_printable(each.why), type="unknown").text = _printable(each.mend)
        spec = ["", *(stack.name for stack in host.stacks)]
        odd = [each for each in plan.deviations if each.host == host.name]
        for stack in () if unread else dict.fromkeys([*spec, *plan.stacks(host.name), *(each.stack for each in odd)]):
            changes = [each for each in plan.changes if (each.host, each.stack) == (host.name, stack)]
            beyond = [each for each in odd if each.stack == stack]
            blind = [each for each in plan.unknown if stack and each.where == f"{host.name}/{stack}"]
            if not stack and not (host.cards or beyond):
                continue
            case = _case(suite, host.name, stack or "cards")
            lines = list(_lines(changes, beyond))
            if blind:
                text = "\n".join([*(each.mend for each in blind if each.mend), *lines])
                Xml.SubElement(case, "error", message=_printable(blind[0].why), type="unknown").text = _printable(text)
            elif lines:
                message = count(len(changes) + len(beyond), "difference")
                Xml.SubElement(case, "failure", message=message, type="drift").text = _printable("\n".join(lines))
        for found in (each for each in ignored if each.found.host == host.name):
            what = found.found
            case = _case(suite, host.name, _printable(f"{what.stack}: {what.subject} {what.name}".removeprefix(": ")))
            Xml.SubElement(case, "skipped", message=_printable(f"ignored until {found.by.until}: {found.by.reason}"))
        numbers = {
            "tests": len(suite),
            "failures": len(suite.findall("testcase/failure")),
            "errors": len(suite.findall("testcase/error")),
            "skipped": len(suite.findall("testcase/skipped")),
        }
        for name, number in numbers.items():
            suite.set(name, str(number))
            totals[name] += number
    for name, number in totals.items():
        root.set(name, str(number))
    Xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(root, encoding="unicode")


def _case(suite: Element, host: str, name: str) -> Element:
    from xml.etree import ElementTree as Xml

    return Xml.SubElement(suite, "testcase", classname=host, name=name, time="0")


def _lines(changes: Iterable[Change], odd: Iterable[Deviation]) -> Iterator[str]:
    yield from (f"{each.subject} {each.name} {each.why}" for each in changes)
    yield from (f"{each.subject} {each.name}: {each.why}; {each.mend}" for each in odd)


def _printable(text: str) -> str:
    """Characters that XML 1.0 knows."""
    return "".join(letter for letter in safe(text) if letter in "\t\n" or (letter >= " " and not _UNKNOWN.match(letter)))


_UNKNOWN = re.compile("[\ud800-\udfff\ufffe\uffff]")

WRITERS: Mapping[str, Callable[[Look, Sequence[Ignored]], str]] = {"json": as_json, "github": as_github, "junit": as_junit}

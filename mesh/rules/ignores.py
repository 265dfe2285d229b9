"""What drift is told to ignore: it has an end, and it is not everything."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from fnmatch import fnmatchcase

from mesh.rules.rule import Context, Problem, rule

LONGEST = timedelta(days=366)


@rule("drift-ignore-wide", "error")
def ignores_name_something(context: Context) -> Iterator[Problem]:
    """An entry of `drift.ignore` would hide everything, or everything of a kind: drift could never be seen again.

    The name, or the stack, has to be written out as far as it takes to mean something certain: `nas/web/service web`,
    `nas/web/file *`, `*/*/model llama*`.
    """
    for number, written in enumerate(context.mesh.drift.ignore):
        ignore = written.entry
        certain = [ignore.name, ignore.stack or ""]
        if not any(_letters(each) for each in certain) and (ignore.stack or ignore.subject == "*"):
            message = f"drift.ignore[{number}]: `{ignore.what}` would hide all of it, whatever happens"
            yield Problem(
                ("drift", "ignore", number, "what"), message, "write the stack or the name, such as nas/web/service web"
            )


@rule("drift-ignore-unknown", "error")
def ignores_are_of_hosts_in_the_spec(context: Context) -> Iterator[Problem]:
    """An entry of `drift.ignore` names a host that the spec does not have, so it can never match."""
    hosts = context.mesh.hosts
    for number, ignore in enumerate(context.mesh.drift.ignore):
        host = ignore.entry.host
        if not any(fnmatchcase(each, host) for each in hosts):
            mend = context.suggest.mend(host, hosts, f"the spec has {', '.join(hosts)}")
            yield Problem(("drift", "ignore", number, "what"), f"drift.ignore[{number}]: there is no host `{host}`", mend)


@rule("drift-ignore-long", "error")
def ignores_end(context: Context) -> Iterator[Problem]:
    """An entry of `drift.ignore` lasts for more than a year: by then nobody knows why it is there."""
    latest = context.world.today + LONGEST
    for number, ignore in enumerate(context.mesh.drift.ignore):
        if ignore.until > latest:
            message = f"drift.ignore[{number}]: {ignore.until} is more than a year away"
            mend = f"write {latest} at the latest, and look at it again then"
            yield Problem(("drift", "ignore", number, "until"), message, mend)


@rule("drift-ignore-ended", "warning")
def ignores_have_not_ended(context: Context) -> Iterator[Problem]:
    """An entry of `drift.ignore` has ended: `mesh drift` reports again what it hid."""
    for number, ignore in enumerate(context.mesh.drift.ignore):
        if ignore.until < context.world.today:
            message = f"drift.ignore[{number}]: it ended on {ignore.until} and hides nothing any more"
            mend = "remove it, or look at the reason again and write a later day"
            yield Problem(("drift", "ignore", number, "until"), message, mend)


def _letters(pattern: str) -> bool:
    """Whether a pattern holds something certain: two characters in a row that stand for themselves."""
    run = 0
    for letter in pattern:
        run = run + 1 if letter.isalnum() else 0
        if run >= 2:
            return True
    return False

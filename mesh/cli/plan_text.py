"""An explained plan as the operator reads it: one screen, hosts and stacks in order, texts where they are short."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby

from mesh.cli.look import SIGNS, count, safe, short_image, summary
from mesh.cli.output import style
from mesh.plan.effects import Action, StackEffect
from mesh.plan.explain import Explanation, Pull
from mesh.plan.files import FileChange
from mesh.plan.vram import HostRoom
from mesh.state.deployment import Deployment
from mesh.state.plan import Change, Plan, Verb

SHORT, SHORT_ALL = 14, 40
"""Lines of a file's diff, and of all of them together, that are shown without --diff."""
_SUBJECT, _NAME = 9, 44
_MANY = 3
"""So many changes of one kind and reason get a line each; more share one."""
_ACTIONS: dict[Action, tuple[Verb, str]] = {
    "start": ("create", "started"),
    "recreate": ("update", "made anew"),
    "restart": ("restart", "restarted"),
    "remove": ("remove", "removed"),
}
_COLOURS = {"+": "green", "-": "red", "@": "cyan"}
_MIB = 1024**2
Row = tuple[Verb, str, str, str]
"""Verb, subject, name, words"""


def plan_text(plan: Plan, deployment: Deployment, meaning: Explanation, *, diff: bool = False, verbose: bool = False) -> str:
    """Everything that changes, and what it means. diff: texts of any length. verbose: a line for every change."""
    effects = {(each.host, each.stack): each for each in meaning.stacks}
    files = {(each.host, each.path): each for each in meaning.files}
    sizes = {each.name: each for each in meaning.pulls}
    shown = _shown(meaning.files, everything=diff)
    lines: list[str] = []
    for host, of_host in groupby(plan.changes, key=lambda change: change.host):
        lines.append(style(f"{host} ({deployment.hosts[host].address})", "bold"))
        for stack, grouped in groupby(of_host, key=lambda change: change.stack):
            changes = list(grouped)
            effect = effects.get((host, stack))
            directory = f"{deployment.hosts[host].root}/stacks/{stack}/"
            lines.append(f"  {safe(stack)}{_interruption(effect)}")
            rows = list(_rows(changes, effect, files, sizes, directory))
            lines += [f"    {line}" for line in _aligned(rows if verbose else list(_together(rows)))]
            for change in changes:
                file = files.get((host, change.name)) if change.subject == "file" else None
                lines += _diff_lines(file, directory, shown) if file else ()
    lines += _risk_lines(meaning)
    lines += [line for room in meaning.vram for line in _room_lines(room)]
    for each in meaning.unread:
        lines.append(safe(f"{each.where}: less is said of it, for a second look failed: {each.why}"))
    total = _pull_words(meaning.pulls)
    return "\n".join([*lines, "", summary(plan) + (f"; to pull: {total}" if total else "")])


def _interruption(effect: StackEffect | None) -> str:
    if effect is None:
        return ""
    last = f"; the last time took {effect.seconds:.0f} s" if effect.seconds is not None else ""
    words = {
        "none": "nothing restarts",
        "rolling": f"no interruption, they change one after the other{last}",
        "restart": f"is interrupted while it restarts{last}",
        "start": f"starts{last}",
        "stop": "stops for good",
    }
    return f": {words[effect.interruption]}"


def _rows(
    changes: Sequence[Change],
    effect: StackEffect | None,
    files: dict[tuple[str, str], FileChange],
    sizes: dict[str, Pull],
    directory: str,
) -> Iterator[Row]:
    told = {each.name for each in effect.services} if effect else set()
    for change in changes:
        name = change.name.removeprefix(directory)
        if change.subject == "file":
            words = _file_words(files.get((change.host, change.name)), change)
            if words:
                yield change.verb, "file", name, words
        elif change.subject in {"image", "model"}:
            yield change.verb, change.subject, short_image(name), f"{change.why}, {_size(sizes.get(change.name))}"
        elif change.subject == "route" or change.name not in told:
            yield change.verb, change.subject, name, change.why
    for service in effect.services if effect else ():
        verb, words = _ACTIONS[service.action]
        image = [f"image {short_image(service.image[0])} -> {short_image(service.image[1])}"] if service.image else []
        known = any(change.subject == "container" and change.name == service.name for change in changes)
        why = "; ".join((*image, *service.why))
        yield verb, "container" if known else "service", service.name, f"{words}: {why}" if why else words


def _file_words(file: FileChange | None, change: Change) -> str:
    """Nothing for a file that changes only by what follows from the others."""
    diff = file.diff if file else None
    if file is None or change.verb != "update":
        return change.why
    if diff is None:
        more = [each for each in file.reasons if not each.endswith(change.why)]
        return f"{change.why}: {'; '.join(more)}" if more else change.why
    if diff.note == "only digests of services" and change.why == "changes with the spec":
        return ""
    return f"{change.why}: {diff.note or f'{_lines(diff.added, diff.removed)}'}"


def _lines(added: int, removed: int) -> str:
    parts = [f"{count(added, 'line')} added"] if added else []
    parts += [f"{removed if added else count(removed, 'line')} removed"] if removed else []
    return ", ".join(parts)


def _together(rows: Sequence[Row]) -> Iterator[Row]:
    """Rows that differ in their names only share one."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row[0], row[1], row[3]), []).append(row)
    for (_, subject, words), same in groups.items():
        if len(same) > _MANY:
            some = ", ".join(row[2] for row in same[:_MANY])
            yield same[0][0], subject, count(len(same), subject), f"{words} ({some}, ...)"
        elif subject == "service":
            yield same[0][0], subject, ", ".join(row[2] for row in same), words
        else:
            yield from same


def _aligned(rows: Sequence[Row]) -> Iterator[str]:
    named = [(verb, subject, safe(name), safe(words)) for verb, subject, name, words in rows]
    width = min(max((len(name) for _, _, name, _ in named), default=0), _NAME)
    for verb, subject, name, words in named:
        sign, colour = SIGNS[verb]
        yield f"{style(sign, colour)} {subject:<{_SUBJECT}} {name:<{width}}  {words}"


def _shown(files: Iterable[FileChange], *, everything: bool) -> Collection[tuple[str, str]]:
    """Files of which the text is shown."""
    left, found = SHORT_ALL, set()
    for file in files:
        size = len(file.diff.lines) if file.diff else 0
        if size and (everything or (size <= SHORT and size <= left)):
            found.add((file.host, file.path))
            left -= size
    return found


def _diff_lines(file: FileChange, directory: str, shown: Collection[tuple[str, str]]) -> Iterator[str]:
    if file.diff is None or not file.diff.lines:
        return
    name = safe(file.path.removeprefix(directory))
    if (file.host, file.path) not in shown:
        yield f"      {style(f'{name}: {len(file.diff.lines)} lines of differences, shown with --diff', 'dim')}"
        return
    yield f"      {style(f'--- {name} on {file.host}, +++ as it would be', 'dim')}"
    for line in file.diff.lines:
        text = safe(line).replace("\n", "\\x0a")
        colour = _COLOURS.get(line[0])
        yield f"      {style(text, colour) if colour else text}"


def _risk_lines(meaning: Explanation) -> Iterator[str]:
    for risk in meaning.risks:
        yield safe(f"{style('!', 'red')} data: {risk.host}/{risk.stack}: {risk.what}")
        if risk.mend:
            yield safe(f"    mend: {risk.mend}")


def _room_lines(room: HostRoom) -> Iterator[str]:
    if room.loaded is None:
        loaded = "what is loaded is not known"
    else:
        loaded = ", ".join(f"{each.tag} {_gib(each.size_vram)}" for each in room.loaded) or "no model is loaded"
    for number, card in enumerate(room.cards):
        now = "not known" if card.used is None else _gib(card.used)
        over = style(f", {_gib(card.over)} too much", "red") if card.over else ""
        tail = f" ({loaded})" if not number else ""
        yield f"VRAM: {room.host} {card.card}: now {now}{safe(tail)} -> at most {_gib(card.needed)} of {_gib(card.size)}{over}"
    if room.spilling:
        yield safe(f"    when it is asked for, {' or '.join(room.spilling)} takes all of it and spills, as the spec allows")


def _size(pull: Pull | None) -> str:
    if pull is None or pull.size is None:
        return "size unknown" + (f" ({pull.why})" if pull and pull.why else "")
    return _bytes(pull.size)


def _pull_words(pulls: Sequence[Pull]) -> str:
    """Once for each host that pulls it."""
    known = sum(pull.size * len(pull.hosts) for pull in pulls if pull.size is not None)
    unknown = sum(pull.size is None for pull in pulls)
    parts = [_bytes(known)] if known or not unknown else []
    parts += [f"{unknown} of unknown size"] if unknown else []
    return " and ".join(parts) if pulls else ""


def _bytes(size: int) -> str:
    return _gib(size) if size >= 1024 * _MIB else f"{size / _MIB:.1f} MiB"


def _gib(size: int) -> str:
    return f"{size / 1024**3:.1f} GiB"

"""How each file of a stack changes: the text, and the reasons that it gives a service to restart. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mesh.plan.looked import OTHER, Looked, assignments
from mesh.plan.mask import is_private
from mesh.plan.textdiff import FileDiff, diff_file
from mesh.state.deployment import File, StackRelease
from mesh.state.observed import ObservedHost
from mesh.state.plan import Change, Verb

_MOST_NAMES = 3


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file. why: as the plan says. diff: None where its text is not looked at (it is new, it goes, it holds secrets).

    reasons: what a service that takes it has to say of it, in words.
    """

    host: str
    stack: str
    path: str
    verb: Verb
    why: str
    diff: FileDiff | None = None
    reasons: tuple[str, ...] = ()


def holds_secrets(path: str, directory: str) -> bool:
    """Whether a file is under the stack's secrets/, so that its text never leaves the host."""
    return path.startswith(f"{directory}/secrets/")


def file_changes(
    stack: StackRelease | None,
    seen: ObservedHost,
    changes: Sequence[Change],
    looked: Looked,
    nonce: str,
    value_of: Callable[[str], str],
    redact: Callable[[str], str],
) -> Iterator[FileChange]:
    """The changes of one stack's files. nonce: what the second look hashed variables with."""
    wanted = {file.path: file for file in stack.files} if stack else {}
    for change in changes:
        if change.subject != "file":
            continue
        plain = FileChange(change.host, change.stack, change.name, change.verb, change.why)
        file = wanted.get(change.name)
        if file is None or stack is None or change.verb != "update":
            name = change.name.removeprefix(f"{stack.directory}/") if stack else change.name
            words = {"create": "is new", "remove": "goes"}.get(change.verb, "changed")
            yield plain if file is None else FileChange(*_fields(plain), None, (f"{name} {words}",))
        else:
            yield _changed(plain, file, stack, seen, looked, nonce, value_of, redact)


def _fields(plain: FileChange) -> tuple[str, str, str, Verb, str]:
    return plain.host, plain.stack, plain.path, plain.verb, plain.why


def _changed(
    plain: FileChange,
    file: File,
    stack: StackRelease,
    seen: ObservedHost,
    looked: Looked,
    nonce: str,
    value_of: Callable[[str], str],
    redact: Callable[[str], str],
) -> FileChange:
    name = file.path.removeprefix(f"{stack.directory}/")
    there = seen.files.get(file.path)
    if there is not None and there.sha256 == file.sha256(value_of):
        return FileChange(*_fields(plain), None, (f"{name} {plain.why}",))
    if holds_secrets(file.path, stack.directory):
        return FileChange(*_fields(plain), None, _of_secrets(name, file, looked, nonce, value_of))
    private = is_private(file, there.mode if there else None)
    diff = diff_file(file, looked.files.get(file.path), private=private, value_of=value_of, redact=redact)
    lines = f", {diff.changed} line{'' if diff.changed == 1 else 's'}" if diff.changed else ""
    return FileChange(*_fields(plain), diff, (f"{name} changed{lines}",))


def _of_secrets(name: str, file: File, looked: Looked, nonce: str, value_of: Callable[[str], str]) -> tuple[str, ...]:
    """Which variables or secrets changed, by name."""
    hidden = "value hidden"
    names = variables(file)
    if not names:
        secrets = file.secret_names
        return (f"secret {' and '.join(secrets)} changed, {hidden}",) if secrets else (f"{name} changed, {hidden}",)
    has = looked.variables.get(file.path)
    if has is None:
        return (f"{name} changed, values hidden",)
    wanted = assignments(file.content(value_of).decode("utf-8", "surrogateescape"), names, nonce)
    there, then = dict(has), dict(wanted)
    found = []
    for each in sorted(names):
        if each not in there and each in then:
            found.append(f"env {each} is new, {hidden}")
        elif each in then and there[each] != then[each]:
            found.append(f"env {each} changed, {hidden}")
    others = sum(each == OTHER for each, _ in has) - sum(each == OTHER for each, _ in wanted)
    if others > 0:
        found.append(f"{others} other variable{'' if others == 1 else 's'} of {name} go{'es' if others == 1 else ''}")
    more = len(found) - _MOST_NAMES
    shown = found if more <= 0 else [*found[:_MOST_NAMES], f"{more} more in {name}"]
    return tuple(shown) or (f"{name} changed, values hidden",)


def variables(file: File) -> frozenset[str]:
    """Names of the variables in a file of `NAME='value'` lines, from the spec's own literal text and nothing else."""
    found = set()
    for part, following in zip(file.text, file.text[1:], strict=False):
        if isinstance(part, str) and not isinstance(following, str) and following.quoting == "shell":
            name = part.rpartition("\n")[2].removesuffix("=")
            if part.endswith("=") and name.isascii() and name.isidentifier():
                found.add(name)
    return frozenset(found)

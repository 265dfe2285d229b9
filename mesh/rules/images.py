"""Container images: exact, safe, pinned."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from mesh.catalogue import ImageAdvice
from mesh.compile.images import ImageRef
from mesh.findings import Path
from mesh.rules.rule import Context, Problem, rule

_MOVING = {"latest", "nightly", "edge", "rolling"}
"""A tag with one of these words in it moves even where it has a number: 16-latest."""


_VERSION = re.compile(r"v?(\d+(?:\.\d+){1,3}|\d+(?=$|[-_+]))")
"""At the beginning of a tag. A lone number is none in the middle of a word: 0af31c is a hash."""


def floats(tag: str) -> bool:
    """Whether the tag will mean another image one day: it names no version at all, or says itself that it moves."""
    return not any(character.isdigit() for character in tag) or not _MOVING.isdisjoint(re.split(r"[-_.]", tag.lower()))


def _used(context: Context) -> Iterator[tuple[Path, str, str, str]]:
    """(place, stack, service, image) for every image of the mesh; the place is the spec's own line where it has one."""
    for stack, facts in context.world.stacks.items():
        for service, image in facts.images.items():
            own = next((key for key in (f"{stack}.{service}", service) if key in context.mesh.images), None)
            yield ("images", own) if own else (context.section(stack), stack), stack, service, image


@rule("image-unknown", "error")
def image_overrides_fit_a_service(context: Context) -> Iterator[Problem]:
    """A key under `images:` is neither a service of some stack (`litellm`) nor one of a certain stack (`STACK.SERVICE`)."""
    known = {name for stack, facts in context.world.stacks.items() for each in facts.images for name in (each, f"{stack}.{each}")}
    for name in context.mesh.images:
        if name not in known:
            mend = context.suggest.mend(name, known, "name a service, or STACK.SERVICE")
            yield Problem(("images", name), f"images.{name}: no stack of the spec has such a service", mend, on_key=True)


@rule("image-floating", "error")
def images_are_exact(context: Context) -> Iterator[Problem]:
    """An image has no tag, or a tag such as `latest` or `main-stable` that means another image tomorrow: one without a version.

    An exact tag or a digest (`@sha256:...`) says which image it is, so that two hosts and two days get the same one.
    """
    for path, stack, service, image in _used(context):
        reference = ImageRef.parse(image)
        if reference.digest:
            continue
        if not reference.tag or floats(reference.tag):
            what = f"the tag `{reference.tag}` floats" if reference.tag else "it has no tag, so it is whatever `latest` is"
            yield Problem(path, f"{stack}.{service}: {image}: {what}", f"write an exact tag: {reference.repo}:1.2.3")


@rule("image-known-bad", "error")
def images_are_not_known_to_be_bad(context: Context) -> Iterator[Problem]:
    """The version of an image is compromised, or older than the lowest one without a known hole.

    The versions are data, in mesh/data/catalogue.yaml under `images:`, and can be overridden in inventory/catalogue.yaml.
    """
    for path, stack, service, image in _used(context):
        reference = ImageRef.parse(image)
        advice = _advice(context, reference.repo)
        version = _VERSION.match(reference.tag)
        if advice is None or version is None:
            continue
        why = next((why for pattern, why in advice.bad.items() if fnmatchcase(version[1], pattern)), None)
        mend = (
            f"write {reference.repo}:VERSION with a version from {advice.floor} on" if advice.floor else "write another version"
        )
        if why is not None:
            yield Problem(path, f"{stack}.{service}: {image} is known to be bad: {why}", mend)
        elif advice.floor and _numbers(version[1]) < _numbers(advice.floor):
            because = f": {advice.below}" if advice.below else ""
            message = f"{stack}.{service}: {image} is below {advice.floor}, the lowest version without a known hole{because}"
            yield Problem(path, message, mend)


def _advice(context: Context, repo: str) -> ImageAdvice | None:
    """By the last part of the repository: ghcr.io/berriai/litellm-database and a mirror's litellm are both litellm."""
    last = repo.rpartition("/")[2]
    known = context.world.catalogue.images
    return next((known[name] for name in known if last == name or last.startswith(f"{name}-")), None)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


@rule("image-unlocked", "warning")
def images_are_pinned_by_digest(context: Context) -> Iterator[Problem]:
    """images.lock has no digest for an image: it is deployed by its tag, which can move to another image. One finding for all."""
    missing = {image for *_, image in _used(context) if not ImageRef.parse(image).digest and image not in context.world.locked}
    if missing:
        shown = ", ".join(sorted(missing)[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        count = "1 image has" if len(missing) == 1 else f"{len(missing)} images have"
        yield Problem(
            (), f"{count} no digest in images.lock, so each host takes what the tag names on the day: {shown}", "`mesh lock`"
        )

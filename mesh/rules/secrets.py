"""Secrets: every reference resolves. Values are never looked at."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.findings import Path
from mesh.rules.rule import Context, Problem, rule
from mesh.spec.mesh import Mesh
from mesh.spec.providers import CloudProvider
from mesh.spec.types import SecretRef


def references(mesh: Mesh) -> Iterator[tuple[Path, str, str]]:
    """(place, name of the secret, what needs it) for everything in the spec that names a secret, or implies one."""
    for name, provider in mesh.providers.items():
        if isinstance(provider, CloudProvider) and provider.key is not None:
            yield ("providers", name, "key"), provider.key.name, f"providers.{name}"
    for name in mesh.clients:
        yield ("clients", name, "key"), mesh.client_key(name).name, f"clients.{name}"
    for name, stack in mesh.stacks.items():
        for file, secret in stack.secrets.items():
            yield ("stacks", name, "secrets", file), secret.name, f"stacks.{name}"
        for variable, value in stack.env.items():
            if isinstance(value, SecretRef):
                yield ("stacks", name, "env", variable), value.name, f"stacks.{name}"


def _needed(context: Context) -> dict[str, tuple[Path, str]]:
    """Every secret that is needed: (first place, first user)."""
    needed: dict[str, tuple[Path, str]] = {}
    for path, secret, user in references(context.mesh):
        needed.setdefault(secret, (path, user))
    for secret, stack in context.world.needed_secrets.items():
        section = context.section(stack)
        needed.setdefault(secret, ((section, stack) if stack else (), f"{section}.{stack}" if stack else "the mesh"))
    return needed


@rule("secret-missing", "error")
def secrets_resolve(context: Context) -> Iterator[Problem]:
    """A secret that the mesh needs has no value: neither in inventory/secrets.age nor from a source under `secrets:`."""
    known = context.world.secret_names
    if known is None:
        return
    missing = {secret: place for secret, place in _needed(context).items() if secret not in known | set(context.mesh.secrets)}
    if not missing:
        return
    from mesh.secrets.own import own_secrets

    own = own_secrets(context.mesh)
    for secret, (path, user) in missing.items():
        mend = "`mesh secrets init` makes it" if secret in own else f"`mesh secrets set {secret}`"
        near = None if secret in own else context.suggest.nearest(secret, known, cutoff=0.85)
        if near is not None:
            mend = f"did you mean secret:{near}? Otherwise {mend}"
        yield Problem(path, f"{user} needs the secret `{secret}`, which has no value", mend)


@rule("secret-unverified", "warning")
def secrets_can_be_verified(context: Context) -> Iterator[Problem]:
    """It cannot be known here which secrets have a value: there is no inventory/secrets.age or secrets.index."""
    needed = _needed(context)
    if context.world.secret_names is None and needed:
        message = f"the {len(needed)} secrets that the mesh needs could not be verified: there is no secrets.age or secrets.index"
        yield Problem((), message, "`mesh secrets init` makes them")


@rule("secret-source", "error")
def a_source_is_one_thing(context: Context) -> Iterator[Problem]:
    """A source under `secrets:` names both an environment variable and a command, or neither."""
    for name, source in context.mesh.secrets.items():
        if (source.env is None) == (source.command is None):
            have = "neither `env` nor `command`" if source.env is None else "both `env` and `command`"
            yield Problem(("secrets", name), f"secrets.{name} has {have}", "give exactly one of the two", on_key=True)


@rule("provider-key", "error")
def cloud_providers_have_a_key(context: Context) -> Iterator[Problem]:
    """A cloud API has neither a `key` nor a `plan`: every request to it would be refused.

    A provider with a `base_url` of its own may do without, because a server of yours may ask for none.
    """
    for name, provider in context.mesh.providers.items():
        if isinstance(provider, CloudProvider) and not (provider.key or provider.plan or provider.base_url):
            mend = f"add key: secret:{provider.kind}_api_key, and `mesh secrets set {provider.kind}_api_key`"
            yield Problem(("providers", name), f"providers.{name}: it has no `key`", mend, on_key=True)

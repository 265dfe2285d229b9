"""Names that must differ, or that other programs would not accept."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.rules.rule import Context, Problem, rule
from mesh.spec.mesh import default_key
from mesh.spec.providers import CloudProvider


@rule("name-collision", "error")
def names_are_not_used_twice(context: Context) -> Iterator[Problem]:
    """Two things would become one under the same name.

    Every Ollama provider is deployed as the stack of its name, so no stack may have that name. Every route, and every
    model that is a fallback target, is a group of the gateway, so no route may have a model's name.
    """
    mesh = context.mesh
    for name in mesh.stacks:
        if name in context.ollamas:
            message = f"stacks.{name}: the Ollama provider `{name}` is deployed as a stack of that name already"
            yield Problem(("stacks", name), message, "rename one of the two, or delete the stack", on_key=True)
    for name in mesh.routes:
        if name in mesh.models:
            message = f"routes.{name}: a model has the same name, and both become groups of the gateway"
            yield Problem(("routes", name), message, f"rename the route or the model, say `{name}-chat`", on_key=True)


@rule("name-compose", "error")
def stack_names_are_project_names(context: Context) -> Iterator[Problem]:
    """A stack (an Ollama provider, too) has a dot in its name. The name becomes a Compose project, which cannot have one."""
    for section, names in (("stacks", context.mesh.stacks), ("providers", context.ollamas)):
        for name in names:
            if "." in name:
                message = f"{section}.{name}: Compose accepts no project with a dot in its name"
                yield Problem((section, name), message, f"rename it `{name.replace('.', '-')}`", on_key=True)


@rule("client-key-shared", "error")
def clients_have_keys_of_their_own(context: Context) -> Iterator[Problem]:
    """A client's key is another client's as well, or a provider's, or one of the mesh's own secrets.

    The gateway tells clients apart by their keys alone: routes and budgets would be mixed up. And a client would hold what
    opens a provider, or the gateway's administration.
    """
    from mesh.secrets.own import OF_THE_MESH

    owner = {secret: f"the mesh itself ({use})" for secret, use in OF_THE_MESH.items()}
    for name, provider in context.mesh.providers.items():
        if isinstance(provider, CloudProvider) and provider.key is not None:
            owner.setdefault(provider.key.name, f"providers.{name}")
    for name in context.mesh.clients:
        secret = context.mesh.client_key(name).name
        if secret in owner:
            message = f"clients.{name}: it has the same key as {owner[secret]}, secret:{secret}"
            yield Problem(("clients", name), message, f"give it its own: key: {default_key(name)}_2", on_key=True)
        owner.setdefault(secret, f"clients.{name}")

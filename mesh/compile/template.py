"""compose.yaml.j2 -> the Compose project as data. Values are JSON by construction: no template can forget to quote one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import yaml

from mesh.compile.library import TEMPLATE, StackFolder
from mesh.compile.stack import Instance
from mesh.compile.yamltext import as_json, load_compose
from mesh.errors import Location, MeshError

if TYPE_CHECKING:
    import jinja2

WITH_SECRETS = ("/bin/sh", "-c", 'set -a; . /run/secrets/env; set +a; exec "$@"', "--")
"""Entrypoint that gives the real command the variables of secrets/env. `environment:` would show them in `docker inspect`."""


def render_template(
    folder: StackFolder, instance: Instance, values: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """The Compose project of one of the mesh's own stacks, with the service defaults under every service.

    values: what the stack's contract adds to the values that every template sees.
    """
    import jinja2

    where = str(folder.path / TEMPLATE)
    try:
        text = _template(folder.compose).render({**_values(instance), **values})
    except jinja2.TemplateSyntaxError as error:
        raise MeshError("the template is malformed", where=Location(where, error.lineno), why=str(error)) from error
    except (jinja2.TemplateError, TypeError, AttributeError) as error:
        raise MeshError("the template cannot be rendered", where=where, why=f"{instance.name}: {error}") from error
    try:
        project = load_compose(text)
        services = project["services"]
        merged = {str(name): _in_order_of(service, merge(defaults, service)) for name, service in services.items()}
    except (yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        raise MeshError("the template gives no Compose project", where=where, why=f"{instance.name}: {error}") from error
    return {**project, "services": merged}


def _values(instance: Instance) -> dict[str, Any]:
    place = instance.placement
    return {
        "name": instance.name,
        "kind": place.kind,
        "host": place.host.model_dump(mode="json"),
        "bind": place.bind,
        "port": place.port,
        "published": f"{place.bind}:{place.port}",
        "memory": compose_bytes(instance.memory),
        "image": dict(instance.images),
        "with_secrets": list(WITH_SECRETS),
    }


def compose_bytes(size: int) -> str:
    """Bytes as Compose writes a size: `1536m`, or plain bytes where it is not a whole number of MiB."""
    return f"{size // 1024**2}m" if size % 1024**2 == 0 else f"{size}b"


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` wins key by key; mappings are merged, lists and scalars replaced, and null removes the default."""
    result = dict(under)
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merge(result[key], value)
        else:
            result[key] = value
    return result


@cache
def _template(text: str) -> jinja2.Template:
    import jinja2

    def finalize(value: object) -> str:
        return str(value) if isinstance(value, jinja2.Undefined) else as_json(value)  # str() of an undefined value names it

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, finalize=finalize, autoescape=False, trim_blocks=True)
    return environment.from_string(text)


def _in_order_of(first: Mapping[str, Any], merged: Mapping[str, Any]) -> dict[str, Any]:
    """The template's own keys before the defaults': what the service is, then how it is held."""
    return {key: merged[key] for key in (*first, *merged) if key in merged}


def escape_dollars(value: Any) -> Any:
    """Double every `$`, so that Compose's interpolation gives back exactly what was meant."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, Mapping):
        return {escape_dollars(key): escape_dollars(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [escape_dollars(each) for each in value]
    return value

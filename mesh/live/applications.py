"""Applications that keep settings of their own, asked what they go by. Only `mesh drift --deep` does: it costs a sign-in.

Open WebUI: what an administrator changes in its pages counts until it restarts (ENABLE_PERSISTENT_CONFIG is off, which every
drift checks with the rest of the environment), or for good where that is on. Read in Open WebUI 0.12.4 (models/config.py).
LiteLLM runs without a database here (no DATABASE_URL, no STORE_MODEL_IN_DB): its files are all there is, and every drift asks
the live gateways for their routes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mesh.errors import MeshError
from mesh.live.http import HttpError, get_json, stream_json
from mesh.state.deployment import Deployment, SecretPart, Service, StackRelease
from mesh.state.plan import CannotTell, Deviation

if TYPE_CHECKING:
    from mesh.inventory import Inventory

OPEN_WEBUI = "open-webui"
_PASSWORD = "WEBUI_ADMIN_PASSWORD="
_KEYS = {
    "DEFAULT_MODELS": "ui.default_models",
    "DEFAULT_USER_ROLE": "ui.default_user_role",
    "ENABLE_COMMUNITY_SHARING": "ui.enable_community_sharing",
    "ENABLE_DIRECT_CONNECTIONS": "direct.enable",
    "ENABLE_OLLAMA_API": "ollama.enable",
    "ENABLE_SIGNUP": "ui.enable_signup",
    "OPENAI_API_BASE_URL": "openai.api_base_urls",
    "RAG_EMBEDDING_BATCH_SIZE": "rag.embedding_batch_size",
    "RAG_EMBEDDING_ENGINE": "rag.embedding_engine",
    "RAG_EMBEDDING_MODEL": "rag.embedding_model",
    "RAG_OPENAI_API_BASE_URL": "rag.openai.api_base_url",
    "TASK_MODEL_EXTERNAL": "task.model.external",
    "WEBUI_URL": "webui.url",
}
"""Variables of ours -> where Open WebUI keeps what it goes by."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the applications go by against the spec, and what could not be asked."""

    odd: tuple[Deviation, ...] = ()
    unknown: tuple[CannotTell, ...] = ()


def settings_of(inventory: Inventory, deployment: Deployment) -> Asked:
    """Ask every Open WebUI of the deployment. It only reads; signing in is noted by Open WebUI as the account's last visit."""
    odd: list[Deviation] = []
    unknown: list[CannotTell] = []
    for host in deployment.hosts.values():
        for stack in (each for each in host.stacks if each.kind == OPEN_WEBUI and each.probe):
            try:
                odd += [
                    Deviation(host.name, stack.name, "setting", name, why, _mend(stack.services[0], host.name))
                    for name, why in _differing(stack.services[0], _effective(inventory, stack))
                ]
            except MeshError as error:
                why = f"its settings cannot be asked for: {error.what}" + (f" ({error.why})" if error.why else "")
                unknown.append(CannotTell(f"{host.name}/{stack.name}", why, error.mend or _NO_ENTRY))
    return Asked(tuple(odd), tuple(unknown))


_NO_ENTRY = "is the administrator's password still the one in the secrets? Without --deep it is not needed"


def _mend(service: Service, host: str) -> str:
    return f"`docker restart {service.container}` on {host} takes the spec's again, as its settings are not kept"


def _effective(inventory: Inventory, stack: StackRelease) -> Mapping[str, Any]:
    """Every setting that it goes by, keys of its own among them: nothing of it may be shown but what `_KEYS` names."""
    assert stack.probe is not None
    parts = urlsplit(stack.probe.url)
    url = f"{parts.scheme}://{parts.netloc}"
    account = {"email": stack.services[0].environment["WEBUI_ADMIN_EMAIL"], "password": inventory.secrets.value(_secret(stack))}
    try:
        token = str(next(stream_json(f"{url}/api/v1/auths/signin", account, timeout=10))["token"])
        found = get_json(f"{url}/api/v1/configs/export", headers={"Authorization": f"Bearer {token}"})
        return {str(key): value for key, value in found.items()}
    except (StopIteration, KeyError, TypeError, AttributeError):
        raise HttpError("it does not answer like Open WebUI", where=url) from None


def _secret(stack: StackRelease) -> str:
    """The name of the administrator's password."""
    for file in stack.files:
        for before, part in zip(file.text, file.text[1:], strict=False):
            if isinstance(before, str) and before.endswith(_PASSWORD) and isinstance(part, SecretPart):
                return part.name
    raise MeshError("it has no administrator's password among its secrets")


def _differing(service: Service, effective: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for variable, key in sorted(_KEYS.items()):
        wanted = service.environment.get(variable)
        if wanted is not None and key in effective and _text(effective[key]) != wanted:
            yield variable, f"it goes by {_text(effective[key])!r}, should be {wanted!r}: changed in its pages"


def _text(value: Any) -> str:
    """As a variable would say it."""
    if isinstance(value, bool):
        return str(value).lower()
    return ";".join(map(_text, value)) if isinstance(value, list) else "" if value is None else str(value)

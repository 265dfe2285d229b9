"""A Compose project as it runs -> the folder of the inventory that says the same. Pure.

compose.yaml stays as the operator wrote it, comments and all: only what has to be different is replaced in its text.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping

import yaml

from mesh.adopt import nodes
from mesh.adopt.host import FoundContainer, RemoteFile
from mesh.adopt.secrets import Vault, is_secret
from mesh.adopt.source import Adoption, NotAdoptableError, Source
from mesh.compile import dotenv
from mesh.compile.images import ImageLock, ImageRef
from mesh.compile.interpolate import InterpolationError, interpolate, variables
from mesh.compile.library import PLAIN
from mesh.compile.yamltext import ComposeLoader
from mesh.errors import MeshError
from mesh.rules.images import floats
from mesh.state.deployment import dotenv_value
from mesh.state.words import looks_secret

_TEXT_LIMIT = 64 * 1024
_SETTING = re.compile(r"([\w.-]+)[\"']?\s*[:=]\s*(\"[^\"]*\"|'[^']*'|\S+)")
_FLAG = re.compile(r"(?i)(--?[a-z0-9-]*(?:pass|password|token|secret|api-?key)[a-z0-9-]*[= ])([^\s\"'$]+)")
_LONE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_AS_PASSWORD = re.compile(r"://[^/\s]*:\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?@")
_LITERAL_DEFAULT = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*:?-[^}$]+\}")


_TEXTS = frozenset({"command", "entrypoint", "environment", "healthcheck", "labels"})
"""Keys of a service below which a secret may stand in the middle of a text."""


def adoption(
    source: Source,
    fetched: Mapping[str, RemoteFile],
    digests: Mapping[str, tuple[str, ...]],
    lock: ImageLock,
    taken: Mapping[str, str],
) -> Adoption:
    """What to write. digests: RepoDigests by image id. taken: secrets of the inventory. Raises NotAdoptableError, MeshError."""
    return _Builder(source, fetched, digests, lock, taken).build()


class _Builder:
    def __init__(
        self,
        source: Source,
        fetched: Mapping[str, RemoteFile],
        digests: Mapping[str, tuple[str, ...]],
        lock: ImageLock,
        taken: Mapping[str, str],
    ) -> None:
        self.source, self.project, self.fetched, self.digests, self.lock = source, source.project, fetched, digests, lock
        self.vault = Vault(self.project.name, taken)
        self.root = yaml.compose(source.compose, Loader=ComposeLoader)
        self.new: dict[int, tuple[yaml.ScalarNode, str]] = {}
        self.files: dict[str, tuple[bytes, bool]] = {}
        self.pins: dict[str, str] = {}
        self.pinned: list[str] = []
        self.stays: list[str] = []
        self.notes: list[str] = []
        self.more_variables: dict[str, str] = {}

    def build(self) -> Adoption:
        variables_text = self._variables()
        services = nodes.get(self.root, "services")
        assert isinstance(services, yaml.MappingNode)
        for key, node in services.value:
            self._environment(key.value, node)
        for written in dict.fromkeys(self.source.env_files()):
            self._env_file(written)
        for key, node in services.value:
            self._image(key.value, node)
            self._volumes(node)
        self._sections()
        self._everywhere()
        self._profiles()
        variables_text += "".join(f"{name}={value}\n" for name, value in self.more_variables.items())
        if variables_text.strip():
            self.files[".env"] = (variables_text.encode(), False)
        self.files[PLAIN] = (self._text().encode(), False)
        vault = self.vault
        return Adoption(
            project=self.project,
            files=dict(sorted(self.files.items())),
            env={name: secret for name, (secret, _) in sorted(vault.variables.items())},
            secret_files={name: secret for name, (secret, _) in sorted(vault.files.items())},
            values=dict([*vault.variables.values(), *vault.files.values()]),
            pins=self.pins,
            pinned=tuple(dict.fromkeys(self.pinned)),
            stays=tuple(dict.fromkeys(self.stays)),
            notes=tuple(dict.fromkeys(self.notes)),
        )

    # secrets

    def _variables(self) -> str:
        """.env without its secrets, which become variables of the spec under the same names."""
        text, cut = self.source.variables, 0
        kept = ""
        found = list(dotenv.assignments(text, ".env"))
        last = {each.key: each for each in found}
        handed = set(self._handed_on())
        secrets = {name for name in last if is_secret("password" if name in handed else name, self.source.known[name])}
        for each in found:
            start, end = text.rfind("\n", 0, each.start) + 1, text.find("\n", each.end) + 1 or len(text)
            if each.key in secrets or last[each.key] is not each:
                kept, cut = kept + text[cut:start], end
        kept += text[cut:]
        self.vault.reserved = frozenset(self.source.known) - secrets
        for name in sorted(secrets):
            self.vault.variable(name, self.source.known[name])
        return kept if not kept or kept.endswith("\n") else f"{kept}\n"

    def _handed_on(self) -> Iterator[str]:
        """Variables that a service gets as a secret, or in the place of a password, whatever they are called."""
        for service in self.source.data["services"].values():
            environment = service.get("environment") or ()
            pairs = (
                environment.items()
                if isinstance(environment, Mapping)
                else (str(each).partition("=")[::2] for each in environment)
            )
            for name, raw in pairs:
                lone = _LONE.fullmatch(str(raw))
                if lone and looks_secret(str(name), ""):
                    yield lone[1] or lone[2]
                yield from _AS_PASSWORD.findall(str(raw))

    def _environment(self, service: str, node: yaml.Node) -> None:
        environment = nodes.get(node, "environment") if isinstance(node, yaml.MappingNode) else None
        runs = self.project.of(service)
        if isinstance(environment, yaml.MappingNode):
            for name, value in nodes.entries(environment):
                if isinstance(value, yaml.ScalarNode) and value.tag != "tag:yaml.org,2002:null":
                    self._put(value, self._value(name, value.value, runs))
        elif isinstance(environment, yaml.SequenceNode):
            for each in environment.value:
                name, given, raw = each.value.partition("=")
                if given:
                    self._put(each, f"{name}={self._value(name, raw, runs)}")

    def _value(self, name: str, raw: str, runs: FoundContainer | None) -> str:
        """What is written for a variable of a container: a secret becomes a variable of the spec."""
        try:
            value = interpolate(raw, self.source.known.get)
        except InterpolationError:
            return self._from_shell(name, raw, runs)
        if not is_secret(name, value) or not _holds_secret(name, raw):
            return raw
        lone = re.match(r"\$\{([A-Za-z_][A-Za-z0-9_]*):?-", raw)
        if lone and lone[1] in self.source.known:
            return raw.replace(_LITERAL_DEFAULT.search(raw)[0], f"${{{lone[1]}}}")  # type: ignore[index]
        return f"${{{self.vault.variable(lone[1] if lone else name, value)}}}"

    def _from_shell(self, name: str, raw: str, runs: FoundContainer | None) -> str:
        """A variable of the shell that started the project: the container knows its value, or it was left blank."""
        lone = _LONE.fullmatch(raw)
        for each in variables(raw):
            if each in self.source.known:
                continue
            value = runs.environment.get(name, "") if lone and runs else ""
            if value and is_secret(name, value):
                self.vault.variable(each, value)
            else:
                self.more_variables[each] = dotenv_value(value) if value else ""
            self.source.known[each] = value
            self.notes.append(f"${each} came from the shell that started it; it is written down as it was")
        return raw

    def _env_file(self, written: str) -> None:
        path = self.source.path(written)
        inside = _inside(self.project.folder, path)
        if inside is None or written.startswith("/"):
            self.stays.append(path)
            self._replace_path(written, path)
            return
        if inside == ".env" and not self.project.env_files:
            return
        file = self.fetched.get(path)
        if file is None:
            return  # the compiler says so, unless it is not required
        if file.text is None:
            raise NotAdoptableError(f"its env_file {path} is no text")
        text, edited, cut = file.text, "", 0
        for each in dotenv.assignments(text, path):
            try:
                value = each.value(self.source.known.get)
            except InterpolationError as error:
                raise NotAdoptableError(f"{path}:{each.line}: {error}") from None
            raw = value.replace("$", "$$") if each.quote == "'" else each.text.replace("\\$", "$$")
            if is_secret(each.key, value) and _holds_secret(each.key, raw):
                variable = self.vault.variable(each.key, value)
                edited, cut = f"{edited}{text[cut : each.start]}${{{variable}}}", each.end
        self.files[inside] = ((edited + text[cut:]).encode(), False)

    def _everywhere(self) -> None:
        """Secrets in commands, labels and health checks: those that are known by now, and what follows a flag."""
        places = [value for each in nodes.walk(self.root) for key, value in nodes.children(each) if key in _TEXTS]
        scalars = list({id(node): node for place in places for node in nodes.scalars(place)}.values())
        for node in scalars:
            text = self.new.get(id(node), (node, node.value))[1]
            if len(text) < 2 or node.tag == "tag:yaml.org,2002:null":
                continue

            def flagged(match: re.Match[str]) -> str:
                if not is_secret("password", match[2]):
                    return match[0]
                flag = match[1].strip("-= ").replace("-", "_").upper()
                return f"{match[1]}${{{self.vault.variable(flag, match[2])}}}"

            self._put(node, _FLAG.sub(flagged, text))
        for sequence in (each for place in places for each in nodes.walk(place) if isinstance(each, yaml.SequenceNode)):
            for flag, node in zip(sequence.value, sequence.value[1:], strict=False):
                if isinstance(node, yaml.ScalarNode) and isinstance(flag, yaml.ScalarNode):
                    match = _FLAG.fullmatch(f"{flag.value} {node.value}")
                    if match and flag.value.startswith("-") and is_secret("password", node.value):
                        variable = self.vault.variable(flag.value.strip("-").replace("-", "_").upper(), node.value)
                        self._put(node, f"${{{variable}}}")
        ordinary = self._ordinary()
        for node in scalars:
            self._put(node, self.vault.hidden(self.new.get(id(node), (node, node.value))[1], ordinary))

    def _ordinary(self) -> frozenset[str]:
        """Names and settings that a weak password may be the same as."""
        environments = (each.environment.items() for each in self.project.containers)
        settings = {value for pairs in environments for name, value in pairs if not is_secret(name, value)}
        return frozenset(settings | {self.project.name, *self.source.data["services"]})

    # images

    def _image(self, service: str, node: yaml.Node) -> None:
        written = nodes.get(node, "image") if isinstance(node, yaml.MappingNode) else None
        runs = self.project.of(service)
        if not isinstance(written, yaml.ScalarNode) or runs is None:
            return
        try:
            reference = ImageRef.parse(interpolate(written.value, self.source.known.get))
        except InterpolationError:
            reference = ImageRef.parse(runs.image)
            self._put(written, str(reference))
        if reference.digest:
            return
        digest = self._digest(reference, runs)
        tag = reference.tag or "latest"
        if digest is None:
            if floats(tag):
                raise NotAdoptableError(
                    f"{service} runs {reference}, which was built or loaded there and has no version: tag it with one, "
                    "write that into its compose.yaml, and bring it up"
                )
            return
        name = f"{reference.repo}:{tag}"
        known = self.lock.images[name].digest if name in self.lock.images else self.pins.get(name, digest)
        if floats(tag) or known != digest:
            self._put(written, f"{name}@{digest}")
        else:
            self.pins[name] = digest
        self.pinned.append(f"{name}@{digest[7:19]}")

    def _digest(self, reference: ImageRef, runs: FoundContainer) -> str | None:
        """Of the image that runs, as the registry of the reference gave it."""
        for each in self.digests.get(runs.image_id, ()):
            repo, _, digest = each.partition("@")
            if _familiar(repo) == _familiar(reference.repo):
                return digest
        return None

    # files

    def _volumes(self, node: yaml.Node) -> None:
        volumes = nodes.get(node, "volumes") if isinstance(node, yaml.MappingNode) else None
        for each in volumes.value if isinstance(volumes, yaml.SequenceNode) else ():
            if isinstance(each, yaml.ScalarNode) and each.value.startswith("."):
                source, colon, rest = each.value.partition(":")
                only = ":" in rest and "ro" in rest.rpartition(":")[2].split(",")
                self._put(each, f"{self._mounted(source, only)}{colon}{rest}")
            elif isinstance(each, yaml.MappingNode):
                source_node, only_node = nodes.get(each, "source"), nodes.get(each, "read_only")
                if isinstance(source_node, yaml.ScalarNode) and source_node.value.startswith("."):
                    only = only_node is not None and str(only_node.value).lower() == "true"
                    self._put(source_node, self._mounted(source_node.value, only))

    def _mounted(self, written: str, only: bool) -> str:
        """Where a bind mount takes its content from: the folder for configuration, the host as before for everything else."""
        path = self.source.path(written)
        inside = _inside(self.project.folder, path)
        found = self.fetched.get(path)
        below = {name: file for name, file in self.fetched.items() if name.startswith(f"{path}/") and not file.folder}
        if inside and found and not found.folder and _is_config(found, only):
            self.files[inside] = ((found.content or b""), _executable(found))
        elif inside and found and found.folder and only and below and all(_is_config(each, only) for each in below.values()):
            for name, file in below.items():
                self.files[f"{inside}{name.removeprefix(path)}"] = ((file.content or b""), _executable(file))
        else:
            if found and not found.folder and found.text is not None:
                self.notes.append(f"{path} stays on the host: it is private, writable or holds what looks like a secret")
            self.stays.append(path)
            return path
        return written

    def _sections(self) -> None:
        for section in ("configs", "secrets"):
            declared = nodes.get(self.root, section)
            for name, node in nodes.entries(declared) if isinstance(declared, yaml.MappingNode) else ():
                file_node = nodes.get(node, "file") if isinstance(node, yaml.MappingNode) else None
                if not isinstance(file_node, yaml.ScalarNode):
                    continue
                path = self.source.path(file_node.value)
                inside, file = _inside(self.project.folder, path), self.fetched.get(path)
                if section == "secrets" and file and file.text:
                    self._put(file_node, f"./secrets/{self.vault.file(name, file.text)}")
                    if file.mode[7:8] == "r":
                        self.notes.append(f"secret {name}: from its next change on only root reads it")
                elif section == "configs" and inside and file and _is_config(file, True):
                    self.files[inside] = ((file.content or b""), _executable(file))
                else:
                    self.stays.append(path)
                    self._put(file_node, path)

    def _replace_path(self, written: str, path: str) -> None:
        for node in nodes.scalars(self.root):
            if node.value == written:
                self._put(node, path)

    def _profiles(self) -> None:
        running = {each.service for each in self.project.containers}
        wanted = [
            str(service["profiles"][0])
            for name, service in self.source.data["services"].items()
            if name in running and service.get("profiles")
        ]
        if wanted and "COMPOSE_PROFILES" not in self.source.known:
            self.more_variables["COMPOSE_PROFILES"] = ",".join(dict.fromkeys(wanted))
        gone = sorted(running - set(self.source.data["services"]))
        if gone:
            raise NotAdoptableError(f"its compose.yaml has no service {', '.join(gone)}, which runs: bring it up first")

    # text

    def _put(self, node: yaml.ScalarNode, text: str) -> None:
        if text != node.value or id(node) in self.new:
            self.new[id(node)] = (node, text)

    def _text(self) -> str:
        text = self.source.compose
        edits = sorted(self.new.values(), key=lambda item: item[0].start_mark.index, reverse=True)
        for node, value in edits:
            if value == node.value:
                continue
            start, end = node.start_mark.index, node.end_mark.index
            tail = "\n" if text[end - 1 : end] == "\n" else ""
            text = f"{text[:start]}{nodes.as_text(value, node)}{tail}{text[end:]}"
        return text


def _holds_secret(name: str, raw: str) -> bool:
    """Whether the text itself holds a secret, beside the variables in it: those are looked at where they are set."""
    if not variables(raw) or _LITERAL_DEFAULT.search(raw):
        return True
    return is_secret(name, _LONE.sub("", raw).replace(":@", "@"))


def _inside(folder: str, path: str) -> str | None:
    """The path relative to the folder; None where it is not below it."""
    relative = posixpath.relpath(path, folder)
    return None if relative == "." or relative.startswith("..") else relative


def _is_config(file: RemoteFile, only: bool) -> bool:
    """A small text that the app only reads, that everybody may read, and in which nothing looks like a secret."""
    text = file.text
    if text is None or len(text) > _TEXT_LIMIT or file.mode[7:8] != "r" or (not only and file.owner != "0"):
        return False
    return not any(is_secret(match[1], match[2].strip("\"'")) for match in _SETTING.finditer(text))


def _executable(file: RemoteFile) -> bool:
    return file.mode[3:4] in {"x", "s"}


def _familiar(repo: str) -> str:
    for prefix in ("docker.io/library/", "docker.io/"):
        repo = repo.removeprefix(prefix)
    return repo


def refused(error: MeshError) -> str:
    """An error of the compiler's about the project's file, as a reason not to adopt it."""
    return f"{error.where}: {error.what}" + (f" ({error.why})" if error.why else "")

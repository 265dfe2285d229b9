"""docs/rules.md: a page a rule, made from the docstrings. `python -m mesh.rules.pages` writes it; a test keeps it in step."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.findings import Severity
from mesh.paths import PROJECT
from mesh.rules import check  # noqa: F401  importing it registers every rule
from mesh.rules.rule import RULES

FILE = PROJECT / "docs" / "rules.md"


@dataclass(frozen=True, slots=True)
class Page:
    """What there is to say about a rule: a first sentence, and all of it."""

    severity: Severity
    text: str

    @property
    def title(self) -> str:
        first = self.text.split("\n\n", 1)[0].replace("\n", " ")
        return first.split(". ", 1)[0].removesuffix(".")


_LOADING = {
    "spec-missing": "The spec, or a file that it extends, is not there or is not a file that can be read.",
    "spec-ambiguous": "The inventory has more than one of mesh.yaml, mesh.yml and mesh.py. Only one can be the spec.",
    "spec-empty": "The file has nothing in it.",
    "spec-encoding": "The file is not UTF-8 text, or has control characters in it.",
    "spec-syntax": "The file is not valid YAML, or uses a part of YAML that a spec has no use for (tags, lists as keys).",
    "spec-alias": "An alias (`*NAME`) stands for something that is not there, or for something that it is itself a part of.",
    "spec-limit": "The file is larger, deeper or, with its aliases written out, longer than any spec is.",
    "spec-extends": "`extends:` names a file that cannot be read, or files extend each other in a circle.",
    "spec-python": "A spec in Python (mesh.py) does not run, or does not define `mesh`.",
    "spec-key-duplicate": "A key is there twice. YAML would silently take the second.",
    "spec-key-unknown": "A key that means nothing there. Mostly a typing mistake.",
    "spec-key-missing": "A key that is needed there and is not given.",
    "spec-value": "A value that cannot be used there: of the wrong kind, without its unit, out of range.",
    "stack-folder": "The folder of a stack is missing, or what is in it does not make a stack.",
    "stack-compile": "The rules found nothing wrong, and yet a stack cannot be made from the spec; its folder says why.",
    "secret-file": "inventory/secrets.age or secrets.index cannot be read.",
    "image-lock": "inventory/images.lock cannot be read.",
}
"""What is found while reading, before any rule runs. Always an error."""


def pages() -> dict[str, Page]:
    """Every page by the rule's id."""
    return {rule: Page("error", text) for rule, text in _LOADING.items()} | {
        rule.id: Page(rule.severity, rule.page) for rule in RULES.values()
    }


def markdown() -> str:
    """The text of docs/rules.md."""
    lines = [
        "# Rules of `mesh check`",
        "",
        "Made from the code by `python -m mesh.rules.pages`; edit the docstrings in mesh/rules, not this page.",
        "",
        "An error fails the check (exit 1); a warning and a notice do not.",
    ]
    for rule, page in sorted(pages().items()):
        lines += ["", f"## {rule}", "", f"*{page.severity}*", "", page.text]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    FILE.write_text(markdown(), encoding="utf-8")

"""Where the project's own files are: the tool runs from its checkout, because stacks and templates are meant to be edited."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
STACKS = PROJECT / "stacks"
TEMPLATES = PROJECT / "templates"
DEPLOYS = PROJECT / "deploys"
DATA = PROJECT / "mesh" / "data"
INVENTORY = PROJECT / "inventory"

"""What `mesh drift` is told to keep quiet about, why, and until when."""

from __future__ import annotations

import re
from datetime import date

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from mesh.spec.types import Spec
from mesh.state import ignores

SUBJECTS = ("file", "service", "container", "model", "route", "image", "card", "volume", "network", "setting")
_WHAT = rf"(?P<host>[^/\s]+)/(?:(?P<stack>[^/\s]+)/)?(?P<subject>{'|'.join(SUBJECTS)}|\*) (?P<name>\S.*)"


class Ignore(Spec):
    """One thing that drift does not report for a while. `mesh apply` mends it all the same, and `mesh plan` shows it."""

    what: str = Field(description="HOST/STACK/SUBJECT NAME as drift prints it, with * for any text: nas/web/service web.")
    why: str = Field(
        default="*", min_length=1, description="Only where every reason that drift gives is like this: 'memory limit*'."
    )
    reason: str = Field(min_length=3, description="Why it may stay as it is, for whoever reads this next.")
    until: date = Field(description="The last day on which it is ignored, at most a year ahead: 2026-12-31.")

    @field_validator("what")
    @classmethod
    def _a_known_shape(cls, value: str) -> str:
        if not re.fullmatch(_WHAT, value):
            mend = f"write HOST/STACK/SUBJECT NAME, such as nas/web/service web; SUBJECT is one of {', '.join(SUBJECTS)}"
            raise PydanticCustomError("ignore", "`{shown}` names nothing that drift reports", {"shown": value, "mend": mend})
        return value

    @property
    def entry(self) -> ignores.Ignore:
        """As drift uses it."""
        match = re.fullmatch(_WHAT, self.what)
        assert match is not None
        return ignores.Ignore(self.what, self.why, self.reason, self.until.isoformat(), **match.groupdict())


class Drift(Spec):
    """Settings of `mesh drift`."""

    ignore: tuple[Ignore, ...] = ()

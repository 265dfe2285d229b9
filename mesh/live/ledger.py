"""The gateway's ledger, summed by route and model on its own host: sums travel, rows do not."""

from __future__ import annotations

import json
import shlex

from mesh.errors import MeshError
from mesh.fit.volumes import MONTH_DAYS, Counted, Ledger
from mesh.live.ssh import Target, run_script
from mesh.state.observed import Unknown

PATH = "/var/lib/mesh/ledger.db"
"""In the gateway's containers."""
_DAY_MS = 86_400_000
QUERY = f"""
import json, sqlite3, time
since = int(time.time() * 1000) - {int(MONTH_DAYS)} * {_DAY_MS}
ledger = sqlite3.connect("file:{PATH}?mode=ro", uri=True, timeout=5)
rows = ledger.execute(
    "SELECT route, model, count(*), total(tokens_in), total(tokens_out), total(cost) FROM requests"
    " WHERE time >= ? AND status IS NOT NULL GROUP BY 1, 2 HAVING model IS NOT NULL OR total(cost) > 0", (since,)).fetchall()
oldest = ledger.execute("SELECT min(time) FROM requests WHERE time >= ?", (since,)).fetchone()[0]
print(json.dumps(dict(milliseconds=int(time.time() * 1000) - oldest if oldest else 0, rows=rows)))
"""


def read_ledger(target: Target, stack: str, docker: str) -> Ledger:
    """What the gateway of `stack` counted in the last 30 days. Raises MeshError where it cannot be asked.

    Both gateways write one file, so the first container that can read it answers for both.
    """
    where = f"{target.name}/{stack}"
    script = (
        f"docker={shlex.quote(docker)}\n"
        f'for each in $("$docker" ps -q --filter label=com.docker.compose.project={shlex.quote(stack)}); do\n'
        f'  if "$docker" exec "$each" python3 -c {shlex.quote(QUERY)} 2>/dev/null; then exit 0; fi\n'
        "done\n"
    )
    answer = run_script(target, script)
    if isinstance(answer, Unknown):
        raise MeshError("the gateway's ledger cannot be read", where=where, why=answer.why, mend=answer.mend)
    if not answer.strip():
        why, mend = "no gateway that runs there has one", "`mesh drift` tells what is wrong there; or write routes.NAME.volume"
        raise MeshError("the gateway's ledger cannot be read", where=where, why=why, mend=mend)
    return parse_ledger(answer, where)


def parse_ledger(text: str, where: str) -> Ledger:
    """The answer of the query. Raises MeshError for anything else."""
    try:
        data = json.loads(text)
        rows = tuple(
            Counted(str(route), str(model or ""), int(requests), int(tokens_in), int(tokens_out), int(cost) / 1e6)
            for route, model, requests, tokens_in, tokens_out, cost in data["rows"]
        )
        return Ledger(int(data["milliseconds"]) / _DAY_MS, rows)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise MeshError("the gateway's ledger answered oddly", where=where, why=str(error)) from None

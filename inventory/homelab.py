"""pyinfra's inventory, computed from the spec: pyinfra inventory/homelab.py deploys/site.py"""

import os
import sys
from pathlib import Path

_here = Path(__file__).resolve().parent
sys.path.insert(0, str(_here.parent))
os.environ.setdefault("MESH_INVENTORY", str(_here))

from deploys.run import folder, reach  # noqa: E402
from mesh.live.ssh import Target  # noqa: E402


def _data(target: Target) -> dict[str, object]:
    reach = target.reach
    return {
        "ssh_hostname": reach.address,
        "ssh_user": reach.user,
        "ssh_port": reach.port,
        "ssh_known_hosts_file": str(target.known_hosts),
        "ssh_strict_host_key_checking": "yes",
        "_sudo": reach.user != "root",
    } | ({"ssh_key": str(target.key)} if target.key else {})


hosts = [(name, _data(Target(name, each, folder()))) for name, each in reach().items()]

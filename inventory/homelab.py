"""pyinfra's inventory, computed from the spec: pyinfra inventory/homelab.py deploys/site.py"""

import os
import sys
from pathlib import Path

_here = Path(__file__).resolve().parent
sys.path.insert(0, str(_here.parent))
os.environ.setdefault("MESH_INVENTORY", str(_here))

from deploys.run import current  # noqa: E402
from mesh.live.ssh import Target  # noqa: E402

_run = current()


def _data(target: Target) -> dict[str, object]:
    ssh = target.host.ssh
    return {
        "ssh_hostname": target.host.address,
        "ssh_user": ssh.user,
        "ssh_port": ssh.port,
        "ssh_known_hosts_file": str(target.known_hosts),
        "ssh_strict_host_key_checking": "yes",
        "_sudo": ssh.user != "root",
    } | ({"ssh_key": str(target.key)} if target.key else {})


hosts = [(name, _data(Target(name, host, _run.inventory.dir))) for name, host in _run.inventory.mesh.hosts.items()]

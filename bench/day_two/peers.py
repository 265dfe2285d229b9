"""The peers: what an operator would otherwise write for the same stacks. Files are those that `mesh render` writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml
from fleet import ROOT, Fleet

ANSIBLE = "ansible==12.3.0"
PYTHON = "command -v python3 || { apt-get update && apt-get install -y --no-install-recommends python3; }"
"""Ansible's modules need Python on the hosts."""


def ansible_environment(folder: Path) -> Path:
    """Folder of Ansible's commands; installed the first time."""
    commands = folder / "ansible" / "bin"
    if not (commands / "ansible-playbook").exists():
        print("installing Ansible (about a minute)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(commands.parent)], check=True)
        subprocess.run([str(commands / "pip"), "install", "-q", "--disable-pip-version-check", ANSIBLE], check=True)
    return commands


def write_playbook(folder: Path, fleet: Fleet, rendered: Path, ssh: Path) -> list[str]:
    """The playbook and its inventory; the arguments of ansible-playbook. Three hosts side by side, SSH connections kept."""
    hosts = {name: {"ansible_host": address, "ansible_user": "root"} for name, address in fleet.hosts.items()}
    for name, variables in hosts.items():
        variables["stacks"] = [stack for stack, on in fleet.placement.items() if on == name]  # type: ignore[assignment]
    (folder / "hosts.yaml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    each = "{{ rendered }}/{{ inventory_hostname }}" + ROOT + "/stacks/{{ item }}"
    tasks = [
        {
            "name": "files",
            "ansible.builtin.copy": {"src": each + "/", "dest": ROOT + "/stacks/{{ item }}/", "mode": "preserve"},
            "loop": "{{ stacks }}",
        },
        {
            "name": "up",
            "community.docker.docker_compose_v2": {"project_src": ROOT + "/stacks/{{ item }}", "state": "present"},
            "loop": "{{ stacks }}",
        },
    ]
    play = [{"hosts": "all", "gather_facts": False, "vars": {"rendered": str(rendered)}, "tasks": tasks}]
    (folder / "site.yaml").write_text(yaml.safe_dump(play, sort_keys=False))
    return ["-i", str(folder / "hosts.yaml"), "--ssh-common-args", f"-F {ssh}", str(folder / "site.yaml")]


def write_pyinfra(folder: Path, fleet: Fleet, rendered: Path, key: Path, known_hosts: Path) -> list[str]:
    """A plain pyinfra deploy and its inventory; the arguments of pyinfra."""
    places = {
        name: {
            "ssh_hostname": address,
            "ssh_user": "root",
            "ssh_key": str(key),
            "ssh_known_hosts_file": str(known_hosts),
            "stacks": [stack for stack, on in fleet.placement.items() if on == name],
        }
        for name, address in fleet.hosts.items()
    }
    (folder / "plain_hosts.py").write_text(f"closet = {list(places.items())!r}\n")
    (folder / "plain_deploy.py").write_text(
        "from pathlib import Path\n"
        "from pyinfra import host\n"
        "from pyinfra.operations import files, server\n"
        f"rendered = Path({str(rendered)!r}) / host.name\n"
        "for stack in host.data.stacks:\n"
        f"    folder = '{ROOT}/stacks/' + stack\n"
        "    for file in sorted(Path(str(rendered) + folder).iterdir()):\n"
        "        files.put(src=str(file), dest=f'{folder}/{file.name}', mode=oct(file.stat().st_mode & 0o777)[2:])\n"
        "    server.shell(commands=[f'docker compose --project-directory {folder} up -d'])\n"
    )
    return [str(folder / "plain_hosts.py"), str(folder / "plain_deploy.py")]

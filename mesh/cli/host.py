"""`mesh host trust`: know a host's key, and give CI a key to it that can do nothing but tell how the stacks are."""

from __future__ import annotations

import shlex
from pathlib import Path

from mesh.cli.output import confirm, note
from mesh.errors import EXIT_ERROR, EXIT_OK, MeshError
from mesh.inventory import Inventory, open_inventory
from mesh.live.hostkeys import entry_of, known, public_key, scan, trust
from mesh.live.ssh import Target, run_script
from mesh.state.observed import Unknown
from mesh.state.script import installed_script
from mesh.suggest import Suggester

CI_KEY = "ci.pub"


def run(
    folder: Path,
    name: str,
    *,
    fingerprint: str | None = None,
    yes: bool = False,
    read_only: bool = False,
    key: Path | None = None,
) -> int:
    """Trust the host's key; read_only: install what CI's key may run, and the key. 0 done, 1 not."""
    inventory = open_inventory(folder)
    hosts = inventory.mesh.hosts
    if name not in hosts:
        mend = Suggester().mend(name, hosts, f"the spec has {', '.join(hosts)}")
        raise MeshError(f"there is no host {name} in the spec", where="mesh host trust", mend=mend)
    target = Target(name, hosts[name].reach, folder)
    if not _trust(target, fingerprint, yes=yes):
        return EXIT_ERROR
    return _install(inventory, target, key or folder / CI_KEY, yes=yes) if read_only else EXIT_OK


def _trust(target: Target, fingerprint: str | None, *, yes: bool) -> bool:
    """Whether the key that the host answers with is in known_hosts now."""
    address, port, path = target.reach.address, target.reach.port, target.known_hosts
    key = scan(address, port)
    before = known(path, address, port)
    if key in before and fingerprint in {None, key.fingerprint}:
        print(f"{target.name}: its key is known already: {key.fingerprint} ({key.kind})")
        return True
    said = f"{target.name} ({entry_of(address, port)}) answers with {key.fingerprint} ({key.kind})"
    if fingerprint is not None:
        if fingerprint != key.fingerprint:
            why = f"{said}, and you expect {fingerprint}"
            mend = "do not trust it until you know why: `ssh-keygen -lf` on the host's own console tells its fingerprints"
            raise MeshError("something else answers than the host", where=target.name, why=why, mend=mend)
    else:
        print(said)
        for old in before:
            print(f"  known_hosts has another one: {old.fingerprint} ({old.kind}). Was the host installed anew?")
        print(_COMPARE[key.kind.split("-")[1] if key.kind.startswith("ssh") else "ecdsa"])
        if yes:
            mend = f"compare it, then --fingerprint {key.fingerprint}"
            raise MeshError("-y trusts no key that nobody has compared", where=target.name, mend=mend)
        if not confirm("Is it the same there?", otherwise=f"compare it, then --fingerprint {key.fingerprint}"):
            note("nothing was changed")
            return False
    trust(path, address, port, key)
    print(f"{path}: {target.name} is known by {key.fingerprint}")
    return True


_COMPARE = {
    kind: f"  on the host's own console: ssh-keygen -lf /etc/ssh/ssh_host_{kind}_key.pub" for kind in ("ed25519", "ecdsa", "rsa")
}


def authorized_line(root: str, user: str, key: str) -> str:
    """The line of authorized_keys: whatever is asked for, this one program runs, with no terminal and no forwarding."""
    command = f"{root}/bin/observe" if user == "root" else f"sudo -n {root}/bin/observe"
    return f'restrict,command="{command}" {key}'


def _install(inventory: Inventory, target: Target, path: Path, *, yes: bool) -> int:
    key = public_key(path)
    mesh, user = inventory.mesh, target.reach.user
    line = authorized_line(mesh.root, user, key)
    print(f"{target.name}: {mesh.root}/bin/observe and this line of {user}'s authorized_keys:\n  {line}")
    if not yes and not confirm("Install both?", otherwise="read them, then run it with -y"):
        note("nothing was changed")
        return EXIT_ERROR
    answer = run_script(target, install_script(mesh.root, user, key, installed_script(mesh.root, target.reach.docker, mesh.mesh)))
    if isinstance(answer, Unknown):
        raise MeshError("it could not be installed", where=target.name, why=answer.why, mend=answer.mend)
    if answer.strip() != "installed":
        mend = "make a key for CI alone, and remove this one from the host" if "everything" in answer else ""
        raise MeshError("it could not be installed", where=target.name, why=" ".join(answer.split()), mend=mend)
    print(f"{target.name}: installed; the key's owner can run `mesh drift` and nothing else there")
    return EXIT_OK


def install_script(root: str, user: str, key: str, program: str) -> str:
    """The script that puts the program and the line in place, and prints `installed` or why not. It may run again."""
    return _INSTALL.format(
        root=shlex.quote(root),
        user=shlex.quote(user),
        blob=shlex.quote(key.split()[1]),
        line=shlex.quote(authorized_line(root, user, key)),
        program=program,
    )


_INSTALL = """\
main() {{
    root={root} user={user} blob={blob} line={line}
    umask 022
    home=$(awk -F: -v user="$user" '$1 == user {{ print $6 }}' /etc/passwd)
    [ -d "$home" ] || {{ echo "$user has no home on this host"; return; }}
    keys=$home/.ssh/authorized_keys
    if grep -F -- "$blob" "$keys" 2>/dev/null | grep -v -q 'restrict,command='; then
        echo "this key may do everything there already"
        return
    fi
    mkdir -p "$root/bin" && cat >"$root/bin/observe.new" && chmod 755 "$root/bin/observe.new" &&
        mv "$root/bin/observe.new" "$root/bin/observe" || {{ echo "cannot write to $root/bin"; return; }}
    [ -d "$home/.ssh" ] || {{ mkdir -m 700 "$home/.ssh" && chown "$user" "$home/.ssh"; }}
    {{ grep -v -F -- "$blob" "$keys" 2>/dev/null; printf '%s\\n' "$line"; }} >"$keys.new" &&
        chmod 600 "$keys.new" && chown "$user" "$keys.new" && mv "$keys.new" "$keys" && echo installed
}}
main <<'MESH_END' 2>&1
{program}MESH_END
"""

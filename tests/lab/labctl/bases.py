"""The base images: Debian's slim images where a container registry can be reached, else made from the Debian archive."""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import re
import shutil
import signal
import ssl
import subprocess
from pathlib import Path

from labctl.engine import Engine
from labctl.settings import PREFIX, cache
from labctl.shell import apt_install, run, say, step, tail, unmount_below, wait_until
from mesh.errors import MeshError

HUB = "registry-1.docker.io"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SUITES = ("trixie", "bookworm")

NOT_IN_A_SLIM_IMAGE = ("var/cache/apt", "var/lib/apt/lists", *(f"usr/share/{name}" for name in ("doc", "info", "locale", "man")))


def base_tag(suite: str) -> str:
    return f"{PREFIX}/debian:{suite}-slim"


def archive() -> str:
    """The Debian archive: $LAB_DEBIAN_MIRROR, else the one that this machine's apt uses, else debootstrap's own default."""
    given = os.environ.get("LAB_DEBIAN_MIRROR")
    if given:
        return given.rstrip("/")
    sources = [*Path("/etc/apt").glob("sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    script = Path("/usr/sbin/debootstrap")
    for file, pattern in [*((each, r"(https?://\S+/debian)/?\s") for each in sources), (script, r'^DEF_MIRROR="(.+)"')]:
        found = re.search(pattern, file.read_text(errors="replace"), re.MULTILINE) if file.is_file() else None
        if found:
            return found[1].rstrip("/")
    raise MeshError("no Debian archive is known here", where="lab", mend="name one: LAB_DEBIAN_MIRROR=URL bin/lab up")


def offline() -> bool:
    """LAB_OFFLINE=1 says that no registry is to be used, without asking any."""
    return os.environ.get("LAB_OFFLINE") == "1"


@functools.cache
def registry_in_reach() -> bool:
    """Whether Docker Hub's registry answers within 3 s."""
    if offline():
        return False
    connection = http.client.HTTPSConnection(HUB, timeout=3, context=ssl.create_default_context())
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status in (200, 401)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def ensure_base(engine: Engine, suite: str) -> str:
    """The id of the base image, pulled or made if it is not there yet."""
    tag = base_tag(suite)
    known = engine.docker("image", "inspect", "--format", "{{.Id}}", tag, check=False)
    if known.returncode == 0:
        return known.stdout.strip()
    if suite not in SUITES:
        raise MeshError(f"no base image for Debian {suite}", where="tests/lab/images", mend=f"use one of {', '.join(SUITES)}")
    if not (registry_in_reach() and pull(engine, f"debian:{suite}-slim", tag)):
        _make(engine, suite, tag)
    return engine.docker("image", "inspect", "--format", "{{.Id}}", tag).stdout.strip()


def pull(engine: Engine, source: str, tag: str) -> bool:
    """Whether the image could be pulled; it then has the lab's tag too."""
    with step(f"pulling {source}"):
        pulled = engine.docker("pull", "--quiet", source, check=False)
    if pulled.returncode:
        say(f"{source} cannot be pulled, so it is made here: {tail(pulled.stderr, 1)}")
        return False
    engine.docker("tag", source, tag)
    return True


def clear() -> None:
    """What a killed run left of a base image in the making."""
    for root in cache().glob("debootstrap-*"):
        _remove(root)


def _make(engine: Engine, suite: str, tag: str) -> None:
    if os.geteuid() != 0:
        raise MeshError(
            f"{tag} cannot be made",
            where="lab",
            why=f"no container registry within reach ({HUB}), and debootstrap takes root",
            mend="run this as root, or where a registry can be reached",
        )
    programs = {"debootstrap": "debootstrap", "tar": "tar"}
    if not Path(KEYRING).exists():
        programs["debian-archive-keyring"] = "debian-archive-keyring"
    apt_install(programs, f"{tag}, with no container registry within reach,")
    root = cache() / f"debootstrap-{suite}"
    mirror = archive()
    with step(f"making {tag} from {mirror} with debootstrap (about 30 s)"):
        _remove(root)
        root.mkdir(parents=True)
        # An older debootstrap has no script for a newer suite; bookworm's fits.
        script = next(path for name in (suite, "bookworm") if (path := Path("/usr/share/debootstrap/scripts", name)).exists())
        run(["debootstrap", "--variant=minbase", f"--keyring={KEYRING}", suite, str(root), mirror, str(script)])
        _slim(root, suite, mirror)
        _import(engine, root, tag)
        _remove(root)


def _slim(root: Path, suite: str, mirror: str) -> None:
    for folder in NOT_IN_A_SLIM_IMAGE:
        shutil.rmtree(root / folder, ignore_errors=True)
        (root / folder).mkdir(parents=True)
    (root / "etc/apt/sources.list").write_text(
        f"deb {mirror} {suite} main\ndeb {mirror} {suite}-updates main\ndeb {mirror}-security {suite}-security main\n"
    )
    # Package downloads and lists in an image layer are dead weight, as in Debian's own images.
    (root / "etc/apt/apt.conf.d/docker-clean").write_text(
        'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };\n'
        'Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n'
    )
    # No service starts while packages are installed in a build; systemd starts them at boot.
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    for name in ("etc/resolv.conf", "etc/hostname"):
        (root / name).unlink(missing_ok=True)


def _import(engine: Engine, root: Path, tag: str) -> None:
    with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as tar:
        assert tar.stdout is not None
        engine.docker("import", "--change", 'CMD ["bash"]', "-", tag, stdin=tar.stdout)
    if tar.returncode:
        engine.docker("rmi", tag, check=False)
        raise MeshError(f"tar of {root} failed with status {tar.returncode}", where="lab")


def _remove(root: Path) -> None:
    if root.exists():
        # A debootstrap outlives the run that was killed over it, and would go on writing.
        wait_until(lambda: not _kill_users(root), seconds=10, every=0.1)
        unmount_below(root)
        shutil.rmtree(root)


def _kill_users(root: Path) -> bool:
    """Ends the processes that have this folder as an argument or as their root; true if there were any."""
    found = False
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                started_with = os.fsencode(root) in (entry / "cmdline").read_bytes().split(b"\0")
                if started_with or (entry / "root").readlink() == root:
                    os.kill(int(entry.name), signal.SIGKILL)
                    found = True
    return found

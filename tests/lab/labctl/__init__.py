"""The lab: three Debian hosts with systemd, sshd and Docker, a registry and the cloud doubles, as containers on this machine.

    lab = Lab()
    lab.up()
    lab.ssh("gpu-box", "docker ps")

`bin/lab` is the same from the shell. Everything here is Python's standard library and the `docker` command line.
"""

from labctl.lab import Lab

__all__ = ["Lab"]

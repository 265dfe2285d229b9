"""The stacks of one host: from what is there to what the spec says."""

from __future__ import annotations

from dataclasses import replace

from pyinfra import host

from deploys.operations import ollama, stacks
from deploys.run import Run
from mesh.live.observe import list_gateways, list_models
from mesh.state.deployment import Deployment
from mesh.state.diff import diff
from mesh.state.observed import Observed, ObservedHost
from mesh.state.work import HostWork, host_work, rollback_work


def work_for(run: Run, seen: ObservedHost) -> HostWork:
    """What the one diff says has to be done on this host, or what is to be taken back there."""
    here = run.deployment.hosts[seen.name]
    if run.rollback:
        return rollback_work(here, seen, run.rollback.get(seen.name, {}))
    gateway = run.deployment.gateway
    if gateway and not any(stack.kind == "litellm" for stack in here.stacks):
        gateway = None
    observed = run.observed
    if seen.name not in observed.hosts:
        observed = Observed(
            hosts={seen.name: seen},
            models={each.stack: list_models(each) for each in here.ollamas},
            gateways=list_gateways(gateway, run.inventory.secrets.value(gateway.key)) if gateway else {},
        )
    secret = run.inventory.secrets.value
    plan = diff(Deployment(run.deployment.mesh, {seen.name: here}, gateway), observed, secret)
    if run.only:
        plan = replace(plan, changes=tuple(change for change in plan.changes if change.stack in run.only))
    return host_work(here, seen, plan)


def apply_stacks(run: Run, seen: ObservedHost) -> None:
    """Every host calls the same operations in the same order, so that waves are waves of the whole mesh."""
    work = work_for(run, seen)
    looked = str(seen.journal) if seen.name in run.observed.hosts else ""
    stacks.lock(run, work, seen.lock, looked, name="host: lock")
    stacks.pull(run, work, name="images: pull")
    stacks.upload(run, work, name="files: upload")
    stacks.down(run, work, name="stacks not in the spec: down")
    for wave in host.loop(run.waves):
        stacks.up(run, work, wave, name=f"stacks {', '.join(wave)}: up")
    ollama.models(run, work.ollamas, name="models: pull")
    stacks.finish(run, work, name="host: unlock")

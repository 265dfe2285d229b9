"""host.sh, run for real by the shells that hosts have, against a stub of docker: locks, releases, rollback, removal."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from statekit import SECRET, environment, service, stack, stub_docker, value_of

from mesh.live.remote import Remote
from mesh.state.deployment import File, HostDeployment, Rolling, SecretPart, StackRelease
from mesh.state.observed import ObservedHost, RecordedRelease
from mesh.state.release import release_id
from mesh.state.work import HostWork, RemovedStack, StackWork, bundle


@dataclass
class Box:
    """A host of the tests: a shell, a root and a stub of docker."""

    shell: list[str]
    root: Path
    docker: Path

    def run(self, run: str, *call: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        remote = Remote(str(self.root), str(self.docker), run)
        text = remote.script(*call, stdin=stdin)
        return subprocess.run(
            self.command(remote), input=text, capture_output=True, text=True, timeout=60, check=False, env=self.environment
        )

    def start(self, run: str, *call: str) -> subprocess.Popen[bytes]:
        """The same, left running."""
        remote = Remote(str(self.root), str(self.docker), run)
        running = subprocess.Popen(self.command(remote), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=self.environment)
        assert running.stdin
        running.stdin.write(remote.script(*call).encode())
        running.stdin.close()
        return running

    def command(self, remote: Remote) -> list[str]:
        return [shutil.which(self.shell[0]) or self.shell[0], *self.shell[1:], *remote.command.split()[1:]]

    @property
    def environment(self) -> dict[str, str]:
        return environment(self.shell, self.docker.parent)

    def lock(self, run: str = "run1", dead: str = "") -> subprocess.CompletedProcess[str]:
        return self.run(run, "take_lock", dead, f"{run} op@laptop since now pid 1 on laptop")

    def carry(self, work: HostWork, run: str = "run1") -> None:
        done = self.run(run, "upload", stdin=bundle(work, value_of, mesh="closet", at="2026-01-02T03:04:05Z", by="op@laptop"))
        assert done.returncode == 0, done.stderr

    def up(self, work: StackWork, run: str = "run1") -> list[str]:
        """Carry and bring up one stack; the lines that were printed."""
        self.carry(host_work(self.root, work), run)
        return self.run(run, "up", work.stack.name, "30", *work.recreate).stdout.splitlines()

    def end(self, run: str = "run1") -> None:
        assert self.run(run, "drop_lock", json.dumps({"run": run, "finished": True})).returncode == 0

    @property
    def web(self) -> Path:
        return self.root / "stacks" / "web"

    def calls(self) -> str:
        return (self.docker.parent / "calls").read_text()


@pytest.fixture(params=[["dash"], ["busybox", "sh"], ["bash", "--posix"]], ids=" ".join)
def box(request: pytest.FixtureRequest, tmp_path: Path) -> Box:
    shell: list[str] = request.param
    if not shutil.which(shell[0]):
        pytest.skip(f"{shell[0]} is not installed")
    docker = stub_docker(tmp_path / "bin")
    (docker.parent / "ids").write_text("abc\n")
    docker.with_name("calls").touch()
    return Box(shell, tmp_path / "opt" / "mesh", docker)


def release(root: Path, compose: str, **files: str) -> StackRelease:
    """A release of the stack `web`: compose.yaml with that text, a file with a secret, and more files."""
    more = tuple(File(name.replace("_", "."), (text,)) for name, text in files.items())
    secret = File("secrets/env", ("KEY=", SecretPart("key", "shell"), "\n"), 0o400, os.getuid(), os.getgid())
    made = stack("web", (service("web", "web"),), (secret, *more), root=str(root))
    own = tuple(replace(file, owner=os.getuid(), group=os.getgid()) for file in made.files[1:])
    first = File(f"{made.directory}/compose.yaml", (compose,), 0o644, os.getuid(), os.getgid())
    return replace(made, files=(first, *own))


def work(made: StackRelease, *, stale: tuple[str, ...] = (), keep: tuple[str, ...] = (), **more: tuple[str, ...]) -> StackWork:
    return StackWork(made, made.files, stale, keep, more.get("recreate", ()), more.get("extra", ()))


def host_work(root: Path, *each: StackWork, removed: tuple[RemovedStack, ...] = ()) -> HostWork:
    return HostWork(HostDeployment("vm", "10.0.0.2", str(root)), {}, removed, {one.stack.name: one for one in each}, ())


def written(made: StackRelease) -> tuple[str, ...]:
    return tuple(file.path.removeprefix(f"{made.directory}/") for file in made.files)


def journal(box: Box) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (box.root / "journal.jsonl").read_text().splitlines()]


def tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


# the lock


def test_a_second_run_is_refused_and_told_who_has_the_lock(box: Box) -> None:
    assert box.lock("run1").returncode == 0
    second = box.lock("run2")
    assert second.returncode == 1
    assert "locked by another apply: run1 op@laptop" in second.stderr


def test_a_lock_of_a_run_that_is_known_to_be_dead_is_taken_over_aloud(box: Box) -> None:
    box.lock("run1")
    second = box.lock("run2", dead="run1")
    assert (second.returncode, "took over the lock" in second.stdout) == (0, True)
    assert (box.root / "lock" / "holder").read_text().startswith("run2 ")


def test_a_lock_of_another_dead_run_than_the_one_that_holds_it_is_not_taken(box: Box) -> None:
    box.lock("run1")
    assert box.lock("run2", dead="run0").returncode == 1


def test_a_lock_without_a_sign_of_life_is_taken_over(box: Box) -> None:
    box.lock("run1")
    old = time.time() - 3600
    os.utime(box.root / "lock" / "beat", (old, old))
    assert box.lock("run2").returncode == 0


def test_a_lock_that_is_just_being_made_is_not_taken_over(box: Box) -> None:
    (box.root / "lock").mkdir(parents=True)
    assert box.lock("run2").returncode == 1


def test_a_lock_from_before_the_clock_was_set_back_is_taken_over_unless_it_beats_on(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.live.remote.BEAT_SECONDS", 0)
    box.lock("run1")
    assert box.lock("run2").returncode == 1, "a sign of life of just now"
    tomorrow = time.time() + 86400
    os.utime(box.root / "lock" / "beat", (tomorrow, tomorrow))
    assert "took over" in box.lock("run2").stdout
    assert sorted(each.name for each in box.root.iterdir()) == ["journal.jsonl", "lock"]


def test_a_place_that_cannot_be_written_is_not_taken_for_a_lock_of_somebody_else(box: Box) -> None:
    box.root.mkdir(parents=True)
    (box.root / "lock").write_text("in the way")
    refused = box.lock()
    assert (refused.returncode, "cannot write to" in refused.stderr, "locked by" in refused.stderr) == (1, True, False)


def test_a_run_that_lost_its_lock_changes_nothing(box: Box) -> None:
    box.lock("run1")
    box.lock("run2", dead="run1")
    done = box.run("run1", "up", "web", "30")
    assert done.returncode == 1
    assert "lost the lock of the host to: run2" in done.stderr
    assert box.calls() == ""


def test_a_plan_from_before_the_end_of_another_run_is_not_done_any_more(box: Box) -> None:
    box.lock()
    assert box.run("run1", "drop_lock", '{"run": "run1", "at": "now", "by": "op@laptop", "finished": true}').returncode == 0
    size = (box.root / "journal.jsonl").stat().st_size
    late = box.run("run2", "take_lock", "", "run2 op@desk since now pid 1 on desk", "apply", "0")
    assert late.returncode == 1
    assert "another run has ended here since this one looked: op@laptop at now" in late.stderr
    assert not (box.root / "lock").exists()
    known = box.run("run2", "take_lock", "", "run2 op@desk since now pid 1 on desk", "apply", str(size))
    assert known.returncode == 0, known.stderr


def test_the_end_of_a_run_leaves_a_journal_line_and_no_lock(box: Box) -> None:
    box.lock()
    assert box.run("run1", "drop_lock", json.dumps({"run": "run1", "finished": True})).returncode == 0
    assert not (box.root / "lock").exists()
    assert journal(box) == [{"run": "run1", "finished": True, "stacks": {}}]


def test_a_journal_line_that_a_full_disk_cut_short_costs_no_other_line(box: Box) -> None:
    box.lock()
    (box.root / "journal.jsonl").write_text('{"run": "run0", "fini')
    box.end()
    assert json.loads((box.root / "journal.jsonl").read_text().splitlines()[1])["run"] == "run1"


def test_an_abort_ends_what_still_works_and_releases_the_lock(box: Box) -> None:
    box.lock()
    (box.docker.parent / "slow").touch()
    made = release(box.root, "good")
    box.carry(host_work(box.root, work(made)))
    running = box.start("run1", "up", "web", "30")
    until(lambda: " up " in box.calls())
    assert box.run("run0", "abort", "{}").returncode == 0
    assert running.poll() is None, "another run's abort must not touch this one"
    assert box.run("run1", "abort", "{}").returncode == 0
    assert running.wait(10) != 0
    assert not (box.root / "lock").exists()
    last = journal(box)[-1]
    assert (last["run"], last["by"], last["at"], last["finished"]) == ("run1", "op@laptop", "now", False)
    assert last["stacks"]["web"]["result"] == "interrupted"


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


# releases


def test_a_first_release_lands_with_modes_and_is_recorded(box: Box) -> None:
    box.lock()
    made = release(box.root, "good", app_conf="a\n")
    assert box.up(work(made))[-1] == "@up"
    assert tree(box.web) | {".release.json": ""} == {
        ".release.json": "",
        "app.conf": "a\n",
        "compose.yaml": "good",
        "secrets/env": f"KEY='{SECRET}-key'\n",
    }
    assert (box.web / "secrets").stat().st_mode & 0o777 == 0o700
    assert (box.web / "secrets" / "env").stat().st_mode & 0o777 == 0o400
    record = json.loads((box.web / ".release.json").read_text())
    assert record["services"] == {"web": {"digest": "d", "config_hash": "c", "image_id": "i"}}
    assert record["files"] == list(written(made))
    assert record["mesh"] == "closet"


def test_no_secret_is_ever_an_argument(box: Box) -> None:
    box.lock()
    box.up(work(release(box.root, "good")))
    assert SECRET not in box.calls()


def test_a_second_release_keeps_the_first_as_previous(box: Box) -> None:
    box.lock()
    first = release(box.root, "good", old_conf="1\n")
    box.up(work(first))
    before = tree(box.web)
    second = release(box.root, "better", new_conf="2\n")
    assert box.up(work(second, stale=("old.conf",), keep=written(first)))[-1] == "@up"
    assert tree(box.root / "previous" / "web") == before
    assert set(tree(box.web)) == {".release.json", "compose.yaml", "new.conf", "secrets/env"}
    assert tree(box.root / "previous" / "web.extra") == {"old.conf": "1\n"}


def test_a_release_that_does_not_come_up_gives_way_to_the_previous_one(box: Box) -> None:
    box.lock()
    first = release(box.root, "good", old_conf="1\n")
    box.up(work(first))
    before = tree(box.web)
    lines = box.up(work(release(box.root, "bad", new_conf="2\n"), stale=("old.conf",), keep=written(first)))
    assert lines[-1] == "@back"
    assert "container web-web-1 is unhealthy" in lines
    assert "the last words of web" in lines
    assert tree(box.web) == before


def test_a_release_that_cannot_be_recorded_gives_way_to_the_previous_one(box: Box) -> None:
    first = release(box.root, "good")
    box.lock()
    box.up(work(first))
    (box.web / ".release.json.new" / "x").mkdir(parents=True)
    lines = box.up(work(release(box.root, "better"), keep=written(first)))
    assert "its release could not be recorded in" in "\n".join(lines)
    assert lines[-1] == "@back"
    assert (box.web / "compose.yaml").read_text() == "good"
    assert (box.web / ".release.json").is_file()


def test_a_file_that_cannot_be_replaced_stops_nothing(box: Box) -> None:
    first = release(box.root, "good")
    box.lock()
    box.up(work(first))
    (box.web / "page.conf" / "data").mkdir(parents=True)
    lines = box.up(work(release(box.root, "better", page_conf="1\n"), keep=written(first)))
    assert "its files could not be put in place" in lines
    assert lines[-1] == "@back"
    assert (box.web / "compose.yaml").read_text() == "good"
    assert "stop" not in box.calls()


def test_a_daemon_that_restarts_is_waited_for_before_the_previous_release_is_brought_back(box: Box) -> None:
    first = release(box.root, "good")
    box.lock()
    box.up(work(first))
    (box.docker.parent / "away").touch()
    lines = box.up(work(release(box.root, "bad"), keep=written(first)))
    assert "the Docker daemon was away for 1 s" in lines
    assert lines[-1] == "@back"


def test_a_first_release_that_does_not_come_up_is_stopped_and_not_recorded(box: Box) -> None:
    box.lock()
    assert box.up(work(release(box.root, "bad")))[-1] == "@stopped"
    assert not (box.web / ".release.json").exists()
    assert box.calls().splitlines()[-1].endswith(" stop")


def test_a_previous_release_that_fails_as_well_ends_stopped(box: Box) -> None:
    box.lock()
    first = release(box.root, "good")
    box.up(work(first))
    (box.web / "compose.yaml").write_text("bad by hand")
    assert box.up(work(release(box.root, "bad"), keep=written(first)))[-1] == "@stopped"


def test_a_killed_run_does_not_make_its_half_release_the_previous_one(box: Box) -> None:
    box.lock()
    first = release(box.root, "good")
    box.up(work(first))
    before = tree(box.web)
    killed = work(release(box.root, "bad half"), keep=written(first))
    box.carry(host_work(box.root, killed))
    (box.docker.parent / "slow").touch()
    running = box.start("run1", "up", "web", "30")
    until(lambda: not (box.web / ".release.json").exists() and "bad" in (box.web / "compose.yaml").read_text())
    running.kill()
    running.wait()
    (box.docker.parent / "slow").unlink()
    assert box.lock("run2", dead="run1").returncode == 0
    assert box.up(work(release(box.root, "bad again"), keep=written(first)), "run2")[-1] == "@back"
    assert tree(box.web) == before


def test_a_stack_that_is_up_and_does_not_answer_goes_back(box: Box) -> None:
    box.lock()
    first = release(box.root, "good")
    box.up(work(first))
    before = tree(box.web)
    assert box.up(work(release(box.root, "up but silent"), keep=written(first)))[-1] == "@up"
    assert box.run("run1", "rollback", "web", "30").stdout.splitlines()[-1] == "@back"
    assert tree(box.web) == before


def test_services_to_recreate_are_forced_and_extra_containers_removed(box: Box) -> None:
    box.lock()
    made = release(box.root, "good")
    box.up(replace(work(made, recreate=("web",), extra=("web-spy-1",)), files=()))
    calls = box.calls()
    assert "rm --force web-spy-1" in calls
    assert "up --detach --no-deps --force-recreate web" in calls


def test_a_folder_that_docker_made_in_place_of_a_file_gives_way(box: Box) -> None:
    box.lock()
    (box.web / "app.conf").mkdir(parents=True)
    assert box.up(work(release(box.root, "good", app_conf="a\n")))[-1] == "@up"
    assert (box.web / "app.conf").read_text() == "a\n"


def test_a_folder_with_data_in_place_of_a_file_is_not_touched(box: Box) -> None:
    box.lock()
    (box.web / "app.conf").mkdir(parents=True)
    (box.web / "app.conf" / "data").write_text("precious")
    assert box.up(work(release(box.root, "good", app_conf="a\n")))[-1] != "@up"
    assert (box.web / "app.conf" / "data").read_text() == "precious"


# going away


def test_a_removed_stack_keeps_volumes_and_data(box: Box) -> None:
    box.lock()
    made = release(box.root, "good")
    box.up(work(made))
    (box.web / "data").mkdir()
    (box.web / "data" / "db").write_text("precious")
    box.carry(host_work(box.root, removed=(RemovedStack("web", written(made), ()),)))
    assert box.run("run1", "down", "web").returncode == 0
    assert tree(box.web) == {"data/db": "precious"}
    assert "compose.yaml" in tree(box.root / "previous" / "web")
    down = next(line for line in box.calls().splitlines() if " down " in line)
    assert "-v" not in down.split()
    assert "--volumes" not in down


def test_an_image_that_cannot_be_pulled_is_told_in_dockers_words(box: Box) -> None:
    box.lock()
    (box.docker.parent / "no-pull").touch()
    done = box.run("run1", "pull", "registry.lan/web:1.0")
    assert (done.returncode, done.stderr.strip()) == (1, "manifest unknown")


def test_files_of_a_release_that_is_recorded_are_what_is_kept(box: Box) -> None:
    from mesh.state.plan import Change, Plan
    from mesh.state.work import host_work as work_of

    made = release(box.root, "good")
    host = HostDeployment("vm", "10.0.0.2", str(box.root), (made,))
    seen = ObservedHost("vm", releases={"web": RecordedRelease("r", "t", "op", "closet", {}, ("compose.yaml", "gone.conf"))})
    plan = Plan((Change("vm", "web", "file", made.files[0].path, "update", "changes"),))
    assert work_of(host, seen, plan).stacks["web"].keep == ("compose.yaml", "gone.conf")


# going back


def two_releases(box: Box, second: str = "better") -> tuple[StackRelease, StackRelease]:
    """A first release that gave way to a second one, in a run that has ended."""
    box.lock()
    first, later = release(box.root, "good", old_conf="1\n"), release(box.root, second, new_conf="2\n")
    assert box.up(work(first))[-1] == "@up"
    assert box.up(work(later, stale=("old.conf",), keep=written(first)))[-1] == "@up"
    box.end()
    return first, later


def go_back(box: Box, now: StackRelease, to: str, run: str = "run2") -> list[str]:
    assert box.lock(run).returncode == 0
    back = StackWork(now, (), (), written(now), (), (), back_to=to)
    box.carry(host_work(box.root, back), run)
    lines = box.run(run, "revert", "web", "30", to).stdout.splitlines()
    box.end(run)
    return lines


def test_a_rollback_puts_the_previous_release_in_place_and_keeps_the_newer_one(box: Box) -> None:
    first, later = two_releases(box)
    newer, older = tree(box.web), tree(box.root / "previous" / "web")
    assert go_back(box, later, release_id(first))[-1] == "@up"
    record = json.loads((box.web / ".release.json").read_text())
    assert record["release"] == release_id(first)
    assert record["rolled_back"] == {"by": "op@laptop", "at": "2026-01-02T03:04:05Z"}
    ignored = {".release.json": ""}
    assert tree(box.web) | ignored == older | ignored
    assert (box.web / "secrets" / "env").stat().st_mode & 0o777 == 0o400
    assert tree(box.root / "previous" / "web") == newer
    assert go_back(box, first, release_id(later), "run3")[-1] == "@up"
    assert tree(box.web).keys() == newer.keys(), "a rollback of the rollback goes forward"
    assert "rolled_back" in json.loads((box.web / ".release.json").read_text())
    assert journal(box)[-1]["stacks"]["web"] | {"seconds": 0} == {
        "result": "up",
        "seconds": 0,
        "from": release_id(first),
        "to": release_id(later),
    }


def test_a_rollback_to_another_release_than_the_one_that_is_kept_does_nothing(box: Box) -> None:
    _, later = two_releases(box)
    before = tree(box.root / "stacks") | tree(box.root / "previous")
    assert go_back(box, later, "0123456789ab")[-2:] == ["its previous release is not 0123456789ab any more", "@failed"]
    assert tree(box.root / "stacks") | tree(box.root / "previous") == before


def test_a_previous_release_that_does_not_come_up_gives_way_to_the_newer_one_and_is_kept(box: Box) -> None:
    first, later = two_releases(box)
    (box.root / "previous" / "web" / "compose.yaml").write_text("bad now")
    newer, older = tree(box.web), tree(box.root / "previous" / "web")
    lines = go_back(box, later, release_id(first))
    assert lines[-1] == "@back"
    assert tree(box.web) == newer
    assert tree(box.root / "previous" / "web") == older


def test_a_release_that_did_not_come_up_leaves_the_way_back_as_it_was(box: Box) -> None:
    _, later = two_releases(box)
    older = tree(box.root / "previous" / "web")
    box.lock("run2")
    assert box.up(work(release(box.root, "bad"), keep=written(later)), "run2")[-1] == "@back"
    box.end("run2")
    assert tree(box.root / "previous" / "web") == older
    result = journal(box)[-1]["stacks"]["web"]
    assert (result["result"], result["from"]) == ("back", release_id(later))


def test_mending_a_release_does_not_take_its_way_back(box: Box) -> None:
    _, later = two_releases(box)
    older = tree(box.root / "previous" / "web")
    (box.web / "new.conf").write_text("edited by hand")
    box.lock("run2")
    assert box.up(work(later, keep=written(later)), "run2")[-1] == "@up"
    box.end("run2")
    assert tree(box.root / "previous" / "web") == older
    assert (box.web / "new.conf").read_text() == "2\n"


def test_a_run_that_died_is_in_the_journal_with_what_it_had_done(box: Box) -> None:
    box.lock()
    box.up(work(release(box.root, "good")))
    assert box.lock("run2", dead="run1").returncode == 0
    (entry,) = journal(box)
    assert (entry["run"], entry["finished"], entry["stacks"]["web"]["result"]) == ("run1", False, "up")


def test_the_journal_is_bounded(box: Box) -> None:
    box.root.mkdir(parents=True)
    (box.root / "journal.jsonl").write_text("x" * 600_000)
    (box.root / "journal.jsonl.1").write_text("older")
    box.lock()
    box.end()
    assert len(journal(box)) == 1
    assert len((box.root / "journal.jsonl.1").read_text()) == 600_000


# one after the other


def rolling(root: Path, compose: str) -> StackRelease:
    """Gateways `a` and `b` behind `front`."""
    text = f"services:\n  a: {{}}\n  b: {{}}\n  front: {{}}\n# {compose}\n"
    return replace(release(root, text), rolling=Rolling(("a", "b"), before="front", switch=("switch",)))


def states(box: Box, **found: str) -> None:
    for name, state in found.items():
        (box.docker.parent / f"state-{name}").write_text(f"{state}\n")


def steps(box: Box) -> list[str]:
    """What was switched and brought up, in short."""
    found = []
    for call in box.calls().splitlines():
        words = call.split()
        if " exec " in call or words[0] == "stop":
            found.append(" ".join(words[-2:]))
        elif " up " in call:
            found.append("up " + (words[-1] if "--no-deps" in call else "all"))
    return found


def test_services_that_are_alike_are_changed_one_after_the_other(box: Box) -> None:
    box.lock()
    states(box, front="running/healthy", a="running/healthy", b="running/healthy")
    assert box.up(work(rolling(box.root, "one")))[-1] == "@up"
    assert steps(box) == ["drain a", "up a", "ready a", "drain b", "up b", "ready b", "up all"]


def test_the_one_that_does_not_serve_is_changed_first_and_stopped_without_a_wait(box: Box) -> None:
    box.lock()
    states(box, front="running/healthy", a="running/healthy", b="restarting/unhealthy")
    box.up(work(rolling(box.root, "one")))
    assert steps(box) == ["drain b", "10 state-b", "up b", "ready b", "drain a", "up a", "ready a", "up all"]


def test_with_nothing_before_them_yet_they_come_up_together(box: Box) -> None:
    box.lock()
    assert box.up(work(rolling(box.root, "one")))[-1] == "@up"
    assert steps(box) == ["up all"]


def test_when_the_first_does_not_come_up_the_second_is_not_touched_before_the_old_release_is_back(box: Box) -> None:
    box.lock()
    first = rolling(box.root, "one")
    box.up(work(first))
    states(box, front="running/healthy", a="running/healthy", b="running/healthy")
    (box.docker.parent / "calls").write_text("")
    bad = rolling(box.root, "bad")
    assert box.up(work(bad, keep=written(first)))[-1] == "@back"
    assert steps(box)[:4] == ["drain a", "up a", "drain a", "up a"]
    assert "# one" in (box.web / "compose.yaml").read_text()


def test_what_serves_is_left_to_serve_when_even_the_old_release_does_not_come_up(box: Box) -> None:
    box.lock()
    first = rolling(box.root, "bad")
    (box.root / "previous").mkdir(parents=True)
    box.carry(host_work(box.root, work(first)))
    states(box, front="running/healthy", a="restarting/unhealthy", b="running/healthy")
    shutil.copytree(box.root / "lock" / "new" / "stacks" / "web", box.root / "previous" / "web")
    (box.root / "previous" / "web" / ".release.json").write_text("{}")
    assert box.up(work(first))[-1] == "@failed"
    assert not any(call.endswith(" stop") for call in box.calls().splitlines())


def test_what_is_to_be_made_anew_is_made_anew_in_its_turn(box: Box) -> None:
    box.lock()
    states(box, front="running/healthy", a="running/healthy", b="running/healthy")
    box.up(work(rolling(box.root, "one"), recreate=("b", "front")))
    forced = [call.split()[-1] for call in box.calls().splitlines() if "--force-recreate" in call]
    assert forced == ["b", "front"]

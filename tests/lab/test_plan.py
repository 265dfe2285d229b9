"""`mesh plan` on real hosts: it says what a change means, gives no secret away, and nothing is created, started or pulled."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from labctl import Lab

from mesh.compile.images import ImageRef
from mesh.secrets.agefile import AgeFile, load_identities
from mesh.secrets.value import Secret
from tests.lab.small import ROOT, Small, fresh

pytestmark = pytest.mark.lab
FORMER, TODAY = "former-value-of-the-token-11", "todays-value-of-the-token-22"
CHANGES = (
    "create",
    "start",
    "pull",
    "kill",
    "stop",
    "die",
    "destroy",
    "restart",
    "rename",
    "update",
    "remove",
    "mount",
    "import",
)


def give(small: Small, value: str) -> None:
    """The value of the secret of the stack `web`."""
    file = AgeFile(small.folder)
    values = file.open(load_identities(small.identity))
    file.save({**values, "token": Secret(value)}, file.index().recipients)


def declare(small: Small, page: str, volume: str) -> None:
    """The stack `web`: a page, a secret in a file, a volume."""
    small.secrets["web"] = {"token": "secret:token"}
    small.volumes["web"] = [volume]
    mounts = ["./page.html:/www/page.html:ro", "./secrets/token:/run/token:ro", f"{volume}:/data"]
    small.stack("web", "nas", files={"page.html": page}, volumes=mounts)


@pytest.fixture(scope="module")
def small(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    with fresh(lab, tmp_path_factory.mktemp("plan") / "inventory") as mesh:
        declare(mesh, "one\ntwo\n", "data")
        mesh.stack("other", "vm-docker", volumes=["./page.html:/www/page.html:ro"], files={"page.html": "x\n"})
        give(mesh, FORMER)
        mesh.apply()
        yield mesh


def plan(small: Small, *arguments: str) -> tuple[int, str, dict[str, list[str]]]:
    """Exit code, everything it said, and what Docker did meanwhile on each host."""
    since = {host: small.sh(host, "date +%s.%N").strip() for host in small.lab.hosts}
    code, said = small.mesh("plan", *arguments)
    form = "'{{.Type}} {{.Action}}'"
    events = {
        host: small.sh(host, f"docker events --since {at} --until $(date +%s.%N) --format {form}").splitlines()
        for host, at in since.items()
    }
    return code, said, {host: [each for each in theirs if each.split()[1] in CHANGES] for host, theirs in events.items()}


def test_a_clean_mesh_has_nothing_to_change_and_no_second_look_is_taken(small: Small) -> None:
    before = small.sh("nas", "journalctl -o cat | grep -c 'Accepted publickey'")
    code, said, _ = plan(small)
    assert (code, said.splitlines()[0]) == (0, "nothing to change")
    took = int(small.sh("nas", "journalctl -o cat | grep -c 'Accepted publickey'")) - int(before)
    assert took <= 4, "one session of the plan, and those of this test"


def test_a_plan_says_what_changes_mean_gives_no_secret_away_and_does_nothing(small: Small) -> None:
    declare(small, "one\nthree\n", "fresh")
    give(small, TODAY)
    small.drop("other")
    code, said, events = plan(small, "--diff")
    assert code == 2, said
    assert not any(events.values()), "nothing is created, started or pulled"
    assert FORMER not in said
    assert TODAY not in said
    assert "page.html changed, 1 line" in said
    assert "secret token changed, value hidden" in said
    assert "-two\n" in said
    assert "+three\n" in said
    assert "web: is interrupted while it restarts" in said
    assert "gets volume web_fresh at /data, which starts empty, in place of volume web_data, which stays" in said
    assert "stops for good" in said


def test_the_document_says_the_same_and_an_apply_makes_the_plan_empty(small: Small) -> None:
    process = small.start("plan", "--json")
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 2, stderr
    data = json.loads(stdout)
    assert FORMER not in stdout
    assert TODAY not in stdout
    assert data["version"] == 1
    assert {each["kind"] for each in data["risks"]} == {"empty"}
    texts = {each["path"]: each["text"] for each in data["files"]}
    assert texts[f"{ROOT}/stacks/web/page.html"]["lines"][1:] == [" one", "-two", "+three"]
    assert texts[f"{ROOT}/stacks/web/secrets/token"] is None
    small.apply()
    assert plan(small)[0] == 0


def test_the_bytes_of_an_image_that_a_host_lacks_are_those_its_registry_tells(small: Small) -> None:
    image = ImageRef.parse(small.lab.images()["ollama"])
    small.sh("nas", f"docker images -q {image.repo} | sort -u | xargs -r docker rmi >/dev/null")
    small.stack("again", "nas", image=f"{image.repo}:{image.tag}")
    try:
        process = small.start("plan", "--json")
        (pull,) = json.loads(process.communicate(timeout=60)[0])["pulls"]
        assert pull["hosts"] == ["nas"]
        assert pull["bytes"] > 100_000, pull
        code, said, events = plan(small)
        assert (code, events["nas"]) == (2, [])
        assert "to pull: " in said
    finally:
        small.drop("again")

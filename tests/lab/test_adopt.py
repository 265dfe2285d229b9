"""`mesh adopt`: projects that an operator started with plain Compose become the mesh's, and nothing restarts."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from labctl import Lab

from mesh.inventory import open_inventory
from tests.lab.small import ROOT, Small

pytestmark = pytest.mark.lab
HOST = "nas"
HOME = "/srv/docker"
PASSWORD = "hunter2-of-the-notes"
DB_PASSWORD = "it's $ecret"
API_TOKEN = "tok-0123456789abcdef"


def projects(image: str) -> dict[str, dict[str, str]]:
    """Files by project and path: each project is another way of writing one."""
    floating = image.rpartition(":")[0] + ":latest"
    return {
        "notes": {
            "compose.yaml": f"""\
# my notes, since 2019
services:
  web: # the only one
    image: {image}
    container_name: my-notes
    init: true
    ports: ["127.0.0.1:${{PORT:-1}}:8080"]
    environment:
      APP_PASSWORD: {PASSWORD}   # changed in May
      TITLE: "Notes of mine"
      TOKEN: ${{API_TOKEN}}
    volumes:
      - ./data:/data
      - ./page.html:/www/page.html:ro
    healthcheck: {{test: ["CMD-SHELL", "test {PASSWORD} = $$APP_PASSWORD"], interval: 1s}}
    restart: unless-stopped
""",
            ".env": f"# ports\nPORT=18099\nAPI_TOKEN={API_TOKEN}\n",
            "page.html": "hello\n",
            "data/precious": "kept\n",
        },
        "shop": {
            "docker-compose.yml": f"""\
x-common: &common
  image: {image}
  init: true
  networks: [front]
services:
  db:
    <<: *common
    env_file: db.env
    volumes: [store:/store]
    healthcheck: {{test: ["CMD", "true"], interval: 1s}}
  app:
    <<: *common
    depends_on: {{db: {{condition: service_healthy}}}}
    deploy: {{replicas: 2}}
volumes: {{store: }}
networks:
  front: {{external: true, name: adopt-front}}
""",
            "db.env": f'POSTGRES_USER=shop\nPOSTGRES_PASSWORD="{DB_PASSWORD.replace("$", chr(92) + "$")}"\n',
        },
        "floating": {
            "compose.yaml": f"services:\n  it:\n    image: {floating}\n    init: true\n    secrets: [key]\n"
            "secrets:\n  key: {file: ./key.txt}\n",
            "key.txt": "a key\n",
        },
        "built": {"compose.yaml": f"services:\n  it:\n    image: {image}\n    build: .\n    init: true\n"},
        "gone": {"compose.yaml": f"services:\n  it:\n    image: {image}\n    init: true\n"},
    }


NAMES = ("notes", "shop", "floating", "built", "gone")


@pytest.fixture(scope="module")
def small(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    mesh = Small(lab, tmp_path_factory.mktemp("adopt") / "inventory")
    mesh.folder.mkdir()
    clean(mesh)
    mesh.write()
    spec = mesh.folder / "mesh.yaml"
    spec.write_text(spec.read_text().replace("stacks: {}", "stacks: # my stacks\n  {}"))
    floating = mesh.image.rpartition(":")[0] + ":latest"
    mesh.sh(HOST, f"docker pull -q {mesh.image}; docker tag {mesh.image} {floating}; docker push -q {floating}")
    mesh.sh(HOST, "docker network create adopt-front")
    for name, files in projects(mesh.image).items():
        for path, text in files.items():
            target = f"{HOME}/{name}/{path}"
            mesh.sh(HOST, f"mkdir -p $(dirname {target}); cat >{target} <<'END'\n{text}END\n")
        mesh.sh(HOST, f"cd {HOME}/{name} && docker compose up -d --wait 2>&1")
    mesh.sh(HOST, f"rm {HOME}/gone/compose.yaml; docker run -d --name adopt-loose {mesh.image}")
    yield mesh
    clean(mesh)


def clean(mesh: Small) -> None:
    mesh.clean()
    for name in NAMES:
        mesh.sh(HOST, f"docker compose -p {name} down -v -t 1 2>/dev/null; rm -rf {HOME}/{name}")
    mesh.sh(HOST, "docker rm -f adopt-loose 2>/dev/null; docker network rm adopt-front 2>/dev/null; true")


def running(small: Small, *names: str) -> dict[str, str]:
    """Container -> id and when it started."""
    found: dict[str, str] = {}
    for name in names:
        template = "{{.Name}} {{.Id}} {{.State.StartedAt}}"
        ids = f"$(docker ps -aq --filter label=com.docker.compose.project={name})"
        lines = small.sh(HOST, f"docker inspect --format '{template}' {ids}").splitlines()
        found |= {line.split()[0]: line for line in lines}
    return found


def test_a_dry_run_shows_everything_and_writes_nothing(small: Small) -> None:
    before = sorted(small.folder.rglob("*"))
    code, output = small.mesh("adopt", HOST, "--dry-run")
    assert code == 0, output
    assert "would adopt 3 projects" in output
    assert "APP_PASSWORD -> secret:notes_app_password" in output
    assert not any(value in output for value in (PASSWORD, DB_PASSWORD, API_TOKEN))
    assert sorted(small.folder.rglob("*")) == before


def test_projects_are_adopted_and_the_plan_after_it_is_empty(small: Small) -> None:
    before = running(small, *NAMES)
    code, output = small.mesh("adopt", HOST, "-y")
    assert code == 0, output
    assert "adopted floating, notes, shop" in output
    for name, why in (("built", "build:"), ("gone", "is gone"), ("adopt-loose", "without Compose")):
        assert any(name in line and why in line for line in output.splitlines()), (name, output)
    assert not any(value in output for value in (PASSWORD, DB_PASSWORD, API_TOKEN))
    for verb in ("check", "plan", "drift"):
        code, said = small.mesh(verb)
        assert code == 0, said
    assert running(small, *NAMES) == before


def test_what_was_written_is_what_the_operator_had_written(small: Small) -> None:
    notes = (small.folder / "stacks/notes/compose.yaml").read_text()
    before = projects(small.image)["notes"]["compose.yaml"].splitlines()
    changed = [(one, other) for one, other in zip(before, notes.splitlines(), strict=True) if one != other]
    assert [other.strip() for _, other in changed] == [
        'APP_PASSWORD: "${APP_PASSWORD}"   # changed in May',
        f"- {HOME}/notes/data:/data",
        'healthcheck: {test: ["CMD-SHELL", "test ${APP_PASSWORD} = $$APP_PASSWORD"], interval: 1s}',
    ]
    assert (small.folder / "stacks/notes/.env").read_text() == "# ports\nPORT=18099\n"
    assert "# my stacks" in (small.folder / "mesh.yaml").read_text()
    assert ":latest@sha256:" in (small.folder / "stacks/floating/compose.yaml").read_text()
    plain = b"".join(path.read_bytes() for path in small.folder.rglob("*") if path.is_file())
    assert not any(value.encode() in plain for value in (PASSWORD, DB_PASSWORD, API_TOKEN))
    store = open_inventory(small.folder).secrets
    assert store.value("notes_app_password") == PASSWORD
    assert store.value("shop_postgres_password") == DB_PASSWORD


def test_a_second_adoption_finds_nothing_new(small: Small) -> None:
    before = (small.folder / "mesh.yaml").read_bytes()
    code, output = small.mesh("adopt", HOST, "-y")
    assert code == 0, output
    assert f"nothing to adopt on {HOST}" in output
    assert (small.folder / "mesh.yaml").read_bytes() == before
    code, output = small.mesh("adopt", HOST, "-y", "--stack", "built")
    assert code == 1, "what was asked for by name and cannot be done is an error"


def test_a_change_remakes_its_own_stack_and_its_data_stay(small: Small) -> None:
    others = running(small, "shop", "floating")
    old = running(small, "notes")
    (small.folder / "stacks/notes/page.html").write_text("hello again\n")
    code, output = small.mesh("plan")
    assert code == 2
    assert "shop" not in output
    assert "floating" not in output
    small.apply()
    assert running(small, "shop", "floating") == others
    assert running(small, "notes") != old
    inside = small.sh(HOST, "docker exec my-notes cat /data/precious /www/page.html")
    assert inside == "kept\nhello again\n"
    environment = json.loads(small.sh(HOST, "docker inspect --format '{{json .Config.Env}}' my-notes"))
    assert {f"APP_PASSWORD={PASSWORD}", f"TOKEN={API_TOKEN}", "TITLE=Notes of mine"} <= set(environment)
    assert small.mesh("drift")[0] == 0


def test_a_rotated_secret_restarts_its_stack(small: Small) -> None:
    from mesh.cli.secrets import open_secrets
    from mesh.secrets.value import Secret

    with open_secrets(small.folder) as held:
        held.values["shop_postgres_password"] = Secret("another one")
        held.save()
    code, output = small.mesh("plan")
    assert code == 2
    assert "another one" not in output
    small.apply()
    environment = small.sh(HOST, "docker inspect --format '{{json .Config.Env}}' shop-db-1")
    assert "POSTGRES_PASSWORD=another one" in environment
    assert small.sh(HOST, "docker volume ls -q --filter name=shop_store").strip() == "shop_store"
    assert small.mesh("plan")[0] == 0


def test_a_container_started_again_by_hand_is_drift(small: Small) -> None:
    """One that was adopted and never changed since has no label of ours; what it was made from is known all the same."""
    small.sh(HOST, f"cd {HOME}/floating && sed -i 's/init: true/init: false/' compose.yaml && docker compose up -d 2>&1")
    code, output = small.mesh("drift")
    assert code == 2, output
    assert "its container was not made by the mesh" in output
    assert ROOT not in output.splitlines()[0]

"""What is written for a Compose project that runs: the operator's own text, less what has to be different."""

from __future__ import annotations

import pytest

from mesh.adopt.folder import adoption
from mesh.adopt.host import FoundContainer, FoundProject, RemoteFile
from mesh.adopt.secrets import Vault, is_secret
from mesh.adopt.source import Adoption, NotAdoptableError, Source
from mesh.compile.images import ImageLock

HOME = "/srv/app"
DIGEST, OTHER = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"


def text_file(text: str, mode: str = "-rw-r--r--", owner: str = "0") -> RemoteFile:
    return RemoteFile(False, mode, owner, text.encode())


def adopted(
    compose: str,
    *,
    variables: str = "",
    files: dict[str, RemoteFile] | None = None,
    environment: dict[str, str] | None = None,
    digests: tuple[str, ...] = (f"nginx@{DIGEST}", f"ghcr.io/x/y@{DIGEST}"),
    lock: ImageLock | None = None,
    taken: dict[str, str] | None = None,
    services: tuple[str, ...] = ("web",),
) -> Adoption:
    containers = tuple(
        FoundContainer(f"id-{each}", f"app-{each}-1", each, "nginx:1.29", "sha256:image", "running", "hash", environment or {})
        for each in services
    )
    project = FoundProject("app", HOME, (f"{HOME}/compose.yaml",), (), containers)
    fetched = {f"{HOME}/{path}": file for path, file in (files or {}).items()}
    return adoption(Source(project, compose, variables), fetched, {"sha256:image": digests}, lock or ImageLock(), taken or {})


def written(found: Adoption, path: str = "compose.yaml") -> str:
    return found.files[path][0].decode()


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("DB_PASSWORD", "paperless", True),
        ("DATABASE_URL", "postgres://u:pw@db/x", True),
        ("X", "0123456789abcdef0123456789abcdef", True),
        ("API_TOKEN", "abc", True),
        ("POSTGRES_PASSWORD_FILE", "/run/secrets/db", False),
        ("AUTH_ENABLED", "true", False),
        ("SESSION_TIMEOUT", "30m", False),
        ("TZ", "Europe/Berlin", False),
        ("DB_PASSWORD", "", False),
    ],
)
def test_a_secret_is_known_by_its_name_or_its_look(name: str, value: str, secret: bool) -> None:
    assert is_secret(name, value) is secret


def test_only_what_has_to_differ_is_edited() -> None:
    compose = """\
# mine
services:
  web:   # the front
    image: nginx:latest   # floats
    volumes: ['./data:/data', ./a.conf:/a.conf:ro]
    environment:
      - "PASSWORD=hunter22"
      - TZ=Europe/Berlin
    command: [serve, --token, "abcdef123456", --api-key=ghijkl]
"""
    found = adopted(compose, files={"data": RemoteFile(True), "a.conf": text_file("listen 80;\n")})
    assert (
        written(found)
        == f"""\
# mine
services:
  web:   # the front
    image: nginx:latest@{DIGEST}   # floats
    volumes: ["{HOME}/data:/data", ./a.conf:/a.conf:ro]
    environment:
      - "PASSWORD=${{PASSWORD}}"
      - TZ=Europe/Berlin
    command: [serve, --token, "${{TOKEN}}", "--api-key=${{API_KEY}}"]
"""
    )
    assert sorted(found.files) == ["a.conf", "compose.yaml"]
    assert found.env == {"API_KEY": "app_api_key", "PASSWORD": "app_password", "TOKEN": "app_token"}
    assert found.values == {"app_api_key": "ghijkl", "app_password": "hunter22", "app_token": "abcdef123456"}
    assert found.stays == (f"{HOME}/data",)


def test_secrets_leave_the_env_file_and_the_rest_of_it_stays() -> None:
    compose = "services: {web: {image: 'nginx:1.29', environment: {P: '${DB_PASSWORD}', Q: '${A}'}}}\n"
    found = adopted(compose, variables="# one\nA=1\nDB_PASSWORD='x y z'\n# two\nB=2")
    assert written(found, ".env") == "# one\nA=1\n# two\nB=2\n"
    assert written(found) == compose
    assert found.values == {"app_db_password": "x y z"}


def test_secrets_leave_the_files_that_services_read() -> None:
    found = adopted(
        "services: {web: {image: 'nginx:1.29', env_file: [./app.env]}}\n",
        files={"app.env": text_file("# c\nTOKEN=abc123\nMODE=x # why\nAPI_SECRET='s $s'\nPASSWORD=\"a\\$b\"\n")},
    )
    assert written(found, "app.env") == "# c\nTOKEN=${TOKEN}\nMODE=x # why\nAPI_SECRET=${API_SECRET}\nPASSWORD=${PASSWORD}\n"
    assert found.values == {"app_api_secret": "s $s", "app_password": "a$b", "app_token": "abc123"}


def test_a_text_around_a_variable_is_a_secret_only_where_it_holds_one_itself() -> None:
    found = adopted(
        "services: {web: {image: 'nginx:1.29', environment: ['URL=a://u:${PW}@db', 'PASSWORD=abc${X}', 'TOKEN=${PW}']}}\n",
        variables="PW=p1\nX=1\n",
    )
    assert found.values == {"app_password": "abc1", "app_pw": "p1"}
    assert "'URL=a://u:${PW}@db', \"PASSWORD=${PASSWORD}\", 'TOKEN=${PW}'" in written(found)


def test_a_weak_password_is_not_searched_for_in_ordinary_words() -> None:
    compose = (
        "services: {web: {image: 'nginx:1.29', command: run paperless, environment: {USER: paperless, PASSWORD: paperless}}}\n"
    )
    found = adopted(compose, environment={"USER": "paperless", "PASSWORD": "paperless"})
    assert "command: run paperless" in written(found)
    assert "USER: paperless" in written(found)


def test_a_default_that_is_a_secret_is_taken_out() -> None:
    found = adopted("services: {web: {image: 'nginx:1.29', environment: {PASSWORD: '${DB_PASS:-hunter2}'}}}\n")
    assert "hunter2" not in written(found)
    assert found.values == {"app_db_pass": "hunter2"}


def test_what_came_from_a_shell_is_taken_from_the_container() -> None:
    found = adopted(
        "services: {web: {image: 'nginx:1.29', environment: {PASSWORD: '${PW}', HOST: '${WHERE}'}}}\n",
        environment={"PASSWORD": "abc", "HOST": "here"},
    )
    assert found.values == {"app_pw": "abc"}
    assert written(found, ".env") == "WHERE='here'\n"
    assert any("shell" in each for each in found.notes)


def test_an_exact_tag_goes_to_the_lock_and_one_that_the_lock_has_otherwise_into_the_file() -> None:
    compose = "services: {web: {image: 'nginx:1.29'}}\n"
    assert adopted(compose).pins == {"nginx:1.29": DIGEST}
    other = adopted(compose, lock=ImageLock().with_image("nginx:1.29", OTHER, "2026-01-01"))
    assert other.pins == {}
    assert f"nginx:1.29@{DIGEST}" in written(other)


def test_an_image_that_no_registry_gave_needs_a_version() -> None:
    assert adopted("services: {web: {image: 'nginx:1.29'}}\n", digests=()).pins == {}
    with pytest.raises(NotAdoptableError, match="built or loaded"):
        adopted("services: {web: {image: nginx}}\n", digests=())


@pytest.mark.parametrize(
    "file",
    [
        text_file("password = hunter22\n"),
        text_file("x", mode="-rw-------"),
        RemoteFile(False, "-rw-r--r--", "0", b"\0\1"),
        RemoteFile(False, "-rw-r--r--", "0", None),
    ],
)
def test_a_mounted_file_that_is_no_plain_configuration_stays_on_the_host(file: RemoteFile) -> None:
    found = adopted("services: {web: {image: 'nginx:1.29', volumes: [./c:/c:ro]}}\n", files={"c": file})
    assert f"{HOME}/c:/c:ro" in written(found)
    assert sorted(found.files) == ["compose.yaml"]


def test_a_read_only_folder_of_small_texts_is_copied() -> None:
    files = {"conf": RemoteFile(True), "conf/a": text_file("a"), "conf/b/c": text_file("c", "-rwxr-xr-x")}
    found = adopted("services: {web: {image: 'nginx:1.29', volumes: [./conf:/c:ro]}}\n", files=files)
    assert found.files["conf/a"] == (b"a", False)
    assert found.files["conf/b/c"] == (b"c", True)
    writable = adopted("services: {web: {image: 'nginx:1.29', volumes: [./conf:/c]}}\n", files=files)
    assert sorted(writable.files) == ["compose.yaml"]


def test_a_file_of_the_secrets_section_becomes_a_secret_of_the_spec() -> None:
    found = adopted(
        "services: {web: {image: 'nginx:1.29', secrets: [Db_Key]}}\nsecrets: {Db_Key: {file: key.txt}}\n",
        files={"key.txt": text_file("k\n", "-rw-------")},
    )
    assert found.secret_files == {"db_key": "app_db_key"}
    assert found.values == {"app_db_key": "k\n"}
    assert "./secrets/db_key" in written(found)


def test_a_profile_that_runs_is_switched_on() -> None:
    compose = "services: {web: {image: 'nginx:1.29'}, debug: {image: 'nginx:1.29', profiles: [tools]}}\n"
    found = adopted(compose, services=("web", "debug"))
    assert written(found, ".env") == "COMPOSE_PROFILES=tools\n"


def test_a_service_that_runs_and_that_the_file_lacks_is_a_reason() -> None:
    with pytest.raises(NotAdoptableError, match="no service other"):
        adopted("services: {web: {image: 'nginx:1.29'}}\n", services=("web", "other"))


def test_two_values_of_one_name_get_two_variables_and_a_taken_name_is_not_overwritten() -> None:
    vault = Vault("app", {"app_password": "of another", "app_token": "t0"})
    assert [vault.variable("PASSWORD", each) for each in ("one", "two", "one")] == ["PASSWORD", "PASSWORD_2", "PASSWORD"]
    assert vault.variable("TOKEN", "t0") == "TOKEN"
    assert {name: secret for name, (secret, _) in vault.variables.items()} == {
        "PASSWORD": "app_password_2",
        "PASSWORD_2": "app_password_2_2",
        "TOKEN": "app_token",
    }

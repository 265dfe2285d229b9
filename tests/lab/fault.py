"""Switch a fault of a cloud double: `python -m tests.lab.fault deepseek refused`, `... deepseek none` to end it."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from typing import Any

CLOUD = "http://10.88.0.3:9000"
FAULTS = ("none", "500", "429", "401", "529", "hang", "refused", "context", "content_policy", "cut")


def post(path: str, body: dict[str, Any], base: str = CLOUD) -> Any:
    """POST JSON to a double's control endpoint. Raises urllib.error.URLError when the lab is not up."""
    request = urllib.request.Request(base + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


def calls(base: str = CLOUD) -> list[dict[str, Any]]:
    """Every request that the double has seen since its last reset."""
    with urllib.request.urlopen(f"{base}/_double/calls", timeout=5) as answer:
        seen: list[dict[str, Any]] = json.load(answer)["calls"]
    return seen


def set_fault(provider: str, fault: str, **more: Any) -> None:
    post(f"/_double/{provider}/fault", {"fault": fault, **more})


def main(argv: list[str]) -> int:
    if len(argv) != 2 or argv[1] not in FAULTS:
        print(f"usage: python -m tests.lab.fault PROVIDER {'|'.join(FAULTS)}", file=sys.stderr)
        return 1
    try:
        set_fault(*argv)
    except urllib.error.URLError as problem:
        print(f"{CLOUD}: the cloud double does not answer ({problem.reason}); is the lab up? bin/lab up", file=sys.stderr)
        return 1
    print(f"double of {argv[0]}: fault is now {argv[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

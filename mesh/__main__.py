"""`python -m mesh`, and what `bin/mesh` and the installed `mesh` start."""

import gc
import os
import sys
from typing import NoReturn

# A command lives for about a second and makes few cycles: collecting them costs it more than they do.
gc.set_threshold(100_000, 50, 50)
# The spec needs no plugin of pydantic's, and looking for them means reading the metadata of every package there is.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def run() -> NoReturn:
    """Run one command and leave at once. Taking the interpreter down in good order would take longer than a check."""
    from mesh.cli.main import main

    code = main()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    run()

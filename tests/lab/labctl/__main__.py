import sys

if sys.version_info < (3, 11):
    raise SystemExit("lab: needs Python 3.11 or newer\n  mend: bin/env.sh finds or installs one")

from labctl.cli import main

raise SystemExit(main())

"""Makes `python -m controller` the same as `canary`."""

import sys

from controller.cli.main import main

sys.exit(main())

"""`python -m tchat`."""

import sys

from tchat.cli import main

sys.exit(main())

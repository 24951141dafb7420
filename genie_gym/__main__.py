"""``python -m genie_gym``: the command ``genie-gym``."""

import sys

from genie_gym.cli import main

sys.exit(main())

"""Makes ``python -m genie_gym`` run the command ``genie-gym``."""

import sys

from genie_gym.cli import main

sys.exit(main())

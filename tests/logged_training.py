"""``genie-gym train``, with every step in the log: the runs of the tests are short."""

import sys

import world_models.training.fit
from genie_gym.cli import main

if __name__ == "__main__":
    world_models.training.fit.LOG_EVERY = 1
    sys.exit(main(["train", *sys.argv[1:]]))

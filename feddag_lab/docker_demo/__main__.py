"""``python -m feddag_lab.docker_demo``: ``feddag-lab docker-demo`` with Python alone."""

import argparse
import sys

from feddag_lab.docker_demo import command

parser = argparse.ArgumentParser(prog="docker-demo", description=command.__doc__)
command.add_arguments(parser)
options = parser.parse_args()
sys.exit(options.handler(options))

"""``python -m feddag_flwr.launcher``, the same as ``feddag-flwr``."""

import sys

from feddag_flwr.launcher.cli import main

sys.exit(main())

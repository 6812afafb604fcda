"""``python -m feddag_lab``, the same as ``feddag-lab``."""

import sys

from feddag_lab.cli import main

sys.exit(main())

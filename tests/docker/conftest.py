"""The scripts in docker/ are no package: they import each other as the folder's own modules."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "docker" / folder) for folder in (".", "roles")]

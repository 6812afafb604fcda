"""``python -m feddag_flwr.settings``: the reference as Markdown, with ``--toml`` the defaults."""

import sys

from feddag_flwr.settings.reference import markdown, toml

print((toml() if "--toml" in sys.argv[1:] else markdown()).rstrip())

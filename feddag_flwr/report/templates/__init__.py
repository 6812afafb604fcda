"""The page's templates: as Python, since Flower sends apps' ``.py`` files and no ``.html``."""

from feddag_flwr.report.templates.page import PAGE
from feddag_flwr.report.templates.script import SCRIPT
from feddag_flwr.report.templates.style import STYLE
from feddag_flwr.report.templates.table import TABLE

TEMPLATES = {"page": PAGE, "table": TABLE, "style": STYLE, "script": SCRIPT}

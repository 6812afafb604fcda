"""The page in a real browser: it sorts, searches, loads nothing and raises nothing."""

import json
import re
import shutil
import subprocess

import pytest
from report_pages import write_folder

from feddag_flwr.report.page import write_report

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine"),
]
# What the browser asks for by itself, whatever the page.
OWN_HOST = re.compile(r"https?://(?:accounts|clients\d|www)\.google\.com/")

# Clicks and types as a person does, and puts what came of it where --dump-dom shows it.
ACTIONS = """
<script>
addEventListener("load", () => {
  const said = {};
  const table = document.getElementById("table-clients"), body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const at = title => heads.findIndex(head => head.textContent === title);
  const column = title => [...body.rows].filter(row => !row.hidden)
    .map(row => row.cells[at(title)].textContent);
  const click = title => {
    const button = heads[at(title)].querySelector("button");
    button.focus();
    said.focused = document.activeElement === button;
    button.click();
    return [column(title), heads.map(head => head.getAttribute("aria-sort"))[at(title)]];
  };
  said.up = click("balanced accuracy");
  said.down = click("balanced accuracy");
  said.names = click("client");
  said.samples = click("training samples");
  const field = document.getElementById("search-clients");
  said.label = field.labels[0].textContent;
  field.value = "CLIENT-1"; field.dispatchEvent(new Event("input"));
  said.found = column("client");
  said.told = document.querySelector("output[for=search-clients]").textContent;
  field.value = ""; field.dispatchEvent(new Event("input"));
  said.all = column("client").length;
  said.loaded = performance.getEntriesByType("resource").map(each => each.name);
  said.wide = document.documentElement.scrollWidth > innerWidth;
  const result = document.createElement("pre");
  result.id = "said"; result.textContent = JSON.stringify(said);
  document.body.append(result);
});
</script>
"""


def visit(path, tmp_path):
    """Open a page; return its DOM after its scripts, the console's lines, and addresses asked.

    No name is resolved: nothing leaves the machine.
    """
    log = tmp_path / "net.json"
    done = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}",
            "--host-resolver-rules=MAP * ~NOTFOUND", f"--log-net-log={log}", "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    asked = set(re.findall(r'"url":"((?:https?|wss?)://[^"]+)"', log.read_text()))
    return done.stdout, console, {url for url in asked if not OWN_HOST.match(url)}


@pytest.fixture
def opened(tmp_path):
    folder = write_folder(tmp_path / "run", clients=12)
    text = write_report(folder).read_text(encoding="utf-8")
    path = tmp_path / "page.html"
    path.write_text(text.replace("</body>", f"{ACTIONS}</body>"), encoding="utf-8")
    dom, console, asked = visit(path, tmp_path)
    (said,) = re.findall(r'<pre id="said">(.*?)</pre>', dom, re.DOTALL)
    return json.loads(said.replace("&gt;", ">").replace("&amp;", "&")), console, asked


def test_it_sorts_searches_and_asks_nobody(opened):
    said, console, asked = opened
    values, way = said["up"]
    figures = [float(value.split()[0]) for value in values]
    assert len(figures) == 12
    assert (figures, way) == (sorted(figures), "ascending")
    assert said["down"] == [values[::-1], "descending"]
    names = [f"client-{index}" for index in range(12)]
    assert said["names"] == [sorted(names), "ascending"]
    assert said["samples"][1] == "ascending"
    assert said["focused"]
    assert said["label"] == "Search clients, clusters and remarks"
    assert sorted(said["found"]) == ["client-1", "client-10", "client-11"]
    assert said["told"] == "3 of 12 rows"
    assert said["all"] == 12
    assert said["loaded"] == []
    assert not said["wide"]
    assert console == []
    assert asked == set()


def test_names_of_others_run_no_script(tmp_path):
    evil = "<script>console.error({0})</script><img src=https://example.org/{0}>"
    folder = write_folder(tmp_path / "run", name=evil, class_name=evil)
    _, console, asked = visit(write_report(folder), tmp_path)
    assert console == []
    assert asked == set()


def test_a_browser_would_tell_of_both(tmp_path):
    """The check of the check: an error and a request are noticed."""
    path = tmp_path / "page.html"
    path.write_text(
        "<img src='http://127.0.0.1:9/x.png'><script>console.error('seen')</script>", "utf-8"
    )
    _, console, asked = visit(path, tmp_path)
    assert "seen" in console[0]
    assert "http://127.0.0.1:9/x.png" in asked

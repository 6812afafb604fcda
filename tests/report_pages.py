"""Report pages read as a browser would, and run folders made by hand."""

import json
from html.parser import HTMLParser

import numpy as np

VOID = {"meta", "input", "br", "img", "link"}


class ReportPage(HTMLParser):
    """Elements of a page, its tables by id, texts of its sections by id, and its SVG texts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.tables, self.svg_texts = [], [], {}, []
        self.leads, self.faults, self.commands = [], [], []
        self._open, self._classes, self._table, self._in = [], [], None, []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        self.attributes += attrs
        if tag in VOID:
            return
        self._open.append(tag)
        self._classes.append(values.get("class") or "")
        if tag == "table":
            self._table = self.tables.setdefault(values.get("id", values.get("class")), [])
        if tag == "tr":
            self._table.append([])
        if tag in ("td", "th"):
            self._table[-1].append("")
        for kind, texts in (("lead", self.leads), ("faults", self.faults)):
            if values.get("class") == kind:
                texts.append("")
        if tag == "code":
            self.commands.append("")
        if tag == "text":
            self.svg_texts.append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() == tag
            self._classes.pop()

    def handle_data(self, data):
        if "td" in self._open or "th" in self._open:
            self._table[-1][-1] += data
        if "lead" in self._classes:
            self.leads[-1] += data
        if "faults" in self._classes:
            self.faults[-1] += data
        if "code" in self._open:
            self.commands[-1] += data
        if "text" in self._open:
            self.svg_texts[-1] += data

    @property
    def lead(self):
        (lead,) = self.leads
        return lead

    def rows(self, key):
        """A table's rows, as mappings from its column titles."""
        columns, *rows = self.tables[f"table-{key}"]
        assert len(set(columns)) == len(columns)
        return [dict(zip(columns, row, strict=True)) for row in rows]


def write_folder(folder, *, clients=6, clusters=2, rounds=3, name="client-{}", class_name="{}"):
    """A finished FedDAG run's folder, made by hand: names as `name` and `class_name` say."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    names = [name.format(index) for index in range(clients)]
    places = {each: index % clusters for index, each in enumerate(names)}
    labels = np.array(list(places.values()))
    far = rng.uniform(0.6, 1.0, (clients, clients))
    fused = (far + far.T) / 2
    fused[labels[:, None] == labels] *= 0.3
    np.fill_diagonal(fused, 0.0)
    np.savez_compressed(
        folder / "proximity.npz", clients=np.array(names), fused=fused, gradient=90 * fused,
        data=60 * fused, counts=rng.integers(0, 30, (clients, 3)),
        **{"fusion-weights": np.full_like(fused, 0.5)},
    )  # fmt: skip
    write(folder / "clustering.json", {
        "threshold": 0.5, "num-clusters": clusters, "tests": None,
        "sweep": [{"threshold": t, "num-clusters": n, "loss": t, "loss-within": t, "loss-size": 0.0}
                  for t, n in ((0.0, clients), (0.5, clusters), (1.0, 1))],
        "assignments": places, "teachers": [[z] for z in range(clusters)], "odd-clients": {},
    })  # fmt: skip
    write(folder / "settings.json", {"algorithm": "feddag", "num-rounds": rounds, "seed": 7})
    by_client = {each: {"balanced-accuracy": float(rng.uniform()), "samples": 50} for each in names}
    overall = {"clients": clients, "balanced-accuracy": 0.5, "accuracy": 0.5, "loss": 1.0}
    by_cluster = {str(z): overall for z in range(clusters)}
    lines = [
        {"round": 0, "clusters": clusters, "moved": places},
        *({
            "round": number, "clusters": clusters, "replied": clients, "failed": [],
            "all": {"overall": overall, "by-cluster": by_cluster, "by-client": by_client},
            "bytes-sent": {"down": {"train": 1000}, "up": {"train": 2000}},
        } for number in range(1, rounds + 1)),
    ]  # fmt: skip
    write_lines(folder / "metrics.jsonl", lines)
    write_lines(
        folder / "seconds.jsonl",
        [{"round": n, "train": 2.0, "aggregate": 0.5} for n in range(rounds + 1)],
    )
    members = [[n for n, z in places.items() if z == cluster] for cluster in range(clusters)]
    write(folder / "summary.json", {
        "rounds": rounds, "num-clusters": clusters, "overall": overall,
        "clusters": [{"cluster": z, "members": of, "train-samples": 9, "teachers": [z], **overall}
                     for z, of in enumerate(members)],
        "spread": {"balanced-accuracy": {"worst-client": names[0], "worst": 0.25}},
        "adjusted-rand-index": None, "without-cluster": [],
    })  # fmt: skip
    classes = [class_name.format(index) for index in range(3)]
    state = folder / f"checkpoints/round-{rounds:06d}/state.json"
    state.parent.mkdir(parents=True)
    rows = [{"name": each, "train_samples": 10, "test_samples": 50} for each in names]
    write(state, {"class-names": classes, "clients": rows})
    return folder


def write(path, values):
    path.write_text(json.dumps(values), encoding="utf-8")


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

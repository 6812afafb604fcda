"""A report says what its run folder holds: figures against the folder's own."""

import re
import shlex

import matplotlib
import numpy as np
import pytest
from memory_grid import quick_settings
from report_pages import ReportPage, read, read_lines, write, write_folder, write_lines

from feddag_flwr.launcher import cli, main
from feddag_flwr.report.page import write_report
from feddag_flwr.report.reading import read_run
from feddag_flwr.settings import Settings
from feddag_flwr.simulation import run_in_process

DEFAULT = Settings.from_run_config({}).run.observers


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """The folder of a run that was compared and judged, with the report that it wrote."""
    return run_in_process(
        quick_settings(
            run_dir=str(tmp_path_factory.mktemp("runs")), run_name="ended", observers=DEFAULT,
            num_clients=8, num_rounds=4, compare=True, label_skew=30.0, learning_rate=0.05,
            batch_size=16,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(ended):
    return ReportPage((ended / "report.html").read_text(encoding="utf-8"))


def percent(value):
    return f"{100 * value:.2f} %"


def by_words(page):
    return [text for text in page.svg_texts if text]


@pytest.mark.integration
def test_one_sentence_says_what_came_of_it(ended, page):
    summary = read(ended / "summary.json")
    spread = summary["spread"]["balanced-accuracy"]
    assert page.lead == (
        f"After 4 rounds, 8 clients in {summary['num-clusters']} clusters reach a mean balanced "
        f"accuracy of {percent(summary['overall']['balanced-accuracy'])}, the worst one "
        f"({spread['worst-client']}) {percent(spread['worst'])}; the clusters match the true "
        f"groups with an adjusted Rand index of {summary['adjusted-rand-index']:.3f}; nothing was "
        "left out."
    )
    assert page.faults == []


@pytest.mark.integration
def test_clusters_stand_with_members_samples_teachers_and_metrics(ended, page):
    summary = read(ended / "summary.json")
    rows = page.rows("clusters")
    assert len(rows) == summary["num-clusters"]
    for row, told in zip(rows, summary["clusters"], strict=True):
        assert row["clients"] == str(len(told["members"]))
        assert row["training samples"] == f"{told['train-samples']:,}"
        assert row["learns from"] == ", ".join(map(str, told["teachers"]))
        assert row["balanced accuracy"] == percent(told["balanced-accuracy"])
        assert row["loss"] == f"{told['loss']:.4g}"


@pytest.mark.integration
def test_who_learns_from_whom_is_marked(ended, page):
    teachers = [each["teachers"] for each in read(ended / "summary.json")["clusters"]]
    _, *rows = page.tables["teachers"]
    marked = [[z for z, cell in enumerate(row[1:]) if cell == "●"] for row in rows]
    assert marked == teachers


@pytest.mark.integration
def test_each_client_has_its_result_and_what_it_gains(ended, page):
    summary, last = read(ended / "summary.json"), read_lines(ended / "metrics.jsonl")[-1]
    samples = {
        each["name"]: each
        for each in read(ended / "checkpoints/round-000004/state.json")["clients"]
    }
    places = {n: each["cluster"] for each in summary["clusters"] for n in each["members"]}
    rows = page.rows("clients")
    assert [row["client"] for row in rows] == sorted(places)
    for row in rows:
        name, told = row["client"], summary["comparison"]["clients"][row["client"]]
        assert row["cluster"] == str(places[name])
        assert row["training samples"] == str(samples[name]["train_samples"])
        assert row["test samples"] == str(samples[name]["test_samples"])
        figure = last["all"]["by-client"][name]["balanced-accuracy"]
        assert row["balanced accuracy"] == percent(figure)
        assert row["in round"] == "4"
        for model, title in (("one-model", "one model"), ("alone", "alone")):
            assert row[f"balanced accuracy: {title}"] == percent(told[model])
            gain = 100 * (told["clustered"] - told[model])
            assert float(row[f"gain over {title}"].split()[0]) == pytest.approx(gain, abs=0.006)
        assert (row["moved"], row["replies failed"]) == ("0", "0")


@pytest.mark.integration
def test_settings_that_differ_from_the_default_are_marked(ended, page):
    given = read(ended / "settings.json")
    usual = Settings.from_run_config({}).to_run_config()
    rows = {row["setting"]: row for row in page.rows("settings")}
    assert rows.keys() == given.keys()
    differing = {key for key, row in rows.items() if row["differs"]}
    assert differing == {key for key, value in given.items() if value != usual[key]}
    assert {"num-rounds", "compare"} <= differing
    assert not {"fusion", "algorithm"} & differing  # what the preset says is no difference
    assert (rows["num-rounds"]["value"], rows["num-rounds"]["default"]) == ("4", "100")


@pytest.mark.integration
def test_curves_end_where_the_figures_do(ended, page):
    lines = read_lines(ended / "metrics.jsonl")
    last = lines[-1]["all"]
    worst = min(each["balanced-accuracy"] for each in last["by-client"].values())
    labels = " ".join(value for key, value in page.attributes if key == "aria-label")
    assert f"all clients, mean {100 * last['overall']['balanced-accuracy']:.4g}" in labels
    assert f"worst client {100 * worst:.4g}" in labels
    assert f"test data, all clients {last['overall']['loss']:.4g}" in labels
    down = sum(sum(line["bytes-sent"]["down"].values()) for line in lines)
    assert f"In all {down / 1e6:,.1f} MB to clients" in labels
    train = sum(
        line["train"] - line["aggregate"] - line["judge"]
        for line in read_lines(ended / "seconds.jsonl")[1:]
    )
    assert f"train {train:,.1f}" in labels


@pytest.mark.integration
def test_clusters_classes_and_the_sweep_are_drawn(ended, page):
    clusters = read(ended / "summary.json")["num-clusters"]
    texts = by_words(page)
    for cluster in range(clusters):
        assert any(text.startswith(f"cluster {cluster}: ") for text in texts)
    threshold = read(ended / "clustering.json")["threshold"]
    assert f"dendrogram; cut at {threshold:.3g}" in texts
    labels = " ".join(value for key, value in page.attributes if key == "aria-label")
    assert f"Chosen: {threshold:.3g}, {clusters} clusters." in labels
    for title in ("fused dissimilarity A", "gradient dissimilarity G", "Threshold sweep"):
        assert title in labels


@pytest.mark.integration
def test_the_commands_are_commands_for_this_folder(ended, page):
    parser = cli._parser()
    for line in page.commands:
        program, *words = shlex.split(line)
        assert program == "feddag-flwr"
        options = parser.parse_args(words)
        folder = options.resume if options.command == "run" else options.run_folder
        assert folder == ended
    said = [shlex.split(line)[1] for line in page.commands]
    assert said == ["run", "export", "predict", "predict", "report"]


@pytest.mark.integration
def test_start_end_and_versions_are_told(ended, page):
    start, end = read_lines(ended / "sessions.jsonl")
    text = (ended / "report.html").read_text(encoding="utf-8")
    assert f"<dt>started</dt><dd>{start['started']}</dd>" in text
    assert f"<dt>ended</dt><dd>{end['ended']}</dd>" in text
    assert f"torch {start['versions']['torch']}" in text
    assert end["round"] == 4


@pytest.mark.integration
def test_a_run_that_goes_on_has_both_starts_and_a_new_page(tmp_path, capsys):
    settings = quick_settings(
        run_dir=str(tmp_path), run_name="run", observers=DEFAULT, num_rounds=1
    )  # fmt: skip
    folder = run_in_process(settings)
    assert f"report: {folder / 'report.html'}\n" in capsys.readouterr().out
    assert ReportPage((folder / "report.html").read_text("utf-8")).lead.startswith("After 1 round,")
    before = settings.to_run_config()
    run_in_process(
        Settings.from_run_config(before | {"resume": str(folder), "num-rounds": 2})
    )  # fmt: skip
    first, _, second, end = read_lines(folder / "sessions.jsonl")
    text = (folder / "report.html").read_text("utf-8")
    assert ReportPage(text).lead.startswith("After 2 rounds,")
    assert f"<dt>started</dt><dd>{first['started']}</dd>" in text
    assert f"<dt>went on</dt><dd>{second['started']}, at round 2</dd>" in text
    assert f"<dt>ended</dt><dd>{end['ended']}</dd>" in text


@pytest.mark.integration
def test_without_any_other_observer_the_page_says_how_the_run_ended(tmp_path):
    folder = run_in_process(
        quick_settings(run_dir=str(tmp_path), run_name="run", observers="report", num_rounds=1)
    )
    assert not (folder / "summary.json").exists()
    page = ReportPage((folder / "report.html").read_text("utf-8"))
    assert page.lead.startswith("After 1 round, 6 clients")
    assert len(page.rows("clusters")) > 1


@pytest.mark.integration
def test_the_page_loads_nothing(page):
    text = " ".join(f"{key}={value}" for key, value in page.attributes)
    policy = next(v for k, v in page.attributes if k == "content" and "default-src" in v)
    assert policy == (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    )
    linked = [v for k, v in page.attributes if k in ("href", "src", "xlink:href", "action")]
    assert linked
    assert all(value.startswith(("#", "data:image/png;base64,")) for value in linked)
    assert set(re.findall(r"https?://[^\s;]+", text)) <= {
        "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
    }  # fmt: skip
    assert not {"link", "iframe", "object", "embed", "form"} & set(page.tags)


@pytest.mark.integration
def test_what_refers_to_an_id_finds_one_and_ids_are_unique(ended, page):
    text = (ended / "report.html").read_text(encoding="utf-8")
    ids = [value for key, value in page.attributes if key == "id"]
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", text))
    for pair in re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", text):
        assert "".join(pair) in ids


@pytest.mark.integration
def test_two_writes_are_equal_in_whatever_style_the_process_draws(ended, tmp_path):
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": None, "axes.grid": True}):
        write_report(ended, tmp_path / "one.html")
        assert matplotlib.rcParams["font.size"] == 30
    written = (ended / "report.html").read_bytes()
    assert (tmp_path / "one.html").read_bytes() == written
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.integration
def test_the_command_writes_it_and_says_where(ended, tmp_path, capsys):
    assert main(["report", str(ended), "--output", str(tmp_path / "mine.html")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'mine.html'}\n"
    assert (tmp_path / "mine.html").read_bytes() == (ended / "report.html").read_bytes()


def test_the_command_refuses_what_is_no_run_folder(tmp_path, capsys):
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert main(["report", str(folder)]) == 2
        assert f"{folder} is no run folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.integration
def test_a_report_that_cannot_be_written_costs_a_log_line(tmp_path, caplog, capsys, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    settings = quick_settings(
        run_dir=str(tmp_path), run_name="run", observers="round-log, closing-table, report"
    )
    folder = run_in_process(settings)
    assert (folder / "summary.json").exists()
    assert "the report could not be written: OSError: [Errno 28] No space left" in caplog.text
    assert "report: " not in capsys.readouterr().out
    assert not (folder / "report.html").exists()


def test_odd_and_failed_clients_have_their_sentences(tmp_path):
    folder = write_folder(tmp_path / "run")
    clustering, summary = read(folder / "clustering.json"), read(folder / "summary.json")
    clustering["odd-clients"] = {"client-1": "its classes 'a' and 'b' look exchanged (p = 0.001)"}
    summary["left-out"] = {
        "clients": [{"client": "client-2", "at": "train", "reason": "its loss is NaN"}],
        "files": {"client-3": 4}, "classes": ["9"],
    }  # fmt: skip
    write(folder / "clustering.json", clustering)
    write(folder / "summary.json", summary)
    lines = read_lines(folder / "metrics.jsonl")
    lines[2] |= {"failed": ["client-2"], "drifted": ["client-4"], "moved": {"client-5": 0}}
    lines[3] |= {"failed": ["client-2"], "quarantined": ["client-0"]}
    for line, worse in zip(lines[1:], (1, 2, 3), strict=True):  # of 4: half is not more than half
        line["judged"] = {"client-0": {"worse": worse, "of": 4}}
    write_lines(folder / "metrics.jsonl", lines)
    text = write_report(folder).read_text(encoding="utf-8")
    page = ReportPage(text)
    rows = {row["client"]: row for row in page.rows("clients")}
    assert rows["client-1"]["remarks"].startswith("odd: its classes")
    assert rows["client-2"]["remarks"] == "left out (train): its loss is NaN"
    assert rows["client-2"]["replies failed"] == "2"
    assert rows["client-4"]["rounds drifted"] == "1"
    assert rows["client-5"]["moved"] == "1"
    assert rows["client-0"]["judged harmful"] == "1"
    assert rows["client-0"]["rounds in quarantine"] == "1"
    assert rows["client-0"]["remarks"] == "in quarantine"
    assert "left out, at least once: 1 client, 4 files, 1 class." in page.lead
    for sentence in (
        "left out: 4 files of client client-3, whose log names them",
        "left out: client client-2 (train): its loss is NaN",
        "in quarantine at the end: client-0",
        "replies that failed, by client: client-2 (2 rounds)",
    ):
        assert f"<li>{sentence}</li>" in text


def test_the_worst_client_of_a_loss_is_the_one_with_the_largest(tmp_path):
    folder = write_folder(tmp_path / "run")
    settings = read(folder / "settings.json") | {"metrics": "calibration-error, accuracy"}
    write(folder / "settings.json", settings)
    lines = read_lines(folder / "metrics.jsonl")
    for line in lines[1:]:
        line["all"]["by-client"] = {
            "client-0": {"calibration-error": 0.1}, "client-1": {"calibration-error": 0.4},
        }  # fmt: skip
    write_lines(folder / "metrics.jsonl", lines)
    run = read_run(folder)
    assert not run.headline.higher_is_better
    assert [each.worst for each in run.rounds] == [None, 0.4, 0.4, 0.4]


def test_bars_are_the_sums_of_the_clients_counts(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "run", clients=5)
    drawn = []
    monkeypatch.setattr(
        "matplotlib.axes.Axes.bar", lambda self, x, heights, **_: drawn.append(list(heights))
    )
    write_report(folder)
    counts = np.load(folder / "proximity.npz")["counts"]
    expected = [counts[[0, 2, 4]].sum(axis=0).tolist(), counts[[1, 3]].sum(axis=0).tolist()]
    assert [list(map(int, heights)) for heights in drawn] == expected

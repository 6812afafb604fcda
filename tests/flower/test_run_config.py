"""Settings on the command line and in TOML files: all is understood, or it is named."""

from pathlib import Path

import pytest

from feddag_flwr.flower.run_config import parse_overrides, read_defaults
from feddag_flwr.launcher import main

BOM = b"\xef\xbb\xbf"


@pytest.fixture
def settings_file(tmp_path):
    path = tmp_path / "more.toml"
    path.write_text('c = "from file"\n[nested]\nkey = 1\n')
    return path


def test_later_overrides_win_and_are_named(settings_file, caplog):
    parsed = parse_overrides(['a=1 b="two words" c=\'say "hi"\'', "a=0.5 d=true", "", "a=7"])
    assert parsed == {"a": 7, "b": "two words", "c": 'say "hi"', "d": True}
    assert caplog.messages == ["--run-config: of a the last value holds"] * 2
    parsed = parse_overrides(["c=1", str(settings_file), "nested.key=2"])
    assert parsed == {"c": "from file", "nested.key": 2}


def test_a_quote_in_a_text_and_a_path_that_ends_in_toml_are_values():
    parsed = parse_overrides([r'a="say \"hi\"" b="x.toml"', "c='C:\\new'"])
    assert parsed == {"a": 'say "hi"', "b": "x.toml", "c": r"C:\new"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("FILE num-clients=3", r"FILE' is no key=value pair: a TOML file stands alone"),
        ("num-clients=3 FILE", r"FILE' is no key=value pair: a TOML file stands alone"),
        ("seed=1 junk", "'junk' is no key=value pair"),
        ("seed = 1", "'seed' is no key=value pair"),
        ("seed=1, rounds=2", "'seed=1,' is no TOML"),
        ("seed=1#2", "'seed=1#2' is no key=value pair"),
        ('name="a"b', "'name=\"a\"b' is no key=value pair"),
        ('name="a', "'name=\"a' is no key=value pair"),
        ("seed=1 rounds=2 seed=3", "'seed' is given twice"),
        ("algorithm=fedavg", 'a text needs quotes: algorithm="fedavg"'),
        ("seeds=[1]", r"'seeds=\[1\]': seeds = \[1\] must be a number, a text in quotes, true or"),
        ("seeds=[]", r"seeds = \[\] must be a number, a text in quotes, true or false"),
        ("seeds={}", r"seeds = \{\} must be a number, a text in quotes, true or false"),
        ("seeds={a=[1]}", r"in seeds: a = \[1\] must be a number, a text in quotes, true or"),
        ("day=2026-01-01", r"day = datetime.date\(2026, 1, 1\) must be a number, a text in"),
        ("algorithm", "'algorithm' is no key=value pair"),
        ("absent.toml", r"absent\.toml': No such file"),
    ],
)
def test_what_is_not_understood_is_named(text, named, settings_file):
    with pytest.raises(ValueError, match=named.replace("FILE", str(settings_file))):
        parse_overrides([text.replace("FILE", str(settings_file))])


def test_the_command_ends_with_2_and_one_line(settings_file, capsys, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *_: None)
    for command in (["run"], ["scenario", "--output", "nowhere"]):
        assert main([*command, "--run-config", f"{settings_file} num-clients=3"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "a TOML file stands alone" in line


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"seed = 1\nnum-rounds = = 1\n", r"\(at line 2, column 14\)"),
        (b"seed = 1\nclasses = [1,", r"\(at line 2, the end of the file\)"),
        (b'seed = 1\n\nrun-name = "\xe9t\xe9"\n', r"not UTF-8 \(at line 3\)"),
    ],
)
def test_a_fault_in_a_file_names_file_and_line(content, place, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *_: None)
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"--run-config {path}: .*{place}"):
        parse_overrides([str(path)])
    (tmp_path / "pyproject.toml").write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{tmp_path / 'pyproject.toml'}: .*{place}"):
        read_defaults(tmp_path)
    assert main(["run", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_byte_order_mark_is_no_setting(tmp_path):
    path = tmp_path / "windows.toml"
    path.write_bytes(BOM + 'run-name = "é"\r\nseed = 2\r\n'.encode())
    assert parse_overrides([str(path)]) == {"run-name": "é", "seed": 2}


def test_an_app_that_flower_cannot_read_is_refused_before_it_starts(tmp_path):
    (tmp_path / "pyproject.toml").write_bytes(BOM + b"[tool.flwr.app]\n")
    with pytest.raises(ValueError, match=r"pyproject\.toml begins with a byte order mark"):
        read_defaults(tmp_path)


def test_a_value_that_is_no_setting_is_named_with_its_file(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.flwr.app.config]\nseeds = [1]\n")
    with pytest.raises(
        ValueError, match=r"pyproject\.toml: seeds = \[1\] must be a number, a text"
    ):
        read_defaults(tmp_path)


def test_lists_and_tables_of_a_file_cost_one_line_and_no_traceback(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *_: None)
    path, root = tmp_path / "more.toml", Path(__file__).resolve().parents[2]
    for text, told in {
        "local-epochs = [1, 2]": "local-epochs = [1, 2] must be a number, a text in quotes, true",
        'algorithm = ["ifca"]': "algorithm = ['ifca'] must be a number, a text in quotes, true",
        "[data-dir]": "data-dir = {} must be a number, a text in quotes, true or false",
        "[local-epochs]\na = 1": "'local-epochs.a' = 1 is not a setting of this app; did you mean "
        "'local-epochs'?",
    }.items():
        path.write_text(f"{text}\n")
        assert main(["run", str(root), "--in-process", "--run-config", str(path)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line

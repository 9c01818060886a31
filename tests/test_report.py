"""Records → means, intervals and differences, on records whose sums are known."""

import builtins
import json
import math
import re
import sys

import pytest
from rich.console import Console

from metaglot.errors import MissingExtraError, SettingsError, StorageError
from metaglot.evaluation.grid import Record
from metaglot.evaluation.report import PLOT_FORMATS, Report, check_plot


def record(method, language, shots, draw, accuracy, *, learned=True):
    metrics = {"accuracy": accuracy, "log_loss": 1 - accuracy}
    return Record(method, learned, language, shots, draw, shots * 4, metrics)


def grid(values, *, learned=True):
    """Records of {(method, shots): [[draws of a language], …]}."""
    return [
        record(method, language, shots, draw, value, learned=learned)
        for (method, shots), rows in values.items()
        for language, row in zip(("swh", "yor"), rows, strict=True)
        for draw, value in enumerate(row)
    ]


RECORDS = [
    *grid({("auto", 0): [[0.4], [0.2]], ("auto", 1): [[0.5, 0.7], [0.3, 0.5]], ("auto", 4): [[0.8] * 2] * 2}),
    *grid({("maml", 0): [[0.4], [0.2]], ("maml", 1): [[0.1, 0.1], [0.1, 0.1]], ("maml", 4): [[0.9] * 2] * 2}),
    *grid({("joint", 1): [[0.4, 0.6], [0.3, 0.5]], ("joint", 4): [[0.7, 0.8]] * 2}, learned=False),
    *grid({("zero-shot", 0): [[0.4], [0.2]], ("zero-shot", 1): [[0.4] * 2, [0.2] * 2]}, learned=False),
]


@pytest.fixture
def report():
    return Report(RECORDS)


def rendered(thing, width=120):
    console = Console(width=width, color_system=None)
    with console.capture() as shown:
        console.print(thing)
    return shown.get()


def test_a_mean_is_over_languages_and_draws(report):
    cell = report.cell("auto", 1)
    assert cell.mean == pytest.approx(0.5)
    assert (cell.languages, cell.draws) == (2, 2)
    # Of two draws a language, resampled within it: the least mean is (.5 + .3)/2, the greatest (.7 + .5)/2.
    assert (cell.low, cell.high) == (pytest.approx(0.4), pytest.approx(0.6))
    assert report.cell("joint", 0) is None and report.mean("joint", 0) is None


def test_an_interval_of_what_does_not_vary_is_a_point(report):
    cell = report.cell("auto", 4)
    assert report.mean("auto", 4) == cell.mean and report.cell("auto", 4) is cell
    assert (cell.low, cell.mean, cell.high) == (pytest.approx(0.8),) * 3
    one = report.cell("auto", 0)  # one draw: languages are not resampled
    assert (one.low, one.mean, one.high) == (pytest.approx(0.3),) * 3


def test_differences_are_paired_and_of_the_best(report):
    one, four = report.differences()
    assert (one.shots, one.learner, one.baseline) == (1, "auto", "joint")
    assert one.cell.mean == pytest.approx(0.05)  # .1, .1, 0, 0 by draw
    # Unpaired draws would give an interval four times as wide; these differences do not vary by draw.
    assert (one.cell.low, one.cell.high) == (pytest.approx(0.05), pytest.approx(0.05))
    assert (four.shots, four.learner, four.baseline) == (4, "maml", "joint")
    assert four.cell.mean == pytest.approx(0.15)
    assert (four.cell.low, four.cell.high) == (pytest.approx(0.1), pytest.approx(0.2))
    assert report.difference_lines() == [
        "k = 1: auto +5.0 points against joint (paired 95% interval +5.0 to +5.0)",
        "k = 4: maml +15.0 points against joint (paired 95% interval +10.0 to +20.0)",
    ]


def test_learners_alone_have_no_differences():
    report = Report([r for r in RECORDS if r.learned])
    assert report.differences() == []
    assert report.baselines == []
    assert "auto" in rendered(report.table())


def test_another_metric_is_summed_up(report):
    assert Report(RECORDS, "log_loss").cell("auto", 4).mean == pytest.approx(0.2)
    assert report.metric == "accuracy"


def test_the_table_has_a_row_for_every_method(report):
    text = rendered(report.table())
    cells = {
        line.strip(" │").split()[0]: re.findall(r"\d+\.\d(?: ±\d+\.\d)?|–", line)
        for line in text.splitlines()
        if "." in line or "–" in line
    }
    assert cells["auto"] == ["30.0", "50.0 ±10.0", "80.0"]
    assert cells["maml"] == ["30.0", "10.0", "90.0"]
    assert cells["joint"] == ["–", "45.0 ±10.0", "75.0 ±5.0"]
    assert cells["zero-shot"] == ["30.0", "30.0", "–"]
    assert [name for name in cells if len(cells[name]) == 3] == ["auto", "maml", "joint", "zero-shot"]
    title = " ".join(text.split())
    assert "2 held-out languages and 2 draws" in title
    assert "k = 4" in title


def test_the_best_of_a_column_is_bold(report):
    table = report.table()
    bold = [[cell for cell in column._cells if cell.startswith("[bold]")] for column in table.columns]
    assert [len(cells) for cells in bold] == [0, 0, 1, 1]
    assert bold[2:] == [["[bold]50.0 ±10.0[/bold]"], ["[bold]90.0[/bold]"]]


def test_languages_are_shown_beside_zero_shot(report):
    text = rendered(report.language_table("auto", 4))
    row = next(line for line in text.splitlines() if "Swahili (swh)" in line)
    assert re.findall(r"[+-]?\d+\.\d", row) == ["40.0", "80.0", "+40.0"]
    assert "Yoruba (yor)" in text


def test_the_summary_is_json(report):
    found = json.loads(json.dumps(report.summary(), allow_nan=False))
    assert (found["metric"], found["languages"]) == ("accuracy", ["swh", "yor"])
    assert found["means"]["auto"]["1"]["mean"] == pytest.approx(0.5)
    assert "0" not in found["means"]["joint"]
    assert [d["learner"] for d in found["differences"]] == ["auto", "maml"]
    assert math.isclose(found["differences"][0]["cell"]["mean"], 0.05)
    rows = [Record(**row) for row in json.loads(json.dumps([r.as_dict() for r in RECORDS]))]
    assert rows == RECORDS


MARKS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


@pytest.mark.parametrize("suffix", PLOT_FORMATS)
def test_a_plot_is_a_picture(report, tmp_path, suffix):
    path = tmp_path / "deep" / f"plot{suffix}"
    report.plot(path)
    assert path.read_bytes().startswith(MARKS[suffix])
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("kept", [["joint", "zero-shot"], ["auto"]])
def test_a_plot_needs_neither_learners_nor_baselines(tmp_path, kept):
    Report([r for r in RECORDS if r.method in kept]).plot(tmp_path / "plot.PNG")
    assert (tmp_path / "plot.PNG").read_bytes().startswith(MARKS[".png"])


def test_other_pictures_are_refused(report, tmp_path):
    for name in ("plot", "plot.docx", "plot.png.gz"):
        with pytest.raises(SettingsError, match=r"\.png, \.svg, \.pdf"):
            report.plot(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_plot_that_cannot_be_written_is_said(report, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not write"):
        report.plot(tmp_path / "file" / "plot.png")


def test_without_matplotlib_the_extra_is_named(monkeypatch, tmp_path):
    real = builtins.__import__

    def without(name, *arguments, **more):
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.delitem(sys.modules, "matplotlib", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"metaglot\[plot\]"):
        check_plot(tmp_path / "plot.png")


def test_a_learner_is_compared_with_the_baseline_that_is_best_in_hindsight(report):
    found = report.against_best("maml", 1)
    assert (found.learner, found.baseline) == ("maml", "joint")
    assert found.cell.mean == pytest.approx(-0.35)
    assert report.against_best("auto", 0).baseline == "zero-shot"
    assert report.against_best("anil", 1) is None
    assert Report([r for r in RECORDS if r.learned]).against_best("auto", 1) is None


def test_many_languages_are_plotted_without_their_gains(tmp_path):
    few = [record("auto", f"q{chr(97 + i)}a", k, 0, 0.5) for i in range(26) for k in (0, 1)]
    more = [record("auto", f"q{chr(97 + i)}b", k, 0, 0.5) for i in range(26) for k in (0, 1)]
    sizes = []
    for name, records in (("few", few), ("more", few + more)):
        Report(records).plot(tmp_path / f"{name}.png")
        # Width and height stand in a PNG's header.
        sizes.append(int.from_bytes((tmp_path / f"{name}.png").read_bytes()[16:20], "big"))
    assert sizes == [1540, 1050]

"""What the documentation says is so: its code runs, its commands exist, its numbers are the files'."""

import importlib.util
import json
import re
import runpy
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest
import torch
import typer.main

from metaglot.cli.app import app
from metaglot.config import Recipe, TrainSettings, read_recipe
from metaglot.data import CORPORA, load_examples
from metaglot.data.columns import USUAL
from metaglot.data.home_assistant import SOURCES, locales
from metaglot.data.readers import FORMATS
from metaglot.encoders import ENCODERS
from metaglot.evaluation.baselines import BASELINES
from metaglot.evaluation.metrics import bootstrap_interval
from metaglot.learners import LEARNERS
from metaglot.learners.base import Learner
from metaglot.registry import Registry
from metaglot.training import fit, train_learners
from metaglot.types import Corpus, Example
from village import WORDS, sentences, write_corpus, write_examples

ROOT = Path(__file__).parent.parent
SNIPPETS = ROOT / "docs_src"
PAGES = [
    *(ROOT / name for name in ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "src" / "metaglot" / "learners" / "README.md",
]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
CODE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def blocks(page, language):
    """The code blocks of one language, or all where it is empty."""
    return [code for found, code in CODE.findall(TEXTS[page]) if language in {"", found}]


def prose(page):
    """The page without its code blocks."""
    return CODE.sub("", TEXTS[page])


def headings(page):
    return re.findall(r"^(#+) (.+)$", prose(page), re.M)


def anchors(page):
    """What a page's headings are called in links."""
    names = (re.sub(r"[`*]", "", title).lower() for _, title in headings(page))
    return {re.sub(r"[^\w\s-]", "", name).strip().replace(" ", "-") for name in names}


def links(page):
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def rows_of(page, heading):
    """The first cells of the rows of the first table below a heading, and the whole rows."""
    below = TEXTS[page].split(f"\n## {heading}\n")[1]
    table = re.search(r"^\|.*?(?=\n\n|\Z)", below, re.M | re.S)[0].splitlines()[2:]
    return {row.split("|")[1].strip().strip("`"): row for row in table}


@pytest.fixture(scope="module")
def tables():
    spec = importlib.util.spec_from_file_location("demo_table", ROOT / "benchmarks" / "demo_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- Links, pages and their translation.


@every_page
def test_every_link_leads_somewhere(page):
    for link in links(page):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{link}: no such file"
        if page.parent.name == "docs":
            assert file.is_relative_to(ROOT / "docs"), f"{link}: the site has no such page"
        if anchor:
            assert anchor in anchors(file), f"{link}: expected one of {sorted(anchors(file))}"


def test_every_page_is_in_the_navigation_and_can_be_reached_from_the_readme():
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    reached = set(links(ROOT / "README.md"))
    for page in (ROOT / "docs").glob("*.md"):
        assert f"- {page.name}\n" in config
        assert page.name == "index.md" or any(link.startswith(f"docs/{page.name}") for link in reached)


def test_the_chinese_readme_keeps_step():
    english, chinese = ROOT / "README.md", ROOT / "README.zh-CN.md"
    assert [level for level, _ in headings(english)] == [level for level, _ in headings(chinese)]
    assert blocks(english, "") == blocks(chinese, "")

    def targets(page):
        return [link for link in links(page) if not link.startswith(("#", "README"))]

    assert targets(english) == targets(chinese)
    for mark in (r"^- ", r"^\|", r"^`python", r"^<!--"):
        counts = [len(re.findall(mark, prose(page), re.M)) for page in (english, chinese)]
        assert counts[0] == counts[1], mark


# --- Code.


@every_page
def test_every_python_block_is_a_file_that_is_run_below(page):
    files = {file.read_text(encoding="utf-8"): file.name for file in SNIPPETS.glob("*.py")}
    for code in blocks(page, "python"):
        assert code in files, f"no file of docs_src is this block:\n{code}"


def test_every_snippet_is_shown_somewhere():
    shown = {code for page in PAGES for code in [*blocks(page, "python"), *blocks(page, "toml")]}
    for file in [*SNIPPETS.glob("*.py"), *SNIPPETS.glob("*.toml")]:
        assert file.read_text(encoding="utf-8") in shown, f"{file.name} is on no page"


def home_assistant(*, languages=None, per_intent=40, seed=0):
    """In place of the corpus: the village's words under the languages asked for."""
    words = list(WORDS.values())
    return Corpus(
        "stand-in",
        tuple(
            Example(f"{code}-{label}-{i}", f"{text} {i}", label, code, "train" if i < 12 else "test")
            for number, code in enumerate(languages)
            for label, text in words[number % len(words)].items()
            for i in range(16)
        ),
    )


@pytest.fixture
def here(tmp_path, monkeypatch, own_cache):
    """A folder with what the snippets read, and small stand-ins for the encoder and the corpus."""
    for language in WORDS:
        for split, numbers in (("train", range(6)), ("test", range(6, 9))):
            rows = [
                {"id": f"{split}{label}{i}", "text": text, "label": label}
                for label in WORDS[language]
                for i, text in enumerate(sentences(language, label, numbers))
            ]
            file = tmp_path / "commands" / language / f"{split}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    write_examples(tmp_path / "swahili.csv")
    write_corpus(tmp_path / "village.csv")
    broken = "text,label\nwasha taa ya jikoni,HassTurnOn\n,HassTurnOff\nzima taa,\n"
    (tmp_path / "broken.csv").write_text(broken, encoding="utf-8")
    monkeypatch.syspath_prepend(SNIPPETS)
    for name in ("e5-small", "surface"):
        monkeypatch.setitem(ENCODERS._targets, name, "own_encoder:load")
    monkeypatch.setitem(CORPORA._targets, "home-assistant", f"{__name__}:home_assistant")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(name):
    return runpy.run_path(str(SNIPPETS / f"{name}.py"))


def test_ten_lines(here, capsys):
    left = run("ten_lines")
    assert set(left["languages"]) <= set(locales())
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert (here / "thai" / "adaptations" / "tha.safetensors").is_file()


def test_own_data_then_a_look_inside(here, capsys):
    run("own_data")
    printed = capsys.readouterr().out
    assert re.search(r"zero-shot → .*12 examples judged", printed)
    assert re.search(r"^washa taa ya jikoni \w+ \d+%$", printed, re.M)
    run("look_inside")
    assert "weight.ngrams (4, 4096)" in capsys.readouterr().out
    run("sure")
    assert len(re.findall(r"^.+ → (?:I don't know|\w+ \d+%)$", capsys.readouterr().out, re.M)) == 2


def test_judging(here, capsys):
    left = run("judge")
    assert capsys.readouterr().out.count("points against") == 2
    assert left["report"].cell("auto", 4).draws == 10


def test_choosing_settings(here, capsys):
    left = run("search")
    assert capsys.readouterr().out.strip() == left["found"].verdict()
    assert len(left["found"].ranked) == 3
    assert left["best"].held_out == ("swh",)


def test_the_message_about_broken_data_is_the_one_that_is_shown(here, capsys):
    run("catch")
    shown = next(code for code in blocks(ROOT / "docs" / "data.md", "console") if "broken.csv" in code)
    assert capsys.readouterr().out == shown.partition("error: ")[2]


def test_the_recipe_is_valid_and_its_page_lists_every_setting():
    recipe = read_recipe(SNIPPETS / "recipe.toml", {})
    assert {*recipe.sources, *recipe.held_out} == set(recipe.corpus_options["languages"]) <= set(locales())
    below = TEXTS[ROOT / "docs" / "recipes.md"].split("\n## Settings\n")[1]
    settings, outer = below.split("The table `[train]`")
    for text, model in ((settings, Recipe), (outer.split("\n## ")[0], TrainSettings)):
        named = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", text, re.M))
        assert named.keys() | {"train"} == model.model_fields.keys() | {"train"}
        for name, written in named.items():
            default = model.model_fields[name].get_default()
            if re.fullmatch(r"`?[\d.]+`?|`[\[{\"].*`", written):
                assert json.loads(written.strip("`")) == json.loads(json.dumps(default)), name


def test_the_outer_loop_without_text(here, capsys):
    left = run("waves")
    before, after = re.search(r": (\d\.\d+) -> (\d\.\d+),", capsys.readouterr().out).groups()
    assert float(after) < 0.5 * float(before)
    assert left["result"].history.steps == 60
    assert (here / "waves.checkpoint").is_file()


def test_extending_by_entry_points(here, monkeypatch):
    package = tomllib.loads(blocks(ROOT / "docs" / "extending.md", "toml")[0])["project"]
    made = here / "site" / "metaglot_extras-0.1.0.dist-info"
    made.mkdir(parents=True)
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: metaglot-extras\nVersion: 0.1.0\n")
    groups = package["entry-points"]
    lines = [
        f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in groups.items()
    ]
    (made / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(here / "site")

    learners, corpora = Registry("learner", {}), Registry("corpus", {}, plural="corpora")
    assert Registry("encoder", {})["surface"]("", None).blocks == {"surface": 8}
    assert len(corpora["greetings"](languages=["eng"]).examples) == 8
    monkeypatch.setitem(LEARNERS._targets, "mean-and-prior", groups["metaglot.learners"]["mean-and-prior"])
    assert isinstance(learners["mean-and-prior"](), Learner)

    recipe = Recipe(corpus="greetings", held_out=("swh",), encoder="surface+ngrams", learner="mean-and-prior")
    recipe = recipe.model_copy(update={"train": TrainSettings(steps=30, shots=(1, 2))})
    fitted = fit(corpora["greetings"](), recipe)
    ((_, result),) = train_learners(fitted, recipe, ["mean-and-prior"]).values()
    assert result.losses[-1] < result.losses[0]
    assert all(
        not torch.equal(result.meta[k], torch.tensor(1.0)) for k in ("log_weight.ngrams", "log_weight.prior")
    )


# --- Commands.


def commands(page):
    """Whole commands after `$`, and the beginnings of commands in running text."""
    for block in blocks(page, "console"):
        yield from ((line[2:], True) for line in block.splitlines() if line.startswith("$ "))
    yield from ((code, False) for code in re.findall(r"`((?:metaglot|make|python) [^`]+)`", prose(page)))


def check_metaglot(words, *, whole):
    command, path = typer.main.get_command(app), "metaglot"
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"{path} has no command {words[0]!r}"
        command, path = command.commands[words[0]], f"{path} {words[0]}"
        words = words[1:]
    known = {name for p in command.params for name in [*p.opts, *p.secondary_opts]}
    for word in words:
        assert not word.startswith("-") or word in known, f"{path} has no option {word}"
    if whole and not hasattr(command, "commands"):
        command.make_context(path, list(words))
    for option, names in (("--learners", LEARNERS), ("--learner", LEARNERS), ("--baselines", BASELINES)):
        if option in words:
            assert set(words[words.index(option) + 1].split(",")) <= {*names, "all", "NAME"}


@every_page
def test_every_command_that_is_shown_exists(page):
    for command, whole in commands(page):
        program, *words = shlex.split(command)
        if program == "metaglot":
            check_metaglot(words, whole=whole)
        elif program == "make":
            made = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
            assert set(words) <= set(made), command
        elif program == "python" and words[0] == "-m":
            place = ROOT / words[1].replace(".", "/")
            script = (place / "__main__.py" if place.is_dir() else place.with_suffix(".py")).read_text(
                "utf-8"
            )
            given = [word.removeprefix("--").replace("-", "_") for word in words if word.startswith("--")]
            assert all(re.search(rf"^    {name}: Annotated", script, re.M) for name in given), command
        elif program == "python":
            script = (ROOT / words[0]).read_text(encoding="utf-8")
            assert all(f'"{word}"' in script for word in words if word.startswith("--")), command


def test_a_command_that_does_not_exist_is_seen():
    with pytest.raises(AssertionError, match="no option --shots"):
        check_metaglot(["adapt", "DIR", "--shots", "4"], whole=True)
    with pytest.raises(AssertionError, match="no command 'serve'"):
        check_metaglot(["serve"], whole=False)
    with pytest.raises(Exception, match="examples"):
        check_metaglot(["adapt", "DIR", "--language", "swh"], whole=True)


@pytest.mark.parametrize(("name", "examples", "labels"), [("turkish", 32, 8), ("vietnamese", 100, 26)])
def test_example_files_have_what_the_quick_start_says(name, examples, labels):
    rows = load_examples(SNIPPETS / f"{name}.csv", language="tur")
    assert (len(rows), len({row.label for row in rows})) == (examples, labels)
    assert f"{examples} examples, {labels} labels" in TEXTS[ROOT / "docs" / "quickstart.md"]


# --- What pages list.


def test_the_data_page_knows_every_column_and_format():
    page = ROOT / "docs" / "data.md"
    table = rows_of(page, "Columns")
    assert list(table) == list(USUAL)
    for field, names in USUAL.items():
        assert [name.strip() for name in table[field].split("|")[3].split(",")] == list(names)
    assert set(re.findall(r"`(\.\w+)`", rows_of(page, "Where data come from")["tickets.csv"])) == set(FORMATS)


def test_every_learner_and_baseline_is_explained():
    assert list(rows_of(ROOT / "docs" / "choosing-a-learner.md", "What each does")) == list(LEARNERS)
    baselines = "".join(re.findall(r"^\| \*.*\* \|", TEXTS[ROOT / "docs" / "results.md"], re.M))
    assert all(f"*{name}*" in baselines for name in BASELINES)


def test_every_room_is_on_the_map():
    source = {path.stem for path in (ROOT / "src" / "metaglot").iterdir() if path.name[0] not in "_."} - {
        "py"
    }
    page = ROOT / "docs" / "architecture.md"
    explained = set(
        re.findall(r"`(\w+)`", "".join(row for row in TEXTS[page].splitlines() if row[:3] == "| `"))
    )
    drawn = set(re.findall(r"\w+", blocks(page, "text")[1]))
    assert source <= explained
    assert source <= drawn


# --- Numbers.


@every_page
def test_tables_are_those_of_the_result_files(page, tables):
    assert tables.filled(page) == TEXTS[page], "run: python benchmarks/demo_table.py"


def test_a_changed_number_is_seen(tables, tmp_path):
    page = shutil.copy(ROOT / "README.md", tmp_path / "README.md")
    page.write_text(TEXTS[ROOT / "README.md"].replace("| `auto` |", "| `auto` | 1"), encoding="utf-8")
    assert tables.filled(page) == TEXTS[ROOT / "README.md"]


def interval(report, one, other, k):
    return bootstrap_interval(report.values(one, k) - report.values(other, k))


def mean(report, method, k):
    return report.cell(method, k).mean


def by_language(report, method, k):
    return dict(zip(report.languages, report.values(method, k).mean(1).tolist(), strict=True))


def gain(report):
    after, before = by_language(report, "auto", 8), by_language(report, "auto", 0)
    return {code: after[code] - before[code] for code in after}


FEW = (1, 4, 8, 16)
CLAIMS = {
    "auto is the best learner at every k": lambda r, c: all(
        mean(r, "auto", k) == max(mean(r, m, k) for m in r.learners) for k in FEW
    ),
    "at k = 1 maml is a point behind": lambda r, c: (
        0.005 < mean(r, "auto", 1) - mean(r, "maml", 1) < 0.015 and interval(r, "auto", "maml", 1)[0] > 0
    ),
    "from 4 examples on MAML falls behind": lambda r, c: all(
        interval(r, "auto", m, k)[0] > 0 for m in ("maml", "fomaml") for k in FEW[1:]
    ),
    "auto is ahead of joint at every k": lambda r, c: all(
        interval(r, "auto", "joint", k)[0] > 0 for k in FEW
    ),
    "joint is the strongest baseline": lambda r, c: all(d.baseline == "joint" for d in r.differences()),
    "the lead shrinks": lambda r, c: (
        mean(r, "auto", 1) - mean(r, "joint", 1) > mean(r, "auto", 16) - mean(r, "joint", 16)
    ),
    "ridge and protonet lose to joint at every k": lambda r, c: all(
        interval(r, m, "joint", k)[1] < 0 for m in ("ridge", "protonet") for k in FEW
    ),
    "at k = 1 they are worse than not adapting": lambda r, c: all(
        mean(r, m, 1) < mean(r, "zero-shot", 1) for m in ("ridge", "protonet", "target-only")
    ),
    "ridge is level with target-only": lambda r, c: all(
        abs(mean(r, "ridge", k) - mean(r, "target-only", k)) < 0.01 for k in FEW
    ),
    "auto is ahead of joint by 3.8 points or more": lambda r, c: all(
        mean(r, "auto", k) - mean(r, "joint", k) >= 0.0375 for k in FEW
    ),
    "at k = 8 it leads in every language": lambda r, c: all(
        by_language(r, "auto", 8)[code] > by_language(r, "joint", 8)[code] for code in r.languages
    ),
    "MAML has too little confidence": lambda r, c: all(
        mean(c, "maml", k) > 1 - mean(r, "maml", k) for k in FEW
    ),
    "joint at k = 1 has too little confidence": lambda r, c: mean(c, "joint", 1) > 1 - mean(r, "joint", 1),
    "Basque gains most": lambda r, c: max(gain(r), key=gain(r).get) == "eus",
    "20 languages teach, 6 are judged": lambda r, c: (len(SOURCES), len(r.languages)) == (20, 6),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_what_is_said_of_the_results_is_in_the_file(claim, tables):
    assert CLAIMS[claim](tables.report(), tables.report("calibration_error"))


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_what_is_said_of_speed_is_in_the_file(name, tables):
    speed = {way: row["sentences_per_second"] for way, row in tables.result("encode")["results"].items()}
    ours, theirs = speed["metaglot bfloat16"], speed["sentence-transformers bfloat16"]
    slow, slowest = speed["metaglot float32"], speed["sentence-transformers float32"]
    rows = tables.result("encode")["results"]
    shares = [
        f"{rows[f'{way} float32']['share_of_peak']:.0%}" for way in ("metaglot", "sentence-transformers")
    ]
    for said in (f"{ours / slowest:.1f}×", f"{ours / theirs:.2f}×", f"{slow / slowest:.2f}×", *shares):
        assert said in TEXTS[ROOT / name]

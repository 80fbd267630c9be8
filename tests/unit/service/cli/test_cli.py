"""The installed program: its output and exit codes."""

from __future__ import annotations

import io
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from shelfwise.indexer.quality.findings import DuplicateFindings, Example, Failures, Findings
from shelfwise.indexer.quality.report import FeedSummary, QualityReport, ReasonCount, make_report
from shelfwise.indexer.quality.rules import built_in_rules
from shelfwise.retrieval.errors import SettingError
from shelfwise.service.cli import output
from shelfwise.service.cli.main import COMMANDS, GROUPS, app, main
from shelfwise.service.cli.options import TowerTrainingOptions, command
from shelfwise.service.cli.rebuild import parse_size, show_quality
from shelfwise.service.http.auth import KEYS_FILE, KeyFile
from tests.conftest import ENCODER
from tests.unit.service.cli.commands import Done, write_small_feed

PROGRAM = Path(sys.executable).with_name("shelfwise")
Run = Callable[..., Done]


def test_sizes_are_read_and_others_refused_by_name() -> None:
    assert [parse_size("--memory", text) for text in ("2GB", "512 MiB", "1.5kb")] == [2 * 10**9, 2**29, 1_500]
    for text in ("0GB", "-1GB", "2 bushels", "1e999GB"):
        with pytest.raises(SettingError, match=r"--memory .* is not a size; use 512MB, 2GB or 2GiB"):
            parse_size("--memory", text)


@pytest.fixture(scope="module")
def program(cache: Path) -> Run:
    """Runs the installed program with the tests' cache of exported encoders."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache.parent), "COLUMNS": "200", "TERM": "dumb"}

    def run(*arguments: str | Path) -> Done:
        command = [str(PROGRAM), *map(str, arguments)]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, encoding="utf-8", env=environment, timeout=300
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def run(cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process, as the start of a process takes seconds, most of them for imports."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parent))

    def run(*arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["shelfwise", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        else:
            code = 0
        return Done(code, *capsys.readouterr())

    return run


@dataclass(frozen=True, slots=True)
class Built:
    """A small index, its feed and judgments, and the output of the rebuild."""

    index: Path
    feed: Path
    judgments: Path
    rebuilt: Done


@pytest.fixture(scope="module")
def built(program: Run, tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("cli")
    feed = write_small_feed(folder)
    judgments = folder / "judgments.tsv"
    rows = ("query\tproduct_id\tgrade", "cordless drill\t1\t2", "cordless drill\t2\t1", "hose\t3\t1", "hose\t1\t0")
    judgments.write_text("\n".join(rows))
    options = ("--encoder", ENCODER, "--runtime", "onnx-int8", "--json", "--force")
    return Built(folder / "index", feed, judgments, program("rebuild", folder / "index", feed, *options))


def assert_refused(done: Done, *words: str) -> None:
    """Asserts exit code 1, a one-line error with these words, and no traceback."""
    assert (done.code, done.out) == (1, ""), done.err
    (line,) = [line for line in done.err.strip().splitlines() if not line.startswith(("✓", "rejected", "The rejected"))]
    assert line.startswith("error: ")
    for word in words:
        assert word in line


class TestHelp:
    @pytest.mark.parametrize(
        "command", [*COMMANDS, *(f"{name} {each}" for name, group in GROUPS.items() for each in group.commands)]
    )
    def test_each_command_shows_an_example(self, command: str) -> None:
        done = CliRunner().invoke(app, [*command.split(), "--help"], prog_name="shelfwise", terminal_width=200)
        assert done.exit_code == 0
        assert f"Example: shelfwise {command} " in " ".join(done.stdout.split())

    def test_the_program_lists_its_commands_on_one_screen(self, program: Run) -> None:
        done = program("--help")
        assert done.code == 0
        lines = done.out.splitlines()
        assert all(f"  {name} " in done.out for name in (*COMMANDS, *GROUPS))
        assert len(lines) <= 26
        assert max(map(len, lines)) <= 80

    def test_help_imports_no_command_module(self) -> None:
        program = (
            "import sys\nfrom shelfwise.service.cli.main import app\ntry: app(['--help'])\nexcept SystemExit: pass\n"
            "print([name for name in ('numpy', 'polars', 'rich', 'torch') if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"


class TestOneJsonDocument:
    def test_search_prints_one_json_document(self, run: Run, built: Built) -> None:
        arguments = ("search", built.index, "cordless drill", "--filter", "price < 100", "--facet", "brand", "--json")
        page = run(*arguments).document()
        assert page["hits"][0]["product"]["id"] == "1"
        assert {hit["product"]["id"] for hit in page["hits"]} <= {"1", "3", "4"}
        assert page["total"] == len(page["hits"]) == sum(each["count"] for each in page["facets"]["brand"]["counts"])
        assert page["version"] == "v000001"
        titled = run(*arguments, "--in", "title", "--in", "brand").document()
        assert "1" in {hit["product"]["id"] for hit in titled["hits"]} <= {hit["product"]["id"] for hit in page["hits"]}
        assert run("search", built.index, "drill", "--in", "tilte").code == 1

    def test_evaluate_prints_one_json_document(self, run: Run, built: Built, tmp_path: Path) -> None:
        run_file = tmp_path / "run.txt"
        stages = "bm25,dense,merged"
        arguments = ("evaluate", built.index, built.judgments, "--stage", stages, "--run", run_file, "--json")
        measures = run(*arguments).document()
        assert list(measures) == stages.split(",")
        assert list(measures["merged"]) == ["nDCG@10", "R@100", "MRR", "P@10", "R@10", "F1@10"]
        assert (measures["merged"]["nDCG@10"], measures["merged"]["R@100"]) == (1, 1)
        written = sorted(path.name for path in tmp_path.iterdir())
        assert written == ["run.bm25.txt", "run.dense.txt", "run.merged.txt"]
        assert (tmp_path / "run.merged.txt").read_text().startswith("1 Q0 1 1 100 shelfwise-merged\n")
        compared = run(*arguments[:5], "--against", run_file, "--json").document()
        assert compared["stages"] == measures
        assert compared["changes"]["merged"]["higher"] == compared["changes"]["merged"]["lower"] == 0
        assert "merged: nDCG@10 +0.0000" in run(*arguments[:5], "--against", run_file).out


def test_search_shows_groups_titles_prices_and_stage_scores(run: Run, built: Built) -> None:
    assert " groups, page 1" in run("search", built.index, "", "--group", "brand").out
    done = run("search", built.index, "电钻", "--explain")
    assert all(text in done.out for text in ("无线电钻", "75.00", "bm25", "dense", "merged"))


class TestErrors:
    def test_publish_guard_error_has_counts(self, run: Run, built: Built) -> None:
        done = run("rebuild", built.index, built.feed, "--encoder", ENCODER)
        assert_refused(done, "1 of 5 rows (20.0%) were rejected, more than 5%", "--force")
        assert f"rejected: 1 row: no title, such as {built.feed.name}:5 its fields are " in done.err
        assert f"The rejected rows are in {built.index / 'rejected.jsonl'}: repair" in done.err

    @pytest.mark.parametrize("option", ["--html", "--rejected"])
    def test_an_unwritable_file_is_named_before_the_feed_is_read(
        self, run: Run, built: Built, tmp_path: Path, option: str
    ) -> None:
        nowhere = tmp_path / "nowhere" / "file"
        done = run("check", built.feed, option, nowhere)
        assert_refused(done, f"{option}: there is no folder {nowhere.parent}")
        assert "read" not in done.err.split("error:")[0]
        assert_refused(run("check", built.feed, option, tmp_path), f"{option}: {tmp_path} is a directory")

    def test_check_fails_without_a_usable_row(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "feed.jsonl").write_text('{"error": "x"}\n', "utf-8")
        done = run("check", tmp_path / "feed.jsonl", "--json")
        assert (done.code, done.document()["products"]) == (1, 0)

    def test_errors_name_the_problem(self, run: Run, program: Run, built: Built, tmp_path: Path) -> None:
        rules, judgments = tmp_path / "rules.toml", tmp_path / "bad.tsv"
        rules.write_text('[[rule]]\nname = "mine"\ncheck = "magic"\n')
        judgments.write_text("query\tproduct_id\tgrade\nq\ta\tgood\n")
        evaluate = ("evaluate", built.index)
        stages = ("--stage", "bm25,magic")
        assert_refused(run("check", built.feed, "--rules", rules), "rules.toml", "mine", "magic")
        assert_refused(run("search", built.index, "drill", "--filter", "price < )", "--json"), "column 9")
        assert_refused(run("search", built.index, "drill", "--group", "brnd"), "brnd", "brand")
        assert_refused(run("search", built.index, "drill", "--diversity", "2"), "diversity is 2.0, it can be 0 to 1")
        assert_refused(run("rebuild", tmp_path / "index", tmp_path / "no.jsonl"), "no.jsonl: cannot be read")
        for start, name, argument in ((program, "search", "drill"), (run, "evaluate", built.judgments)):
            missing = start(name, tmp_path / "nowhere", argument)
            assert_refused(missing, "nowhere does not exist; run: shelfwise rebuild")
        for wrong_order in (("search", "drill", built.index), ("rebuild", built.feed, built.index)):
            assert_refused(run(*wrong_order), f"is not an index, but {built.index} is: the index is the first argument")
        assert_refused(run("search", built.index.parent, "drill"), f"did you mean {built.index}?")
        assert_refused(run(*evaluate, judgments), "bad.tsv, line 2: the grade 'good' is not a number")
        assert_refused(
            run(*evaluate, built.judgments, *stages), "'magic' is not a stage; it can be bm25, dense, merged"
        )


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no arenas to bound")
def test_malloc_arenas_are_limited_with_glibc() -> None:
    # In a separate process, since the limit lasts until its end.
    program = "from shelfwise.service.cli.serve import limit_malloc_arenas; assert limit_malloc_arenas({})"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("scope", "steps"),
    [("search", ["/v1/search?q=drill"]), ("admin", ["/v1/search?q=drill", "/admin"]), ("metrics", [])],
)
def test_new_key_comes_with_the_next_commands(tmp_path: Path, scope: str, steps: list[str]) -> None:
    done = CliRunner().invoke(app, ["keys", "create", str(tmp_path), "one", "--scope", scope])
    assert done.stdout.startswith("sw_")
    assert KeyFile(tmp_path / KEYS_FILE).page_key().startswith("sw_")
    first, needs, *lines = done.stderr.replace(str(tmp_path), "INDEX").splitlines()
    assert "only shown once" in first
    assert needs == "Every request now needs a key; the store page has its own."
    assert [step in line for step, line in zip(steps, lines, strict=True)] == [True] * len(steps)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=12), st.integers(40, 120))
def test_no_figure_is_cut_at_any_width(figures: list[float], width: int) -> None:
    file = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "out", Console(file=file, width=width))
        output.show_rows(["stage", *(f"measure {index}" for index in range(len(figures)))], [["merged", *figures]])
    words = file.getvalue().split()
    assert [word for word in words if word[-1].isdigit() and "." in word] == [f"{each:.4f}" for each in figures]


if TYPE_CHECKING:
    from shelfwise.rerank.text_towers.task import TextTowerOptions

CALLS: list[tuple[str, TextTowerOptions]] = []


@command("example", json=False)
def train(place: Annotated[str, typer.Argument()], how: TowerTrainingOptions) -> None:
    """A command with another argument."""
    CALLS.append((place, how.options()))


def call(*arguments: str) -> tuple[str, TextTowerOptions]:
    app = typer.Typer()
    app.command()(train)
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return CALLS.pop()


def test_command_has_its_own_and_all_training_options() -> None:
    place, options = call("here", "--margin", "0.2", "--typos", "0.1", "--matryoshka", "64,128")
    assert (place, options.loss.margin, options.loss.dimensions) == ("here", 0.2, (128, 64))
    assert options.augment.typos == 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ranks", "500-101"), "--ranks: '500-101' is not a range of ranks"),
        (("--matryoshka", "64,x"), "--matryoshka: '64,x' is not a list of dimensions"),
        (("--loss", "pointwise", "--margin", "0.1"), "--loss pointwise, which has no margin"),
    ],
)
def test_contradictory_options_are_refused(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        call("here", *arguments)


NOW = datetime(2025, 1, 6, tzinfo=UTC)


def shown(report: QualityReport, width: int = 80) -> list[str]:
    file = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "out", Console(file=file, width=width))
        show_quality(report)
    return file.getvalue().splitlines()


def report_with(failures: dict[str, Failures], products: int = 1_000) -> QualityReport:
    intake = FeedSummary(
        NOW,
        ("f.jsonl",),
        products,
        {"no id": ReasonCount(1_234)},
        {"rating: outside 0 to 5": ReasonCount(2)},
        {"markup": 3},
    )
    return make_report(intake, Findings(products, failures), DuplicateFindings(), built_in_rules())


def test_findings_are_grouped_by_measure_with_an_example() -> None:
    example = Example("p1", "A very [red]long[/] title " * 9, "feeds/shop.jsonl", 42, "")
    failures = {rule.name: Failures(7, [example]) for rule in built_in_rules()}
    lines = shown(report_with(failures))
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 80
    assert all(measure in text for measure in ("completeness", "consistency", "accuracy", "timeliness"))
    assert text.count("shop.jsonl:42 p1: A very [red]long[/]") == len(failures)
    severities = [line.split()[0] for line in lines if line.startswith(("error ", "warning ", "info "))]
    assert severities == sorted(severities, key=["error", "warning", "info"].index)
    assert "rejected: 1,234 rows: no id" in text
    assert "dropped: rating: outside 0 to 5 2" in text
    assert "cleaned: markup 3" in text


def test_control_characters_of_a_feed_do_not_reach_the_terminal() -> None:
    example = Example("p\x1b[2J", "t\x07", "f\x1b.jsonl", 1, "")
    text = "\n".join(shown(report_with({"no_price": Failures(1, [example])})))
    assert "\x1b" not in text
    assert "\x07" not in text


def test_clean_catalog_is_reported_and_fully_rejected_feed_is_not_clean() -> None:
    clean = "No rule found a problem."
    assert clean in shown(report_with({}))
    lines = shown(report_with({}, products=0))
    assert "There is no product to check." in lines
    assert clean not in lines

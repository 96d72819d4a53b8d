"""What a user can set, type, call or watch stands in README.md or docs/; undocumented means failing.

Each failure says the line that is missing and where it belongs.
"""

import ast
import inspect
import itertools
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import msgspec
import pytest

from app import settings as settings_module
from app.cli import group
from app.errors import Problem
from app.identity.permission import ROLES, ROUTES, Permission
from app.ops import metrics
from app.paths import ROOT
from app.settings import Settings
from jobs.scheduler import JOBS

DOCS = ROOT / "docs"
LINK = re.compile(r"\]\(([^)#\s]+)(?:#([^)\s]*))?\)")
OUR_VARIABLE = re.compile(r"\bHEADWATER_[A-Z_]+\b")
# top folders, each of which says what goes where
FOLDERS = ("app", "jobs", "migrations", "sql", "deploy", "tests", "docs")
README_LINES = 75  # a page


@cache
def page(name: str) -> str:
    return (ROOT / name).read_text()


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted(ROOT.glob("*/README.md"))]


def sentences() -> dict[str, str]:
    """The sentence under each field of Settings."""
    tree = ast.parse(inspect.getsource(settings_module))
    body = next(n.body for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Settings")
    found = {}
    for field, text in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            assert isinstance(field.target, ast.Name)
            assert isinstance(text.value, ast.Constant)
            found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def commands(
    command: click.Command = group, name: str = "headwater"
) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for word in command.list_commands(context):
            inner = command.get_command(context, word)
            assert inner is not None
            yield from commands(inner, f"{name} {word}")
    else:
        yield name, command


def section(text: str, heading: str) -> str:
    """From the heading to the next one of any depth."""
    match = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    return match.group(1) if match else ""


def registered_metrics() -> list[str]:
    """Names as Prometheus shows them."""
    kinds = {"Counter": "_total", "Gauge": "", "Histogram": ""}
    return [
        value._name + kinds[type(value).__name__]
        for value in vars(metrics).values()
        if type(value).__name__ in kinds
    ]


@pytest.mark.parametrize("field", msgspec.structs.fields(Settings), ids=lambda f: f.name)
def test_setting_is_documented(field: msgspec.structs.FieldInfo) -> None:
    default = f"`{field.default}`" if field.default != "" else ""
    line = f"| `{field.name.upper()}` | {default} | {sentences()[field.name]} |"
    line = line.replace("|  |", "| |")
    assert line in page("docs/settings.md"), f"docs/settings.md lacks\n{line}"


def test_no_setting_is_documented_that_is_gone() -> None:
    rows = re.findall(
        r"^\| `([A-Z0-9_]+)` \|",
        section(page("docs/settings.md"), "Of every process"),
        re.MULTILINE,
    )
    assert rows == [name.upper() for name in Settings.__struct_fields__]


def test_every_variable_of_our_own_is_documented() -> None:
    files = [
        *ROOT.glob("app/**/*.py"),
        *ROOT.glob("jobs/*.py"),
        *ROOT.glob("deploy/**/*"),
        ROOT / "Makefile",
    ]
    used = {
        name
        for file in files
        if file.is_file() and file.suffix != ".pyc"
        for name in OUR_VARIABLE.findall(file.read_text())
    }
    missing = sorted(name for name in used if f"`{name}`" not in page("docs/settings.md"))
    assert not missing, f"docs/settings.md lacks {missing}"


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=lambda value: str(value)[:40])
def test_command_is_documented(name: str, command: click.Command) -> None:
    text = section(page("docs/cli.md"), f"`{name}`")
    assert text, f"docs/cli.md lacks the heading ### `{name}`"
    for parameter in command.params:
        words = parameter.opts + parameter.secondary_opts
        if isinstance(parameter, click.Argument):
            words = [parameter.human_readable_name.rstrip(".")]
        for word in words:
            assert f"`{word}" in text, f"docs/cli.md: {name}: {word} is missing"


def test_no_command_is_documented_that_is_gone() -> None:
    documented = re.findall(r"^### `(headwater .*)`$", page("docs/cli.md"), re.MULTILINE)
    assert sorted(documented) == sorted(name for name, _ in commands())


@pytest.mark.parametrize(("route", "permission"), ROUTES.items(), ids=str)
def test_route_is_documented(route: tuple[str, str], permission: Permission) -> None:
    method, path = route
    begin = f"| `{method} {path}` | {permission.value} |"
    assert begin in page("docs/api.md"), f"docs/api.md lacks a line that begins with\n{begin}"


def test_no_route_is_documented_that_is_gone() -> None:
    documented = re.findall(r"^\| `([A-Z]+) (/[^`]*)` \|", page("docs/api.md"), re.MULTILINE)
    assert sorted(documented) == sorted(ROUTES)


@pytest.mark.parametrize("role", ROLES)
def test_role_is_documented(role: str) -> None:
    granted = ", ".join(p.value for p in Permission if p in ROLES[role])
    line = f"| {role} | {granted} |"
    assert line in page("docs/api.md"), f"docs/api.md lacks a line that begins with\n{line}"


@pytest.mark.parametrize("problem", [Problem, *Problem.__subclasses__()], ids=lambda p: p.slug)
def test_problem_is_documented(problem: type[Problem]) -> None:
    begin = f"| `{problem.slug}` | {problem.status} |"
    assert begin in page("docs/api.md"), f"docs/api.md lacks a line that begins with\n{begin}"


@pytest.mark.parametrize("name", registered_metrics())
def test_prometheus_metric_is_documented(name: str) -> None:
    assert f"| `{name}` |" in page("docs/operating.md"), f"docs/operating.md lacks | `{name}` |"


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_job_is_documented(job: object) -> None:
    begin = f"| `{job.name}` | {job.seconds} s |"  # type: ignore[attr-defined]
    assert begin in page("docs/operating.md"), f"docs/operating.md lacks {begin}"


@pytest.mark.parametrize("path", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target, _ in LINK.findall(path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name}: {target} does not exist"


@pytest.mark.parametrize("folder", FOLDERS)
def test_top_folder_says_what_goes_here(folder: str) -> None:
    lines = page(f"{folder}/README.md").splitlines()
    assert len(lines) <= README_LINES, "at most a page"


def test_every_document_is_found_from_the_index() -> None:
    for path in DOCS.glob("*.md"):
        if path.name != "README.md":
            assert f"({path.name})" in page("docs/README.md"), f"docs/README.md lacks {path.name}"

"""The guides print their documented output; the site has every public name."""

import inspect
import pathlib
import re
import warnings

import pytest

import l2keras
import l2keras.sklearn
from tests.support.package_sources import PACKAGE, ROOMS

DOCS = pathlib.Path(l2keras.__file__).parents[1] / "docs"
GUIDES = [
    # They start processes or train for long, which no backend decides.
    pytest.param(path, marks=pytest.mark.slow)
    if path.stem in ("a-search-on-several-machines", "which-regularizer")
    else path
    for path in sorted((DOCS / "guides").glob("*.md"))
]
PAGES = sorted(DOCS.rglob("*.md"))

# A block of code, and the block of text that follows it if one does.
EXAMPLE = re.compile(
    r"^```python\n(?P<code>.*?)^```$(?:\n\n^```text\n(?P<printed>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.stem)
def test_each_guide_prints_the_documented_output(
    path, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    # Folds as small as a guide's may have their best strength at an edge.
    warnings.filterwarnings("ignore", "The best strength")
    names, examples = {}, list(EXAMPLE.finditer(path.read_text()))
    assert examples
    for example in examples:
        exec(compile(example["code"], str(path), "exec"), names)
        printed = capsys.readouterr().out
        if example["printed"] is not None:
            assert printed == example["printed"]
    # Those that it shows are saved by its own code.
    for figure in re.findall(r"\]\(\.\./figures/([^)]+)\)", path.read_text()):
        assert (tmp_path / figure).exists()


def test_every_public_name_has_its_place_on_the_site():
    placed = [
        name
        for page in (DOCS / "api").glob("*.md")
        for name in re.findall(r"^::: l2keras\.(\S+)$", page.read_text(), re.M)
    ]
    estimators = [
        f"sklearn.{name}"
        for name, value in vars(l2keras.sklearn).items()
        if inspect.isclass(value)
        and value.__module__ == "l2keras.sklearn"
        and not name.startswith("_")
    ]
    assert sorted(placed) == sorted([*l2keras.__all__, *estimators])


def test_the_guide_to_penalties_has_a_row_for_each():
    text = (DOCS / "guides" / "penalties-and-schedules.md").read_text()
    _, which, *_ = text.split("\n## ")
    classes = (getattr(l2keras, name) for name in l2keras.__all__)
    assert set(re.findall(r"^\| `(\w+)\(", which, re.MULTILINE)) == {
        cls.__name__
        for cls in classes
        if inspect.isclass(cls)
        and issubclass(cls, l2keras.Regularizer)
        # One is every sum of them, and one has no formula.
        and cls not in (l2keras.Sum, l2keras.Regularizer)
    }


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_links_lead_to_files_of_the_repository(path):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text())
    for link in links:
        assert (path.parent / link).exists(), link


def test_the_picture_and_the_table_have_every_room():
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    from_the_top = [room for room in reversed(ROOMS) if room in rooms]
    table = (DOCS / "architecture.md").read_text()
    picture = (DOCS / "house.svg").read_text()
    assert re.findall(r"^\| `(\w+)/` \|", table, re.MULTILINE) == from_the_top
    assert re.findall(r">(\w+)/<", picture) == from_the_top

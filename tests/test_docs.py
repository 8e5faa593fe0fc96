"""Facts about the pages of docs/: generated ones are what the sources say, files they name exist."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("openbpu_docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", sorted(generator().PAGES))
def test_generated_page_is_up_to_date(name: str) -> None:
    written = (DOCS / name).read_text(encoding="utf-8")
    assert written == generator().PAGES[name](), "stale: run `make docs`"


ROOT = DOCS.parent
FOLDERS = (
    "arch",
    "compiler",
    "simulator",
    "quantization",
    "runtime",
    "evaluation",
    "interfaces",
    "tests",
    "benchmarks",
    "docs",
)
NAMED_FILE = re.compile(r"`((?:[\w-]+/)+[\w-]+\.(?:py|json|md|toml))`")


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda p: p.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    """A page may shorten a path from the left: `ops/layout.py`."""
    named = NAMED_FILE.findall(page.read_text(encoding="utf-8"))
    files = {f"/{f.relative_to(ROOT).as_posix()}" for folder in FOLDERS for f in (ROOT / folder).rglob("*.*")}
    assert [n for n in named if not any(f.endswith(f"/{n}") for f in files)] == []


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+\.md)", page.read_text(encoding="utf-8"))
    assert [t for t in targets if not t.startswith("http") and not (DOCS / t).is_file()] == []


def test_links_of_the_readme_work_where_the_package_is_published() -> None:
    """A relative link leads nowhere on PyPI: each is absolute, and names what exists."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    home = re.findall(r'^Homepage = "(.*)"$', project, re.MULTILINE)[0]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", text) + re.findall(r"^\[[^\]]+\]: (.*)$", text, re.MULTILINE)
    urls = re.findall(r'^(?:Documentation|Changelog) = "(.*)"$', project, re.MULTILINE)
    files = [re.sub(rf"^{re.escape(home)}/(?:blob|tree)/main/", "", link) for link in (*links, *urls)]
    assert len(links) > 10
    assert len(urls) == 2
    assert [link for link in files if not (ROOT / link).exists()] == []
    assert [link for link in links if not link.startswith("https://")] == []

"""What the README and the pages show is what happens: their Python runs, their commands print what
they say, their links lead somewhere, and no public name is forgotten."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

import pytest_vdsotime

ROOT = Path(__file__).parent.parent
PACKAGE = Path(pytest_vdsotime.__file__).parent
# By their paths in the repository; the tests run where the package is installed elsewhere.
PAGES = {"README.md": (ROOT / "README.md").read_text()} | {
    f"pytest_vdsotime/docs/{page.name}": page.read_text()
    for page in sorted((PACKAGE / "docs").glob("*.md"))
}
EXAMPLES = sorted((ROOT / "tests" / "examples").glob("test_*.py"))


def blocks(language: str) -> list[ParameterSet]:
    """The pages' blocks in a language, each with its page and line for the test's name."""
    fence = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [
        pytest.param(block[1], id=f"{Path(page).stem}-{text.count(chr(10), 0, block.start()) + 1}")
        for page, text in PAGES.items()
        for block in fence.finditer(text)
    ]


@pytest.mark.parametrize("block", blocks("python"))
def test_python(block: str, pytester: pytest.Pytester, alone: Callable[..., list[str]]) -> None:
    """As a test file where it has tests, else as it stands."""
    tests = len(re.findall(r"^def test_", block, re.MULTILINE))
    if not tests:
        exec(compile(block, "README.md", "exec"), {})
        return
    pytester.makepyfile(block)
    pytester.runpytest_subprocess(*alone()).assert_outcomes(passed=tests)


@pytest.mark.parametrize("block", blocks("console"))
def test_console(block: str, tmp_path: Path) -> None:
    """Each command prints the lines below it, in which ... is anything, and exits as [N] says."""
    for entry in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = entry.partition("\n")
        expected, status = re.findall(r"\A(.*?)(?:\[(\d+)\]\n)?\Z", output, re.DOTALL)[0]
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        pattern = re.escape(expected).replace(re.escape("..."), ".*")
        assert re.fullmatch(pattern, done.stdout), done.stdout
        assert done.returncode == int(status or 0)


def anchors(text: str) -> set[str]:
    """Its headings, as links name them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]*)\)", PAGES[page]):
        path, _, anchor = target.partition("#")
        path = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
        if path not in PAGES:
            root = PACKAGE.parent if path.startswith(f"{PACKAGE.name}/") else ROOT
            assert (root / path).exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors(PAGES[path]), f"{page}: {target}"


def test_every_page_is_found() -> None:
    """From the README and from the index that Sphinx builds."""
    names = {Path(page).name for page in PAGES} - {"README.md", "index.md"}
    readme, index = PAGES["README.md"], PAGES["pytest_vdsotime/docs/index.md"]
    assert names == set(re.findall(r"\(pytest_vdsotime/docs/([^)]*)\)", readme))
    assert names == {f"{name}.md" for name in re.findall(r"^[\w-]+$", index, re.MULTILINE)}


def test_every_public_name_is_in_the_reference() -> None:
    reference = PAGES["pytest_vdsotime/docs/api.md"]
    documented = re.findall(r"^\.\. auto\w+:: pytest_vdsotime\.(\w+)$", reference, re.MULTILINE)
    assert sorted(documented) == sorted(pytest_vdsotime.__all__)


def test_every_example_is_named_and_short() -> None:
    assert len(EXAMPLES) >= 7
    for example in EXAMPLES:
        for page in ("README.md", "pytest_vdsotime/docs/examples.md"):
            assert f"tests/examples/{example.name})" in PAGES[page], f"{page}: {example.name}"
        assert len(example.read_text().splitlines()) < 40, example.name

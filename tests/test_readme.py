"""What the README shows is what happens: its Python runs, its commands print what it says."""

import re
import subprocess
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

README = (Path(__file__).parent.parent / "README.md").read_text()


def blocks(language: str) -> list[ParameterSet]:
    """The README's blocks in a language, each with its line for the test's name."""
    found = re.finditer(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    lines = [(README.count("\n", 0, block.start()) + 1, block[1]) for block in found]
    return [pytest.param(block, id=f"line-{number}") for number, block in lines]


@pytest.mark.parametrize("block", blocks("python"))
def test_python(block: str, pytester: pytest.Pytester) -> None:
    """As a test file where it has tests, else as it stands."""
    tests = len(re.findall(r"^def test_", block, re.MULTILINE))
    if not tests:
        exec(compile(block, "README.md", "exec"), {})
        return
    pytester.makepyfile(block)
    pytester.runpytest_subprocess("-p", "no:randomly").assert_outcomes(passed=tests)


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

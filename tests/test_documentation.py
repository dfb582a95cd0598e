"""What README.md and the pages in docs/ show works: their code blocks run, page by page.

The Python blocks of a page share one namespace, and all blocks of a page one empty folder, in
the order a reader meets them. In `console` and `bash` blocks the `gymbag` commands run; all other
commands, such as those of pip, do not. A block below `<!-- not run: REASON -->` is left out.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

OPENING_FENCE = re.compile(r"^ *(?P<fence>`{3,}|~{3,}) *(?P<language>[^`]*?) *$")
NOT_RUN = re.compile(r"^ *<!--\s*not run\b:?\s*(?P<reason>.*?)\s*-->\s*$")
RUN_COMMAND = "import sys; from gymbag.cli import main; sys.argv[0] = 'gymbag'; sys.exit(main())"


@dataclass(frozen=True)
class Block:
    language: str
    line: int  # the line of the page, counted from 1, that holds the first line of `source`
    source: str
    runs: bool


def blocks_of(text: str, page: str) -> Iterator[Block]:
    """Yield the fenced code blocks of a Markdown page, those of other languages included."""
    lines = iter(enumerate(text.splitlines(), start=1))
    not_run_line = 0  # the line of a `not run` comment whose block is still to come
    for number, line in lines:
        if comment := NOT_RUN.match(line):
            if not comment["reason"]:
                pytest.fail(f"{page}:{number}: say why: <!-- not run: REASON -->")
            not_run_line = number
        elif opening := OPENING_FENCE.match(line):
            closing = re.compile(rf"^ *{opening['fence']}{opening['fence'][0]}* *$")
            body = []
            for _, inner in lines:
                if closing.match(inner):
                    break
                body.append(inner)
            else:
                pytest.fail(f"{page}:{number}: this block is never closed")
            source = textwrap.dedent("\n".join(body))
            yield Block(opening["language"], number + 1, source, runs=not not_run_line)
            not_run_line = 0
        elif line.strip() and not_run_line:
            pytest.fail(f"{page}:{not_run_line}: no code block follows this comment")
    if not_run_line:
        pytest.fail(f"{page}:{not_run_line}: no code block follows this comment")


def gymbag_commands(block: Block) -> Iterator[tuple[int, list[str]]]:
    """Yield the page's line and the arguments of each `gymbag` command in a block.

    A command follows a `$` prompt, which `bash` blocks may leave out. What else a `console` block
    holds is output.
    """
    lines = iter(enumerate(block.source.splitlines(), start=block.line))
    for number, line in lines:
        command = line.strip()
        if not command.startswith("$ ") and block.language == "console":
            continue
        while command.endswith("\\"):
            command = command[:-1] + next(lines, (0, ""))[1].removeprefix(">")
        program, *arguments = shlex.split(command.removeprefix("$ "), comments=True) or [""]
        if program == "gymbag":
            yield number, arguments


def run_python(block: Block, page: Path, namespace: dict[str, Any]) -> None:
    # Blank lines in front make a traceback count lines as the page does.
    source = "\n" * (block.line - 1) + block.source
    try:
        exec(compile(source, page, "exec"), namespace)
    except Exception as error:
        line = block.line
        if isinstance(error, SyntaxError):
            line = error.lineno or line
        traceback = error.__traceback__
        while traceback is not None:
            if traceback.tb_frame.f_code.co_filename == str(page):
                line = traceback.tb_lineno
            traceback = traceback.tb_next
        raise AssertionError(f"{page.relative_to(ROOT)}:{line}: {type(error).__name__}: {error}") from error


def run_commands(block: Block, page: Path) -> None:
    for line, arguments in gymbag_commands(block):
        result = subprocess.run(
            [sys.executable, "-c", RUN_COMMAND, *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        assert result.returncode == 0, (
            f"{page.relative_to(ROOT)}:{line}: gymbag {shlex.join(arguments)} "
            f"exits with {result.returncode}:\n{result.stdout}"
        )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_works(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks_of(page.read_text(encoding="utf-8"), str(page.relative_to(ROOT))):
        if not block.runs:
            continue
        if block.language == "python":
            run_python(block, page, namespace)
        elif block.language in ("console", "bash"):
            run_commands(block, page)


PAGE = """\
```python
one = 1
```
- in a list:
  ```console
  $ python -m pip install gymbag
  $ gymbag info \\
      "my file.h5"  # a comment
  gymbag is output here
  ```

<!-- not run: takes an hour -->

~~~bash
gymbag demo
~~~
````markdown
```python
shown, not run
```
````
"""


def test_blocks_are_found() -> None:
    blocks = list(blocks_of(PAGE, "page.md"))
    assert [(block.language, block.line, block.runs) for block in blocks] == [
        ("python", 2, True),
        ("console", 6, True),
        ("bash", 15, False),
        ("markdown", 18, True),
    ]
    assert list(gymbag_commands(blocks[1])) == [(7, ["info", "my file.h5"])]
    assert list(gymbag_commands(blocks[2])) == [(15, ["demo"])]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("<!-- not run -->\n```python\n```", "page.md:1: say why", id="no reason"),
        pytest.param("<!-- not run: -->\n```python\n```", "page.md:1: say why", id="empty reason"),
        pytest.param("<!-- not run: slow -->\ntext", "page.md:1: no code block", id="no block"),
        pytest.param("<!-- not run: slow -->", "page.md:1: no code block", id="end of page"),
        pytest.param("text\n```python\n1", "page.md:2: this block is never", id="not closed"),
    ],
)
def test_careless_page_is_refused(text: str, message: str) -> None:
    with pytest.raises(pytest.fail.Exception, match=message):
        list(blocks_of(text, "page.md"))


def test_error_names_the_line_of_the_page() -> None:
    page = ROOT / "page.md"
    block = Block("python", 7, "one = 1\none / 0", runs=True)
    with pytest.raises(AssertionError, match=r"^page\.md:8: ZeroDivisionError: division by zero"):
        run_python(block, page, {})
    with pytest.raises(AssertionError, match=r"^page\.md:7: SyntaxError"):
        run_python(Block("python", 7, "one =", runs=True), page, {})

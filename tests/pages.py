"""The documentation's pages: their code blocks, and how each kind runs."""

import doctest
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from fastxent.cli import main

SOURCE = Path(__file__).parent.parent
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    heading: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[tuple[str, str]]:
        """Shell commands, each with the output that the page shows."""
        if self.language == "sh":
            lines = [line.partition("  #")[0].strip() for line in self.text.replace("\\\n", " ").splitlines()]
            return [(line, "") for line in lines if line and not line.startswith("#")]
        return re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", self.text, re.MULTILINE)


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a page, in order; a fence may be indented, as in a list."""
    found, heading, opened = [], "", None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        fence = re.match(r"\s*```(.*)$", line)
        if fence and opened is None:
            opened = (fence[1].strip(), number + 1, [])
        elif fence:
            language, first, lines = opened
            indent = min((len(x) - len(x.lstrip()) for x in lines if x.strip()), default=0)
            text = "".join(x[indent:] + "\n" for x in lines)
            found.append(Block(path.name, heading, first, language, text))
            opened = None
        elif opened is not None:
            opened[2].append(line)
        elif title := re.match(r"#+ (.*)", line):
            heading = title[1]
    assert opened is None, f"{path.name}: a block is not closed"
    return found


def run_python(block: Block, found: dict) -> None:
    """Run a block in the page's namespace; one that is written as at a prompt prints what it shows."""
    if ">>> " not in block.text:
        exec(compile("\n" * (block.line - 1) + block.text, block.page, "exec"), found)
        return
    test = doctest.DocTestParser().get_doctest(block.text, found, block.page, block.page, block.line - 1)
    words: list[str] = []
    failed = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=words.append, clear_globs=False).failed
    assert not failed, "".join(words)
    found.update(test.globs)


def run_command(command: str, output: str, capsys) -> None:
    """Run a ``fastxent ...``; it prints the pieces that the page shows, ``...`` between them, in their order."""
    capsys.readouterr()
    status = main(shlex.split(command.removeprefix("fastxent ")))
    printed, complaint = capsys.readouterr()
    # an error is shown as the terminal has it
    shown_error = output.startswith("fastxent: ")
    assert status == int(shown_error), complaint
    printed = complaint if shown_error else re.sub(r", fastxent \S+ \(.*?\)", "", printed)
    place = 0
    for piece in re.split(r"^\.\.\.\n", output, flags=re.MULTILINE):
        assert piece in printed[place:], f"{command}\n{piece}\nis not in\n{printed[place:]}"
        place = printed.index(piece, place) + len(piece)

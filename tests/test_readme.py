"""README's commands are ones that the command line knows, and its cheap blocks give what stands there."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from userllm.cli.main import main
from userllm.cli.names import known_names
from userllm.cli.parser import check_names, make_parser
from userllm.core.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
COMMAND = re.compile(r"^(?:\$ )?(?:\.venv/bin/accelerate launch )?\.venv/bin/userllm (.*)$", re.MULTILINE)


def blocks(text: str, language: str) -> list[str]:
    "The blocks of code of one language."
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    "The words of each command `userllm` in the blocks, without comments."
    whole = "".join(blocks(text, "sh") + blocks(text, "console"))
    return [shlex.split(line, comments=True) for line in COMMAND.findall(whole)]


def require_known(words: list[str]) -> None:
    "Refuse a command whose verb, option or name does not exist."
    with contextlib.redirect_stderr(io.StringIO()) as error:
        try:
            options = make_parser(known_names()).parse_args(words)
        except SystemExit as stop:
            if stop.code:
                raise InputError(f"{shlex.join(words)}: {error.getvalue()}") from stop
            return
    check_names(options, known_names())


def texts() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


@pytest.mark.parametrize("path", texts(), ids=lambda path: path.stem)
def test_commands_are_known(path):
    found = commands(path.read_text(encoding="utf-8"))
    assert len(found) >= (8 if path.stem == "README" else 1)
    for words in found:
        require_known(words)


@pytest.mark.parametrize("line", ["train userlm", "train userllm --presett quick", "factors encoder"])
def test_a_stale_command_is_seen(line):
    (words,) = commands(f"```sh\n.venv/bin/userllm {line}   # as it was\n```\n")
    with pytest.raises(InputError):
        require_known(words)


def test_what_make_is_asked_for_exists():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for path in texts():
        for block in blocks(path.read_text(encoding="utf-8"), "sh"):
            for target in re.findall(r"^make ([a-z-]+)", block, flags=re.MULTILINE):
                assert target in targets, f"{path.name}: make {target}"


def test_the_published_weights_give_what_readme_prints(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    (block,) = blocks((ROOT / "README.md").read_text(encoding="utf-8"), "console")
    command, _, printed = block.partition("\n")
    words = shlex.split(COMMAND.match(command)[1])
    assert main([*words, "--device", "cpu", "--precision", "fp32"]) == 0
    assert capsys.readouterr().out.split() == printed.split()


def test_the_python_of_readme_runs(monkeypatch):
    monkeypatch.chdir(ROOT)
    (block,) = blocks((ROOT / "README.md").read_text(encoding="utf-8"), "python")
    names = {}
    exec(compile(block.replace("few.rank", "table = few.rank"), "README.md", "exec"), names)
    assert list(names["table"]["rank"]) == [1, 2, 3, 4, 5]

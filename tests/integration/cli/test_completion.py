"""Words are completed in a shell, by what ``--install-completion`` writes."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from taskiq_flow.cli.app import app
from tests.support.tree import ROOT

COMPLETE = """
source ~/.bashrc
complete_words() {
    COMP_WORDS=("$@")
    COMP_CWORD=$(($# - 1))
    $(complete -p taskiq-flow | sed 's/.* -F \\([^ ]*\\) .*/\\1/') "$1"
    echo "${COMPREPLY[*]}"
}
complete_words taskiq-flow list --sta
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_commands_and_options_once_that_is_installed(tmp_path: Path) -> None:
    command = tmp_path / "bin" / "taskiq-flow"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m taskiq_flow.cli "$@"\n')
    command.chmod(0o755)
    env = {
        "HOME": str(tmp_path),
        "PATH": f"{command.parent}:/usr/bin:/bin",
        "PYTHONPATH": str(ROOT / "src"),
    }

    def bash(script: str) -> str:
        done = subprocess.run(
            ["bash", "--norc", "-c", script],
            env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        return done.stdout

    # A shell of its own process, as it is found by who started the command; so not the last one.
    assert "bash completion installed" in bash("taskiq-flow --install-completion; true")
    assert bash(COMPLETE).splitlines() == ["--status"]


@pytest.mark.parametrize(
    ("shell", "variables", "words"),
    [
        ("bash", {"COMP_WORDS": "taskiq-flow schedules p", "COMP_CWORD": "2"}, {"pause"}),
        ("bash", {"COMP_WORDS": "taskiq-flow s", "COMP_CWORD": "1"}, {"show", "send-event"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "taskiq-flow schedules p"}, {"pause"}),
        (
            "fish",
            {
                "_TYPER_COMPLETE_ARGS": "taskiq-flow list --sta",
                "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            },
            {"--status"},
        ),
    ],
)
def test_every_shell_is_told_what_fits(
    shell: str, variables: dict[str, str], words: set[str]
) -> None:
    env = {"_TASKIQ_FLOW_COMPLETE": f"complete_{shell}", **variables}

    said = CliRunner().invoke(app, prog_name="taskiq-flow", env=env)

    assert said.exit_code == 0
    assert words <= set(re.findall(r"[a-z-]+", said.stdout))

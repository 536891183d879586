"""`mmseg-sclip doctor`: shows the environment, names what does not fit and the command that repairs it."""

from collections.abc import Sequence

from ..compat.report import look
from ..errors import ArgumentParser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the report; the exit code is 1 where there is a problem."""
    ArgumentParser(
        prog='mmseg-sclip doctor', description='Show versions, and what to run where they do not fit.'
    ).parse_args(argv)
    report = look()
    print(report)
    return 1 if report.problems else 0

"""What commands have in common: reading durations, progress bars, output folders."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Protocol

from scaler.errors import PermanentError, SettingsError

if TYPE_CHECKING:
    from rich.table import Table


class Progress(Protocol):
    """Called with how much is done, how much there is in all, and what is being done."""

    def __call__(self, done: int, in_all: int, what: str = "") -> None: ...


def duration(text: str, flag: str) -> timedelta:
    """Raises SettingsError unless the text is a duration above 0 such as 30s, 5m, 2h, 7d."""
    from scaler.domain.fields import parse_duration

    try:
        value = parse_duration(text)
    except ValueError as error:
        raise SettingsError(f"{flag}: found {text!r}; {error}") from error
    if value <= timedelta(0):
        raise SettingsError(f"{flag}: found {text!r}; need more than 0")
    return value


def durations(text: str, flag: str) -> list[timedelta]:
    """A comma-separated list of durations; raises SettingsError as `duration`."""
    return [duration(part.strip(), flag) for part in text.split(",")]


def check_out(out: Path) -> Path:
    """The folder that results may be written to; it is not made yet. Raises SettingsError where it cannot be."""
    _refuse_unwritable(out, out, "a folder", "--out")
    return out


def check_out_file(out: Path, flag: str = "--out") -> Path:
    """The file that results may be written to; it is not made yet. Raises SettingsError where it cannot be."""
    if out.is_dir():
        raise SettingsError(f"{flag}: {out} is a folder; need a file")
    _refuse_unwritable(out, out.parent, "a file in a folder", flag)
    return out


def _refuse_unwritable(out: Path, folder: Path, need: str, flag: str) -> None:
    """By making and removing a folder: rights alone do not tell (a read-only or virtual file system). Asked before the
    work, which may take long."""
    try:
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if not there.is_dir():
            raise SettingsError(f"{flag}: {there} is a file; need {need} that can be written")
        with TemporaryDirectory(dir=there):
            pass
    except OSError as error:
        raise SettingsError(f"{flag}: {out} cannot be written ({error.strerror}); need {need} that can") from error


@contextmanager
def writing(out: Path, flag: str = "--out") -> Iterator[None]:
    """What is written to `out`. Raises PermanentError where the system does not let it be."""
    try:
        yield
    except OSError as error:
        raise PermanentError(f"{flag}: {out} could not be written: {error}; nothing more was done") from error


@contextmanager
def progress_bar(label: str) -> Iterator[Progress]:
    """A bar on stderr where that is a terminal; nothing in a pipe."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(file=sys.stderr), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(label, total=None)

        def update(done: int, in_all: int, what: str = "") -> None:
            bar.update(task, completed=done, total=in_all, description=f"{label} {what}".rstrip())

        yield update


def only_errors_are_logged() -> None:
    """A command says what it found by itself: retries of its queries are not its news."""
    from scaler.app.logs import configure_logs

    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "error")  # read when a Dask cluster is started, also by workers
    configure_logs("error", "console")


def table(*columns: str) -> "Table":
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def show(content: object) -> None:
    """On stdout; tables are not cut when it is a pipe. What people wrote is shown as they wrote it: `[prod]` and
    `:up:` are no mark-up (colour is a rich.text.Text)."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 160
    Console(soft_wrap=False, width=width, highlight=False, markup=False, emoji=False).print(content)

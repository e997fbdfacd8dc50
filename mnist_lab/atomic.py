"""Files that appear whole or not at all, one alone or many together."""

import contextlib
import shutil
import signal
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file in full beside ``path``, and then put it in its place. Raises OSError, with nothing left behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_bytes(content)
        new.replace(path)
    finally:
        with contextlib.suppress(OSError):
            new.unlink()


def replace_together(sources: Mapping[Path, Path], unwanted: Iterable[Path] = ()) -> None:
    """Put every source in the place of its target and remove the unwanted files: all of it, or nothing.

    All new files are written beside their targets first. Then they are swapped in, with Ctrl-C and the like
    held back; if one cannot be, the old files return and new ones go. Raises OSError.
    """
    new = {target: target.with_name(f".{target.name}.new") for target in sources}
    old = {path: path.with_name(f".{path.name}.old") for path in [*sources, *unwanted]}
    kept: list[Path] = []  # whose old file waits beside it
    placed: list[Path] = []
    try:
        for target, source in sources.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, new[target])
        with signals_held_back():
            try:
                for path in old:
                    if path.exists():
                        path.replace(old[path])
                        kept.append(path)
                    if path in new:
                        new[path].replace(path)
                        placed.append(path)
            except OSError:
                for path in placed:
                    path.unlink()
                for path in kept:
                    old[path].replace(path)
                raise
            for path in kept:  # only now: an old file that could not return must not be lost
                old[path].unlink()
    finally:
        for leftover in new.values():
            leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def signals_held_back() -> Iterator[None]:
    """Let Ctrl-C and the like wait until the block is done. (To mask them would not do: another thread gets them.)"""
    waiting = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number in handlers:
        signal.signal(number, lambda number, frame: waiting.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in waiting:
            signal.raise_signal(number)

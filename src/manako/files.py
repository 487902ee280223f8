"""Reading and writing files so that nothing is ever half-written, and nothing hostile is believed.

Special here: one function writes every file of manako. A reader sees the old content or the new, never a part, also
after a crash or on a full disk. JSON is read more strictly than Python does: no doubled keys, no NaN, bounded depth.
"""

import contextlib
import errno
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from manako.errors import LoadError, ManakoError, UsageError
from manako.messages.numbers import count, fixed

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

Kind = Literal["file", "folder", "other"]
SPARE_BYTES = 1 << 20  # left free on the disk beside what is written
_NAME_KEPT = 32  # characters of 4 bytes: with the rest still within the 255 bytes that a file name may have
_NOTHING = (errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP)
_NOTHING_WINDOWS = (21, 123, 1921)  # no disk in the drive, a name that cannot be one, a link that leads nowhere
DEEPEST_JSON = 64  # objects and arrays inside each other; nothing that manako reads nests deeper than ten


def exists(path: Path) -> bool:
    """Whether a path leads to anything. Raises LoadError where that cannot be told, as `is_file` and `is_dir` do.

    Such are a name that is too long and a folder without permission: pathlib raises OSError for them, and from Python
    3.14 on takes them for nothing, so that a user who lacks a permission would be told that there is no file.
    """
    return _asked(path) is not None


def is_file(path: Path) -> bool:
    """Whether a path leads to a regular file."""
    return _asked(path) == "file"


def is_dir(path: Path) -> bool:
    """Whether a path leads to a folder."""
    return _asked(path) == "folder"


def _asked(path: Path) -> Kind | None:
    try:
        return _kind(path)
    except OSError as error:
        raise LoadError("file_unreadable", file=path, reason=error.strerror or error) from None


def _kind(path: Path) -> Kind | None:
    """What a path leads to. Raises OSError; who writes has other words for it than who reads."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno in _NOTHING or getattr(error, "winerror", None) in _NOTHING_WINDOWS:
            return None
        raise
    except ValueError:  # a NUL in the name
        return None
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"


def expanded(path: str | Path) -> Path:
    """With the home of a user in place of ~ or ~name; as it is, like in a shell, where there is none.

    Path.expanduser raises RuntimeError there.
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111


def write_file(path: Path, data: bytes | memoryview, replace: bool = True) -> None:
    """Put a file in place whole: temporary file in the same folder, fsync, rename, fsync of the folder.

    replace: whether a file of that name may be there; without it one that appeared meanwhile is never replaced, which
    only the last step can promise. Raises UsageError for that, ManakoError naming the path for all else; the file that
    stood there before is then untouched.
    """
    folder, data = path.parent, memoryview(data).cast("B")
    try:
        if _kind(path) not in (None, "file"):  # a rename would replace a folder's or device's name, /dev/null's too
            raise ManakoError("write_failed", file=path, reason="it is not a regular file")
        sweep(path)
        need_space(folder, len(data))
        temporary, descriptor = _begin(path)
        locked = fcntl is not None  # on Windows nothing is, so nobody sweeps it; and no open file can be renamed there
        try:
            with os.fdopen(descriptor, "wb", closefd=not locked) as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            if replace:
                temporary.replace(path)
            else:
                _rename_to_new(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):  # what went wrong first is what the message must say
                temporary.unlink(missing_ok=True)
            raise
        finally:
            if locked:
                os.close(descriptor)  # and with it the lock: not before the file has its name
    except FileExistsError:
        raise UsageError("target_exists", file=path) from None
    except OSError as error:
        raise ManakoError("write_failed", file=path, reason=error.strerror or error) from None
    try:
        sync_folder(folder)
    except OSError as error:  # the new content stands there, but may not outlast a power cut
        raise ManakoError("write_not_synced", file=path, reason=error.strerror or error) from None


def sweep(path: Path) -> None:
    """Remove what killed writers of `path` left under temporary names; what a living one writes is locked and stays."""
    if fcntl is None:
        return
    begun = re.compile(re.escape(f".{path.name[:_NAME_KEPT]}.") + "[0-9a-f]{16}\\.tmp")
    with contextlib.suppress(OSError):  # a folder that cannot be listed: nothing depends on it
        for other in [p for p in path.parent.iterdir() if begun.fullmatch(p.name)]:
            with contextlib.suppress(OSError):
                descriptor = os.open(other, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(other) if _kind(other) == "folder" else other.unlink()
                finally:
                    os.close(descriptor)


def _begin(path: Path, is_folder: bool = False) -> tuple[Path, int]:
    """A new file or folder under a temporary name beside `path`, and its descriptor, which locks it while we live."""
    while True:
        temporary = path.with_name(f".{path.name[:_NAME_KEPT]}.{os.urandom(8).hex()}.tmp")
        try:
            descriptor = _created(temporary, is_folder)
            if fcntl is not None:
                with contextlib.suppress(OSError):  # a file system without locks, where nothing is swept either
                    fcntl.flock(descriptor, fcntl.LOCK_EX)  # waits for a sweeper that was quicker, to see it gone
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.rmdir() if is_folder else temporary.unlink()
            raise
        if _kind(temporary):
            return temporary, descriptor
        os.close(descriptor)  # swept in the moment before it was locked


def _created(path: Path, is_folder: bool) -> int:
    """The descriptor of a new file or folder; where no folder can be opened, of nothing."""
    if not is_folder:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666)
    path.mkdir()
    return os.open(os.devnull if fcntl is None else path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))


def _rename_to_new(temporary: Path, path: Path) -> None:
    """Give a file a name that nothing else has. Raises FileExistsError."""
    if os.name == "nt":
        temporary.rename(path)  # which replaces nothing there
        return
    try:
        os.link(temporary, path)  # unlike a rename, it never replaces
        temporary.unlink()
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links, such as exFAT: take the name first, then fill it
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        try:
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()
            raise


def need_space(folder: Path, size: int) -> None:
    """Raise ManakoError when `size` bytes more will not fit on the disk that holds `folder`."""
    free = shutil.disk_usage(folder).free
    if size + SPARE_BYTES > free:
        raise ManakoError("disk_full", file=folder, need=megabytes(size), free=megabytes(free))


def writable_target(path: Path, force: bool) -> None:
    """Check before any work that `path` can be written later.

    Raises UsageError when it is no ordinary file, or when a file is there and `force` is off; ManakoError when its
    folder is missing or cannot be written.
    """
    try:
        kind = _kind(path)
        if kind == "folder":
            raise UsageError("target_is_folder", file=path)
        if kind == "other":  # a device or pipe: the rename would replace it
            raise UsageError("file_not_regular", file=path)
        if (kind or path.is_symlink()) and not force:
            raise UsageError("target_exists", file=path)
        if _kind(path.parent) != "folder":
            raise ManakoError("target_folder_missing", file=path.parent)
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise ManakoError("write_failed", file=path, reason=os.strerror(13))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ManakoError("write_failed", file=path, reason=getattr(error, "strerror", None) or error) from None


def writable_folder(folder: Path, in_place: bool = False) -> Path:
    """Check before any work that a folder can be made, or taken over where an empty one is there; where it will stand.

    That is `folder`, or what it leads to where it is a link. in_place: an empty one is filled as it is; otherwise a new
    one is put in its place, which no mount point allows. Raises ManakoError.
    """
    try:
        kind = _kind(folder)
        if (kind and (kind != "folder" or any(folder.iterdir()))) or (not kind and folder.is_symlink()):
            raise ManakoError("target_exists_folder", file=folder)
        if kind and not in_place and os.path.ismount(folder):
            raise ManakoError("write_failed", file=folder, reason="it is a mount point; name a folder inside it")
        place = folder.resolve() if folder.is_symlink() else folder.absolute()  # Path(".") has no name of its own
        parent = next(p for p in place.parents if _kind(p))
        if _kind(parent) != "folder" or not os.access(parent, os.W_OK):
            raise ManakoError("write_failed", file=folder, reason=os.strerror(13))
        return place
    except OSError as error:
        raise ManakoError("write_failed", file=folder, reason=error.strerror or error) from None


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that takes the name `folder` when the block ends well, and is gone when it does not.

    Raises ManakoError naming `folder` when it is there already (an empty one is taken over) or cannot be written.
    """
    made: list[Path] = []  # folders above it that were not there, nearest first
    failed = "write_failed"
    try:
        if "\0" in str(folder):
            raise ManakoError(failed, file=folder, reason="embedded null byte")
        folder = writable_folder(folder)
        made = [p for p in folder.parents if not _kind(p)]
        temporary, descriptor = folder, None
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            sweep(folder)
            temporary, descriptor = _begin(folder, is_folder=True)
            yield temporary
            sync_folder(temporary)
            if _kind(folder):
                folder.rmdir()
            temporary.rename(folder)
            made = []
        finally:
            if descriptor is not None:
                shutil.rmtree(temporary, ignore_errors=True)
                os.close(descriptor)
            for parent in made:
                with contextlib.suppress(OSError):  # another has put something there
                    parent.rmdir()
        failed = "write_not_synced"
        sync_folder(folder.parent)
    except ManakoError as error:  # of one file in the temporary folder: nothing of it stays
        if error.key not in ("write_failed", "write_not_synced", "disk_full"):
            raise
        raise ManakoError(error.key.replace("not_synced", "failed"), **error.values | {"file": folder}) from None
    except OSError as error:
        raise ManakoError(failed, file=folder, reason=error.strerror or error) from None


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` durable, where the system can."""
    if os.name == "nt":  # a folder cannot be opened there; the rename is durable by itself
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_regular(path: Path) -> None:
    """Raise LoadError unless this is a regular file; a FIFO or device would hang who reads it."""
    kind = _asked(path)
    if kind != "file":
        key = "file_is_folder" if kind == "folder" else "file_not_regular" if kind else "file_missing"
        raise LoadError(key, file=path)


def read_regular(path: Path, limit: int | None = None) -> bytes:
    """The bytes of a regular file of at most `limit` bytes; a FIFO or device is refused before it can hang.

    Raises LoadError naming the path, also for a file that does not fit into memory.
    """
    try:
        check_regular(path)
        if limit is not None and path.stat().st_size > limit:
            raise LoadError("file_too_large", file=path, size=path.stat().st_size, limit=limit)
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise LoadError("file_unreadable", file=path, reason=getattr(error, "strerror", None) or error) from None
    except (MemoryError, OverflowError):
        raise LoadError("file_unreadable", file=path, reason="it is larger than the memory") from None


def refuse_pointer(path: Path, start: bytes) -> None:
    """Raise LoadError where a file, by its first bytes, is what Git leaves of one that LFS keeps elsewhere."""
    if start.startswith(b"version https://git-lfs.github.com/"):
        raise LoadError("lfs_pointer", file=path)


def strict_json(text: str | bytes, name: str, infinity: bool = False) -> dict[str, Any]:
    """A JSON object in UTF-8. infinity: whether a bare Infinity is read, as older programs wrote it.

    Doubled keys, NaN, numbers beyond the largest float, lone surrogates, nesting deeper than DEEPEST_JSON and anything
    but an object raise LoadError.
    """

    def no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if len(set(keys)) < len(keys):
            raise ValueError("a key occurs twice")
        return dict(pairs)

    def no_constants(constant: str) -> Any:
        if infinity and constant != "NaN":
            return float(constant)
        raise ValueError(f"{constant} is not JSON")

    def finite(digits: str) -> float:
        if not math.isfinite(number := float(digits)):
            raise ValueError(f"{digits} is too large")
        return number

    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8")  # json.loads would guess UTF-16 and UTF-32
        parsed = json.loads(decoded, object_pairs_hook=no_repeats, parse_constant=no_constants, parse_float=finite)
        _check_json(parsed)
    except (ValueError, RecursionError) as error:
        raise LoadError("json_invalid", file=name, reason=error) from None
    if not isinstance(parsed, dict):
        raise LoadError("json_invalid", file=name, reason="not an object")
    return parsed  # pyright: ignore[reportUnknownVariableType]


def _check_json(parsed: Any) -> None:
    """Raise ValueError for deep nesting and for text that is not Unicode. Level by level: no recursion to overflow."""
    level = [parsed]
    for _ in range(DEEPEST_JSON):
        deeper: list[Any] = []
        for value in level:
            if isinstance(value, str):
                value.encode("utf-8")  # UnicodeEncodeError, a ValueError, for a lone surrogate
            elif isinstance(value, dict):
                deeper += [*value.keys(), *value.values()]
            elif isinstance(value, list):
                deeper += value
        if not (level := deeper):
            return
    raise ValueError(f"nested deeper than {DEEPEST_JSON}")


def megabytes(size: int) -> str:
    """A size for people: decimal megabytes; gigabytes from ten of them, kilobytes below one megabyte."""
    if size < 10**6:
        return f"{fixed(size / 1e3, 1)} kB"
    # Whole numbers for the large ones: they may be larger than any float.
    return f"{fixed(size / 1e6, 1)} MB" if size < 1e10 else f"{count((size + 5 * 10**8) // 10**9)} GB"


def printable(name: object) -> str:
    """A name that came from the system as text that UTF-8 can hold: bytes that are no UTF-8 are escaped.

    >>> print(printable(b"\\x94L.txt".decode("utf-8", "surrogateescape")))
    \\x94L.txt
    """
    try:
        return str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a surrogate pair that stands for no byte
        return str(name).encode("utf-8", "backslashreplace").decode()

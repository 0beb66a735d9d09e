"""Files elsewhere, by address: `s3://`, `gs://`, `https://` and whatever else fsspec knows.

fsspec and what speaks to a store (s3fs, gcsfs, …) are asked for when an address is met, and not before.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from asr.errors import ConfigError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters at least: C:// is no address
# Stores in which an object is there whole or not at all. Elsewhere a file is written beside its place and moved there.
_OBJECTS = frozenset(("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "memory"))
_BACKENDS = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "az": "adlfs",
    "http": "aiohttp",
    "https": "aiohttp",
}
_SILENCE_S = 60.0  # that a web server may keep before it is given up


def is_url(text: str) -> bool:
    """Whether this is an address and no path."""
    return _URL.match(text) is not None


def local_path(text: str) -> str:
    """A path for an address that is one, as file:///home/me/talk.wav; what is none comes back as it is."""
    if not text.lower().startswith("file://"):
        return text
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost"):
        raise ConfigError(f"{text}: names another machine: write file:///PATH")
    return url2pathname(parts.path)


def scheme_of(url: str) -> str:
    return url.partition("://")[0].lower()


def is_web(url: str) -> bool:
    """Whether a web server has it, which shows no folders, takes nothing and may give no parts of files."""
    return scheme_of(url) in ("http", "https")


def name_of(url: str) -> str:
    """What a file is called there, without the folders before it and what a web address has behind it."""
    path = unquote(urlsplit(url).path) if is_web(url) else url.partition("://")[2]
    return path.rstrip("/").rpartition("/")[2]


def file_system(url: str) -> tuple[AbstractFileSystem, str]:
    """Who can open a URL, and what it is called there. Raises ConfigError if something must be installed first."""
    try:
        import fsspec
    except ModuleNotFoundError as error:
        raise ConfigError(f"{url}: reading addresses needs fsspec: pip install 'asr-stream[urls]'") from error
    scheme, options = scheme_of(url), dict[str, Any]()
    url = f"{scheme}{url[len(scheme) :]}"  # fsspec knows schemes in small letters only
    try:
        if is_web(url):
            import aiohttp

            # Long recordings take longer than the five minutes that are usual.
            options["client_kwargs"] = {"timeout": aiohttp.ClientTimeout(total=None, sock_read=_SILENCE_S)}
        return fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        raise ConfigError(f"{url}: needs {_BACKENDS.get(scheme, error)}: pip install it") from error
    except ValueError as error:
        raise ConfigError(f"{url}: cannot be used ({error})") from error


def find_below(url: str) -> Iterator[tuple[str, PurePosixPath]] | None:
    """Files below a folder, in the order of their names, each also as seen from there; None if it is no folder.

    Raises ConfigError, and whatever the store raises if it cannot be read.
    """
    if is_web(url):
        return None  # the web has no folders
    system, root = file_system(url)
    if not system.isdir(root):
        return None
    root = root.rstrip("/")
    names = sorted(system.find(root))
    return ((system.unstrip_protocol(name), PurePosixPath(name.removeprefix(root).lstrip("/"))) for name in names)


def size_of(url: str) -> int | None:
    """Bytes, if the store says."""
    with suppress(Exception):  # each store has its own; what is wrong is told when the file is opened
        system, path = file_system(url)
        return int(system.info(path)["size"])
    return None


def modified_s(url: str) -> tuple[bool, float | None]:
    """Whether a file is there, and when it was last changed, in seconds since 1970, if the store says."""
    system, path = file_system(url)
    try:
        info = system.info(path)
    except Exception:
        return False, None
    with suppress(Exception):
        if stated := info.get("Last-Modified"):
            return True, parsedate_to_datetime(stated).timestamp()
        return True, system.modified(path).timestamp()
    return True, None


def refuse_unwritable(url: str) -> None:
    """Raise ConfigError if results cannot go there."""
    file_system(url)
    if is_web(url):
        raise ConfigError(
            f"{url}: results cannot be written to the web: give a folder, or an address as s3://BUCKET/DIR"
        )


def write_url(url: str, text: str) -> None:
    """Write a file so that all of it is there or none, where the store can do that. Raises OSError."""
    system, path = file_system(url)
    data = text.encode("utf-8")
    try:
        if scheme_of(url) in _OBJECTS:
            system.pipe_file(path, data)
            return
        folder, _, _ = path.rpartition("/")
        system.makedirs(folder, exist_ok=True)
        part = f"{folder}/.asr-{secrets.token_hex(6)}.part"
        try:
            with system.open(part, "wb") as file:
                file.write(data)
            system.mv(part, path)
        except BaseException:  # an interrupt too
            with suppress(Exception):
                system.rm_file(part)
            raise
    except OSError:
        raise
    except Exception as error:  # each store has its own
        raise OSError(0, f"{type(error).__name__}: {error}") from error

"""Shards in object storage: read through a cache on a local disk, whole tars at a time.

    index = ShardIndex.open("s3://bucket/shards/bp4d", cache="/scratch/norface")

A URL is whatever fsspec knows (s3://, gs://, https://, file://, memory:// ...; some need a package
of their own, which fsspec names). The index is fetched when it is opened, a tar when its first
picture is read: once for all processes that share the cache, under another name until it is whole.
Where the index behind the URL changes (its size, time or tag, as far as the storage tells them), a
new cache folder is begun. Nothing is ever removed from
the cache: it grows to the size of what is read, and a person empties it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from norface.errors import ConfigError, CorpusError

SOURCE = "source.json"
"In a cache folder: where its files come from."


def is_url(place: object) -> bool:
    """Whether a place is a URL and not a path."""
    return isinstance(place, str) and "://" in place


def _keep_url(value: Any) -> Any:
    return value if is_url(value) or not isinstance(value, str) else Path(value)


ShardPlace = Annotated[Path | str, BeforeValidator(_keep_url)]
"A folder of shards in a config: a path, or a URL as text (a Path would make s3:/x of s3://x)."


def local_folder(place: str | Path, cache: str | Path | None, index_name: str) -> Path:
    """The folder to read: the path itself, or the cache of a URL with its index fetched.

    Raises ConfigError where there is no cache or no such kind of URL, CorpusError where the URL
    cannot be read.
    """
    if not is_url(place):
        return Path(place)
    url = str(place).rstrip("/")
    if cache is None:
        raise ConfigError(f"{url}: set data.cache_folder to a folder on a local disk")
    system, path = _open_system(url)
    with _reading(f"{url}/{index_name}"):
        about = system.info(f"{path}/{index_name}")
    version = json.dumps(about, sort_keys=True, default=str)
    digest = hashlib.sha256(f"{url} {version}".encode()).hexdigest()[:12]
    folder = Path(cache) / f"{url.rsplit('/', 1)[-1] or 'shards'}-{digest}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / f"{SOURCE}.lock"):
            if not (folder / SOURCE).is_file():
                aside = folder / f"{SOURCE}.tmp"
                aside.write_text(json.dumps({"url": url}), encoding="utf-8")
                os.replace(aside, folder / SOURCE)
    except OSError as error:
        raise CorpusError(f"{folder}: cannot be written ({error.strerror})") from None
    fetch_missing(folder / index_name)
    return folder


def fetch_missing(path: Path) -> None:
    """Bring a file of a cache folder here, if it is not; does nothing for any other file.

    Processes that ask at the same time wait for one of them. Raises CorpusError.
    """
    source = path.parent / SOURCE
    if path.exists() or not source.is_file():
        return
    url = f"{json.loads(source.read_text(encoding='utf-8'))['url']}/{path.name}"
    try:
        with _alone(path.with_name(f"{path.name}.lock")):
            if path.exists():
                return
            system, remote = _open_system(url)
            # One name for all attempts: what a killed process left is overwritten.
            aside = path.with_name(f"{path.name}.tmp")
            with _reading(url):
                system.get_file(remote, str(aside))
            os.replace(aside, path)
    except OSError as error:
        raise CorpusError(f"{path}: cannot be written ({error.strerror})") from None


def _open_system(url: str) -> tuple[Any, str]:
    """(file system, path in it) of a URL."""
    from fsspec.core import url_to_fs

    try:
        return url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{url}: cannot be opened ({error})") from None


@contextmanager
def _reading(url: str) -> Iterator[None]:
    """One-line errors: every file system has exceptions of its own."""
    try:
        yield
    except FileNotFoundError:
        raise CorpusError(f"{url}: no such file") from None
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CorpusError(f"{url}: cannot be read ({reason})") from None


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One process of this machine at a time; a killed one lets go."""
    with open(lock, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

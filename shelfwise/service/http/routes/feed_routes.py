"""Feeds: the files of their folder, uploads that wait to be checked and published, and the quality report."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import msgspec
from fastapi import Path as PathParameter
from fastapi import Request, Response
from filelock import FileLock, Timeout
from starlette.requests import ClientDisconnect

from shelfwise.retrieval.errors import InputError, StoreMissingError
from shelfwise.retrieval.store.files import atomic_file, scratch_path
from shelfwise.service.http.context import Contextual, MayAdminister, ServiceContext, WorkerRouter
from shelfwise.service.http.errors import RequestError
from shelfwise.service.http.limits import BODY_SECONDS
from shelfwise.service.http.schemas import BINARY_BODY, RESPONSES, CheckBody, PublishBody, json_response
from shelfwise.service.http.tasks import FEEDS_OFF, UPLOADS, Task, TaskState, feed_paths

router = WorkerRouter(prefix="/v1", tags=["feeds"], responses=RESPONSES)

UploadName = Annotated[
    str, PathParameter(min_length=1, max_length=200, description="A file name, such as products.csv.")
]
FEED_BYTES = 1_000_000_000
"""Maximum size of an uploaded feed."""
_QUALITY_FILE = "quality.json"
_LOCK_FILE = "lock"
_MAX_NAME = 120


@dataclass(frozen=True, slots=True)
class FeedFile:
    """A feed, or an upload that may become one."""

    name: str
    bytes: int
    modified: datetime
    stamp: int
    """Changes with the content; each check refers to one stamp."""


class FeedFolder:
    """The folder of feeds. Threads and processes may share it."""

    def __init__(self, folder: Path | None, most_bytes: int, pause_seconds: float) -> None:
        """`most_bytes` limits an upload, `pause_seconds` the time without data. Without a folder there are no feeds,
        and an upload raises InputError."""
        self.folder = folder
        self.most_bytes = most_bytes
        self._pause_seconds = pause_seconds

    def list(self) -> tuple[FeedFile, ...]:
        """The feeds by name, without uploads."""
        return _files(self.folder) if self.folder else ()

    def uploads(self) -> tuple[FeedFile, ...]:
        """The complete uploads by name."""
        return _files(self.folder / UPLOADS) if self.folder else ()

    def upload(self, name: str) -> FeedFile:
        """A complete upload; raises RequestError (404)."""
        file = next((each for each in self.uploads() if each.name == name), None)
        if file is None:
            raise RequestError(404, f"there is no upload {name[:_MAX_NAME]!r}", code="unknown_upload")
        return file

    async def store(self, name: str, content: AsyncIterator[bytes]) -> FeedFile:
        """Writes an upload to disk as it arrives, and replaces an earlier one of the same name once it is complete.

        An upload that ends early is deleted; remains of a killed process are removed by the next upload. Raises
        RequestError: 400 for an invalid name or an end before the last part, 408 after a long pause, 409 during another
        upload, 413 for more than `most_bytes`, 503 if the disk is full.
        """
        path = self._folder() / UPLOADS / _checked(name)
        try:
            path.parent.mkdir(exist_ok=True)
            with self._lock(), atomic_file(path) as file:
                size = 0
                async for part in _parts(content, self._pause_seconds):
                    size += len(part)
                    if size > self.most_bytes:
                        raise self.too_large()
                    await asyncio.to_thread(file.write, part)
                if not size:
                    raise RequestError(400, "the feed is empty", field="body")
                await asyncio.to_thread(_sync, file)
        except OSError as error:
            raise RequestError(503, f"the feed cannot be stored: {error.strerror or error}") from error
        return self.upload(name)

    def publish(self, name: str) -> None:
        """Publishes an upload as the feed of its name."""
        self.upload(name)
        (self._folder() / UPLOADS / name).replace(self._folder() / name)

    def discard(self, name: str) -> None:
        """Deletes an upload."""
        self.upload(name)
        (self._folder() / UPLOADS / name).unlink(missing_ok=True)

    def too_large(self) -> RequestError:
        return RequestError(413, f"a feed may have at most {self.most_bytes:,} bytes ", field="body")

    def _folder(self) -> Path:
        if self.folder is None:
            raise InputError(FEEDS_OFF)
        return self.folder

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Allows one upload at a time, so that any other unfinished file was left by a killed process."""
        uploads = self._folder() / UPLOADS
        try:
            with FileLock(uploads / _LOCK_FILE, timeout=0):
                for scratch in uploads.glob(scratch_path(uploads / "*").name):
                    scratch.unlink(missing_ok=True)
                yield
        except Timeout:
            raise RequestError(409, "another feed is being uploaded; try again when it is complete") from None


async def _parts(content: AsyncIterator[bytes], seconds: float) -> AsyncIterator[bytes]:
    """The parts of an upload as they arrive; raises RequestError (400, 408)."""
    parts = aiter(content)
    while True:
        try:
            async with asyncio.timeout(seconds):
                part = await anext(parts)
        except StopAsyncIteration:
            return
        except ClientDisconnect:
            raise RequestError(400, "the client disconnected before the feed was received") from None
        except TimeoutError:
            raise RequestError(408, f"no part of the feed was received for {seconds:g} seconds") from None
        yield part


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _files(folder: Path) -> tuple[FeedFile, ...]:
    if not folder.is_dir():
        return ()
    names = (each for each in folder.iterdir() if each.is_file() and not each.name.startswith("."))
    files = [(path.name, path.stat()) for path in sorted(names) if path.name != _LOCK_FILE]
    return tuple(
        FeedFile(name, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC), status.st_mtime_ns)
        for name, status in files
    )


def _checked(name: str) -> str:
    is_plain = name.isprintable() and not set(name) & set('/\\:*?"<>|') and not name.startswith((".", "-"))
    if not name or len(name.encode()) > _MAX_NAME or not is_plain or name == _LOCK_FILE:
        raise RequestError(400, f"the name of a feed must have 1 to {_MAX_NAME} bytes and no slash", field="name")
    return name


@dataclass(frozen=True, slots=True)
class UploadState:
    """An upload, and the task that checks it."""

    file: FeedFile
    check: Task | None
    """The check; its result is the quality report."""


@dataclass(frozen=True, slots=True)
class FeedsResponse:
    """The feeds of the service."""

    enabled: bool
    """Whether there is a folder of feeds: the setting service.feeds, or the switch."""
    most_bytes: int
    """Maximum size of an upload."""
    feeds: tuple[FeedFile, ...]
    uploads: tuple[UploadState, ...]


@router.get("/feeds", summary="Feeds and uploads")
def feeds(context: Contextual, _permit: MayAdminister) -> FeedsResponse:
    """The files of the folder of feeds, and the uploads that are not published yet."""
    folder = _folder_of(context)
    uploads = tuple(UploadState(each, _check_of(context, each)) for each in folder.uploads())
    return FeedsResponse(folder.folder is not None, folder.most_bytes, folder.list(), uploads)


@router.put(
    "/feeds/uploads/{name}",
    status_code=201,
    response_model=UploadState,
    openapi_extra=BINARY_BODY,
    summary="Upload a feed",
)
async def upload(context: Contextual, _permit: MayAdminister, request: Request, name: UploadName) -> Response:
    """Stores a feed in any format of `shelfwise rebuild`, and queues its check. Nothing is published."""
    folder = _folder_of(context)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestError(415, "send the file unencoded, without Content-Encoding", field="Content-Encoding")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > folder.most_bytes:
        raise folder.too_large()
    file = await folder.store(name, request.stream())
    check = await context.shared.threads.run(partial(context.tasks.add, "check", _check_arguments(file)))
    return json_response(UploadState(file, check), 201)


@router.post("/feeds/uploads/{name}/check", status_code=202, response_model=Task, summary="Check an upload again")
def check_upload(context: Contextual, _permit: MayAdminister, name: UploadName, body: CheckBody) -> Response:
    """Checks an upload with columns mapped to fields; publishing it maps them in the same way by default."""
    arguments = _check_arguments(_folder_of(context).upload(name))
    return json_response(context.tasks.add("check", {**arguments, **body.model_dump(exclude_defaults=True)}), 202)


@router.post("/feeds/uploads/{name}/publish", status_code=202, response_model=Task, summary="Publish an upload")
def publish(context: Contextual, _permit: MayAdminister, name: UploadName, body: PublishBody) -> Response:
    """Makes a checked upload the feed of its name, and rebuilds the index from it and other feeds."""
    check = _check_of(context, _folder_of(context).upload(name))
    if check is None or check.state is not TaskState.DONE:
        state = f"its check is {check.state}" if check else "it was not checked"
        raise RequestError(409, f"an upload can be published after its check; {state}", code="unchecked")
    others = [each for each in body.feeds if each != name]
    feed_paths(others, context.feeds())
    _folder_of(context).publish(name)
    mapping = {"map": check.arguments["map"]} if "map" in check.arguments else {}
    arguments = {"feeds": [name, *others], **mapping, **body.model_dump(exclude_defaults=True, exclude={"feeds"})}
    return json_response(context.tasks.add("rebuild", arguments), 202)


@router.delete("/feeds/uploads/{name}", summary="Discard an upload")
def discard(context: Contextual, _permit: MayAdminister, name: UploadName) -> FeedsResponse:
    """Deletes an uploaded file that is not published."""
    _folder_of(context).discard(name)
    return feeds(context=context, _permit=_permit)


@router.get("/reports/quality", response_model=dict[str, Any], summary="Quality report of the last rebuild")
def quality(context: Contextual, _permit: MayAdminister) -> msgspec.Raw:
    """The report described in docs/quality.md, with counts and examples of rejected rows."""
    try:
        return msgspec.Raw((context.engine.root / _QUALITY_FILE).read_bytes())
    except FileNotFoundError:
        raise StoreMissingError("there is no quality report; a rebuild from feeds creates one") from None


def _folder_of(context: ServiceContext) -> FeedFolder:
    return FeedFolder(context.feeds(), FEED_BYTES, BODY_SECONDS)


def _check_arguments(upload: FeedFile) -> dict[str, Any]:
    return {"upload": upload.name, "stamp": upload.stamp}


def _check_of(context: ServiceContext, upload: FeedFile) -> Task | None:
    """The last check of exactly this content."""
    arguments = _check_arguments(upload).items()
    return next(
        (each for each in context.tasks.queue.list() if each.kind == "check" and arguments <= each.arguments.items()),
        None,
    )

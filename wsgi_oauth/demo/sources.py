"""Find the source lines that produce a message.

A message is recorded by the thread that produces it, so the current lines of the functions on its stack are the source
lines. An error page is produced after an exception has left these functions. Its source lines are in the traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import CodeType, FrameType, TracebackType
from typing import NamedTuple

from .messages import ROOT, SourceLine

PACKAGE = f"{ROOT}/wsgi_oauth"

# The modules that record messages. Their lines are not part of a source.
_RECORDING = {f"{PACKAGE}/demo/{name}.py" for name in ("sources", "recording", "traced_app", "dispatcher", "server")}


class Source(NamedTuple):
    """The calls of this package that lead to a message, the outermost first, and the main one."""

    chain: tuple[SourceLine, ...] = ()
    main: SourceLine | None = None
    raised: SourceLine | None = None
    """The line that raised the exception for which the message is the response."""


IsHandler = Callable[[FrameType], bool]
"""Return whether a frame runs a handler, the function that answers a request."""


def find_source(is_handler: IsHandler) -> Source:
    """Return the source of the message that the calling function is producing.

    The main line is a line of the handler that is running, or that has raised the current exception. Without a handler,
    it is the innermost line.
    """
    stack = list(_running_frames())
    handler = _find_handler(stack, is_handler)
    traceback = sys.exc_info()[2]
    has_raised = handler is None and traceback is not None
    if handler is None and traceback is not None:
        raised = list(_traceback_frames(traceback))
        outer = [frame for frame, _ in stack]
        stack = stack[: outer.index(raised[0][0])] if raised and raised[0][0] in outer else []
        stack = [each for each in [*stack, *raised] if _is_shown(each[0])]
        handler = _find_handler(stack, is_handler)
    chain = [
        SourceLine(frame.f_code.co_filename.removeprefix(f"{ROOT}/"), line, frame.f_code.co_name)
        for frame, line in stack
    ]
    if not chain:
        return Source()
    return Source(tuple(chain), chain[-1 if handler is None else handler], chain[-1] if has_raised else None)


def _find_handler(stack: list[tuple[FrameType, int]], is_handler: IsHandler) -> int | None:
    """Return the position of the innermost frame with code from inside a handler; None without a handler."""
    nested = {code for frame, _ in stack if is_handler(frame) for code in _nested_code(frame.f_code)}
    return max((position for position, (frame, _) in enumerate(stack) if frame.f_code in nested), default=None)


def _nested_code(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested_code(constant)


def _running_frames() -> Iterator[tuple[FrameType, int]]:
    """Yield the frames of this package that are running, with their lines, the outermost first."""
    frames = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if _is_shown(frame):
            frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    yield from reversed(frames)


def _traceback_frames(traceback: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    while traceback is not None:
        yield traceback.tb_frame, traceback.tb_lineno
        traceback = traceback.tb_next


def _is_shown(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return is_own_module(file) and file not in _RECORDING


def is_own_module(file: str) -> bool:
    """Return whether *file*, an absolute path without ``..``, is a module of this package."""
    return file.startswith(f"{PACKAGE}/") and file.endswith(".py")

"""Computing the next items while the last ones are used: the same items, sooner."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Generator[T, None, None], most: int) -> Generator[T, None, None]:
    """The items, computed on a thread of its own, at most ``most`` of them before they are asked for.

    What ``items`` raises is raised where its item would have come. When this generator is closed, so is ``items``.
    """
    with ThreadPoolExecutor(1, "ahead") as thread:
        coming: deque[Future[list[T]]] = deque(thread.submit(_next, items) for _ in range(most))
        try:
            while item := coming.popleft().result():
                coming.append(thread.submit(_next, items))
                yield item[0]
        finally:
            for future in coming:
                future.cancel()
            thread.submit(items.close).result()


def _next(items: Generator[T, None, None]) -> list[T]:
    """The next item, or nothing at the end."""
    for item in items:
        return [item]
    return []

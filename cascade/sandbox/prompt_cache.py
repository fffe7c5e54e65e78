"""Which beginnings of prompts were seen a short while ago: what services call prompt caching."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cascade.sandbox.responses import json_text
from cascade.sandbox.tokens import identities

# As OpenAI documents it: from 1,024 tokens on, in steps of 128.
LEAST_TOKENS = 1024
BLOCK_TOKENS = 128
# It documents 5 to 10 minutes without use; here it is always the longer.
SECONDS = 600
_MOST_BLOCKS = 200_000
_FRAME = 4  # tokens of a message beside its content, as `count_messages` has them


class PromptCache:
    """The beginnings of prompts that came in the last while, for all models.

    Parameters
    ----------
    most
        Blocks of tokens that are remembered; the oldest are forgotten.
    """

    def __init__(self, most: int = _MOST_BLOCKS, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock, self._lock = most, clock, threading.Lock()
        self._seen: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        """How many blocks are remembered."""
        return len(self._seen)

    def cached(
        self, model: str, messages: Sequence[Mapping[str, str]], n_tokens: int, before: Any = None
    ) -> int:
        """How many tokens at the beginning of a prompt another one had; this one is remembered.

        Parameters
        ----------
        n_tokens
            Of the prompt: a short one is neither looked up nor remembered.
        before
            What the service puts before the messages, such as a schema: prompts with another share nothing.
        """
        if n_tokens < LEAST_TOKENS:
            return 0
        keys = list(_keys(f"{model}\n{json_text(before)}", messages))
        now = self._clock()
        with self._lock:
            known = 0
            while known < len(keys) and self._seen.get(keys[known], -SECONDS) > now - SECONDS:
                known += 1
            self._remember(keys, now)
        return LEAST_TOKENS + (known - 1) * BLOCK_TOKENS if known else 0

    def _remember(self, keys: Sequence[bytes], now: float) -> None:
        for key in keys:
            self._seen[key] = now
            self._seen.move_to_end(key)
        while len(self._seen) > self._most:
            self._seen.popitem(last=False)


def _keys(start: str, messages: Sequence[Mapping[str, str]]) -> Iterator[bytes]:
    """A key of the first 1,024 tokens, then of each longer beginning in steps of a block."""
    sums = hashlib.sha256(start.encode("utf-8", "replace"))
    for length, token in enumerate(_tokens(messages), 1):
        sums.update(f"{token}\0".encode("utf-8", "replace"))
        if length >= LEAST_TOKENS and (length - LEAST_TOKENS) % BLOCK_TOKENS == 0:
            yield sums.digest()


def _tokens(messages: Sequence[Mapping[str, str]]) -> Iterator[int | str]:
    for one in messages:
        yield from [f"<|{one['role']}|>"] * _FRAME
        yield from identities(one["content"])

"""The tokens of o200k: those of gpt-4o, gpt-4.1 and later models."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import Any


@dataclass(frozen=True)
class Tokenizer:
    """What makes tokens of texts and texts of tokens.

    Attributes
    ----------
    encode
        The tokens of a text of fewer than a million characters, none of them half of one.
    decode
        The text of tokens; ValueError where they begin or end within a character.
    """

    encode: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]


@cache
def tokenizer() -> Tokenizer | None:
    """The tokenizer; None where the package ``bpe-openai`` is missing."""
    package = find_spec("bpe_openai")
    if package is None:
        return None
    try:
        compiled = _compiled(package.submodule_search_locations).tokenizer_for_encoding("o200k_base")
        return Tokenizer(compiled.encode, compiled.decode)
    except (ImportError, AttributeError):  # of another version
        return _by_package()


def _compiled(folders: Any) -> Any:
    """The part of the package that is compiled, alone.

    Whoever imports the package waits two seconds, in which Python reads three vocabularies that are in the
    compiled part as well.
    """
    found = PathFinder.find_spec("bpe_openai._bindings", folders)
    if found is None or found.loader is None:
        raise ImportError("bpe_openai has no _bindings")
    module = module_from_spec(found)
    found.loader.exec_module(module)
    return module


def _by_package() -> Tokenizer:
    with warnings.catch_warnings():  # of how the package opens its own files
        warnings.simplefilter("ignore", DeprecationWarning)
        import bpe_openai

        encoding = bpe_openai.get_encoding("o200k_base")
    return Tokenizer(encoding.encode_ordinary, lambda tokens: encoding.decode(tokens, errors="strict"))

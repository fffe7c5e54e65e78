"""How an encoder is used: what its files do not tell, or tell in files of several kinds."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from cascade.errors import BackendError, ModelError

KINDS = ("onnx", "static", "ngram", "transformer")
POOLINGS = ("mean", "cls", "max", "last")
MOST_DIMS = 1 << 16
LEAST_LONGEST, MOST_WINDOWS = 8, 64
FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
DIGEST = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
TO_TRAIN = ".base"
"""What the name of an encoder ends in where it stands for weights that can be tuned."""
_IN_WINDOWS = re.compile(r"(?P<name>.+)\.windows(?P<windows>[1-9]\d?)")


@dataclass(frozen=True)
class EncoderSettings:
    """All that the vectors of an encoder depend on.

    Attributes
    ----------
    kind
        ``onnx``: a network, run by onnxruntime; ``static``: a table with a vector for each token; ``ngram``:
        the Universal Sentence Encoder; ``transformer``: weights that can be tuned, and encode nothing as they
        are.
    dims
        How long a vector is.
    files
        sha256 of each file, by its name.
    model, tokenizer
        Which of the files is the network or the table, and which cuts texts into tokens.
    longest
        So many tokens of a text are read, those that mark its beginning and end among them; 0 is all.
    pooling
        How vectors of tokens become one of the text: their ``mean`` or ``max``, or that of the first
        (``cls``) or the ``last`` token.
    prefix
        What has to stand before each text.
    lowercase
        Whether texts are brought to lower case first, besides what the tokenizer does.
    alone
        Whether texts are encoded one by one, as the network gives them other vectors in company.
    specials
        Whether the tokenizer adds tokens that mark the beginning and the end.
    windows
        A text that is longer than `longest` is read in so many pieces at most, whose vectors are averaged.
    """

    kind: str
    dims: int
    files: Mapping[str, str]
    model: str = "model.onnx"
    tokenizer: str = "tokenizer.json"
    longest: int = 512
    pooling: str = "mean"
    prefix: str = ""
    lowercase: bool = False
    alone: bool = False
    specials: bool = True
    windows: int = 1

    @property
    def sha256(self) -> str:
        """The hash of all of this."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode("utf-8")).hexdigest()

    @classmethod
    def from_dict(cls, value: Any, where: str) -> EncoderSettings:
        """What `asdict` made; ModelError, which begins with `where`, for anything else."""
        known = {one.name for one in fields(cls)}
        if not isinstance(value, dict) or set(value) != known:
            raise ModelError(f"{where}: expected {', '.join(sorted(known))} and nothing else.")
        for name, expected in _TYPES.items():
            if type(value[name]) is not expected:
                raise ModelError(f"{where}: {name}: expected {expected.__name__}, found {value[name]!r}.")
        found = cls(**value)
        for wrong in found.faults():
            raise ModelError(f"{where}: {wrong}.")
        return found

    def faults(self) -> list[str]:
        """What is wrong with it."""
        found = []
        if self.kind not in KINDS:
            found.append(f"kind: expected one of {', '.join(KINDS)}, found {self.kind!r}")
        if self.pooling not in POOLINGS:
            found.append(f"pooling: expected one of {', '.join(POOLINGS)}, found {self.pooling!r}")
        if not 0 < self.dims <= MOST_DIMS:
            found.append(f"dims: expected 1 to {MOST_DIMS:,}, found {self.dims}")
        if self.longest < 0 or 0 < self.longest < LEAST_LONGEST:
            found.append(f"longest: expected 0 or {LEAST_LONGEST} and more, found {self.longest}")
        if not 0 < self.windows <= MOST_WINDOWS:
            found.append(f"windows: expected 1 to {MOST_WINDOWS}, found {self.windows}")
        if self.windows > 1 and self.kind != "onnx":
            found.append(f"windows: expected 1, as networks alone read in pieces, found {self.windows}")
        for name, digest in self.files.items():
            if not FILE.fullmatch(name) or not isinstance(digest, str) or not DIGEST.fullmatch(digest):
                found.append(f"files: expected plain names with a sha256 each, found {name!r}: {digest!r}")
        missing = {self.model, self.tokenizer} - set(self.files)
        return found + [f"files: {name!r} is not among them" for name in sorted(missing)]


_TYPES: Mapping[str, type] = {
    "kind": str,
    "dims": int,
    "files": dict,
    "model": str,
    "tokenizer": str,
    "longest": int,
    "pooling": str,
    "prefix": str,
    "lowercase": bool,
    "alone": bool,
    "specials": bool,
    "windows": int,
}


@dataclass(frozen=True)
class About:
    """What people should know of an encoder, and its vectors do not depend on.

    Attributes
    ----------
    source
        Where its files come from, in words.
    languages, licence
        In words; empty where nobody said.
    """

    source: str = ""
    languages: str = ""
    licence: str = ""

    @classmethod
    def from_dict(cls, value: Any) -> About:
        """What of `value` are texts under the names of the fields."""
        found = value if isinstance(value, dict) else {}
        names = (one.name for one in fields(cls))
        return cls(**{name: found[name] for name in names if isinstance(found.get(name), str)})


def check_name(name: str) -> None:
    """BackendError for what cannot be the name of an encoder, such as a path."""
    if not NAME.fullmatch(name):
        raise BackendError(
            f"{name!r} cannot be the name of an encoder: expected small letters, digits, '-', '_' and '.', "
            "a letter or digit first, 64 at most."
        )


def named_in_windows(name: str, windows: int) -> str:
    """What an encoder is called that reads long texts in so many windows: ``minilm.windows4``."""
    return name if windows == 1 else f"{name}.windows{windows}"


def without_windows(name: str) -> tuple[str, int]:
    """The name of the encoder itself and its windows, of what `named_in_windows` gives."""
    found = _IN_WINDOWS.fullmatch(name)
    return (found["name"], int(found["windows"])) if found else (name, 1)


@dataclass(frozen=True)
class Stored:
    """An encoder as it lies on disk."""

    name: str
    settings: EncoderSettings
    about: About = field(default_factory=About)

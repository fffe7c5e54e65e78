"""Examples in, a model out: one embedded node model on what the answers have in common."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cascade.nodes.contract import NodeModel, NodeProblem
from cascade.sandbox.answer_shapes import Shape, shape_of
from cascade.sandbox.tokens import clean, count, count_messages
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.system.serialization import read_json, write_json
from cascade.text.texts import Texts

if TYPE_CHECKING:  # what learns is slow to import, and the service listens before
    from cascade.validation.calibration import Calibration

Format = Literal["chat", "completion"]
LEAST_EXAMPLES = 10
MOST_TOKENS = 65_536
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_SPECIAL = re.compile(r"<\|[^\s|]{0,40}\|>")


class InvalidFile(ValueError):  # noqa: N818 - what becomes of a file
    """A file that nothing can be learned from.

    Attributes
    ----------
    code
        The service's word for it.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Example:
    """What was asked, and what is the answer to it."""

    format: Format
    system: str
    text: str
    answer: str

    @property
    def tokens(self) -> int:
        """What it costs to learn from it once."""
        if self.format == "completion":
            return count(self.text) + count(self.answer)
        return count_messages([self.system, self.text, self.answer])


# Reading files


def read_examples(content: bytes, what: str, least: int = LEAST_EXAMPLES) -> list[Example]:
    """The examples of a JSONL file, with or without a byte order mark; `what` names the file.

    Raises
    ------
    InvalidFile
        Lines are no examples, or too few.
    """
    try:
        lines = [line for line in content.decode("utf-8-sig").split("\n") if line.strip()]
    except UnicodeDecodeError:
        raise InvalidFile("invalid_file_format", f"{what} is not UTF-8.") from None
    if len(lines) < least:
        found = f"{what} has {len(lines)} example(s), but must have at least {least} examples"
        raise InvalidFile("invalid_n_examples", found)
    examples = [_example(line, f"{what}: line {number}") for number, line in enumerate(lines, 1)]
    if len({one.format for one in examples}) > 1:
        raise InvalidFile("invalid_file_format", f"{what} mixes chat and completion examples.")
    return examples


def _example(line: str, where: str) -> Example:
    try:
        value = json.loads(line)
    except ValueError:
        raise InvalidFile("invalid_file_format", f"{where} is not valid JSON.") from None
    if not isinstance(value, dict):
        raise InvalidFile("invalid_file_format", f"{where} is not a JSON object.")
    example = _of_messages(value["messages"], where) if "messages" in value else _of_prompt(value, where)
    if any(_SPECIAL.search(text) for text in (example.system, example.text, example.answer)):
        raise InvalidFile("invalid_training_file", f"{where} contains a special token (<|...|>).")
    return example


def _of_prompt(value: Mapping[str, Any], where: str) -> Example:
    prompt, completion = value.get("prompt"), value.get("completion")
    if not isinstance(prompt, str) or not isinstance(completion, str) or not completion:
        raise InvalidFile(
            "invalid_file_format", f"{where}: expected 'messages', or 'prompt' and 'completion'."
        )
    return Example("completion", "", prompt, completion)


def _of_messages(messages: Any, where: str) -> Example:
    if not isinstance(messages, list) or not messages:
        raise InvalidFile("invalid_file_format", f"{where}: 'messages' must be a list that is not empty.")
    for message in messages:
        _check_message(message, where)
    if messages[-1]["role"] != "assistant":
        raise InvalidFile("invalid_file_format", f"{where}: the last message must be from the assistant.")
    system, text = split_messages(messages[:-1])
    return Example("chat", system, text, messages[-1]["content"])


def _check_message(message: Any, where: str) -> None:
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        raise InvalidFile("invalid_file_format", f"{where}: a message has no role of {', '.join(_ROLES)}.")
    if not isinstance(message.get("content"), str):
        raise InvalidFile("invalid_file_format", f"{where}: a message has no content.")


def split_messages(messages: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The system message and what the user said, of messages whose content is text."""
    system = [one["content"] for one in messages if one["role"] in ("system", "developer")]
    rest = [one["content"] for one in messages if one["role"] not in ("system", "developer")]
    return "\n".join(system), "\n".join(rest)


# Learning


@dataclass(frozen=True)
class Prompts:
    """What the prompts of a job have in common: one of another form says nothing to the model.

    Attributes
    ----------
    system
        The system message of all examples; None where they differ and it is read as part of the text.
    separator
        What stands at the end of every prompt of the completion format.
    """

    format: Format
    system: str | None
    separator: str

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Prompts:
        systems = {one.system for one in examples}
        format_ = examples[0].format
        separator = _separator([one.text for one in examples]) if format_ == "completion" else ""
        return cls(format_, systems.pop() if len(systems) == 1 else None, separator)

    def text(self, system: str, text: str) -> str | None:
        """What the model reads; None where the prompt has not the form that it learned."""
        if not text.endswith(self.separator) or (self.system is not None and system != self.system):
            return None
        text = text.removesuffix(self.separator) if self.separator else text
        return clean(text if self.system is not None else f"{system}\n{text}")


def _separator(prompts: Sequence[str]) -> str:
    """What all prompts end with, from its first line break, else its first blank."""
    common = os.path.commonprefix([prompt[::-1] for prompt in prompts])[::-1]  # noqa: RUF071 - letters are meant
    found = re.search(r"\n[\s\S]*$", common) or re.search(r"\s\S*$", common)
    return found[0] if found and len(set(prompts)) > 1 else ""


class TrainedModel:
    """A model that was tuned.

    Attributes
    ----------
    prompts
        What prompts it understands.
    shape
        How its answers are built.
    learned
        int64, shape (n_learned,): the columns that the node model scores; the others never varied.
    usual
        float32, shape (n_columns,): how often each column was seen.
    """

    def __init__(
        self,
        prompts: Prompts,
        shape: Shape,
        learned: IntArray,
        usual: FloatArray,
        node: NodeModel | None,
        calibration: Calibration,
    ) -> None:
        self.prompts, self.shape, self.learned, self.usual = prompts, shape, learned, usual
        self.node, self.calibration = node, calibration

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """One probability per text and column, float32, shape (n_texts, n_columns)."""
        found = np.repeat(self.usual[None], len(texts), axis=0)
        if self.node is not None and texts:
            found[:, self.learned] = self.calibration.apply(self.node.scores(Texts(texts)))
        return found

    def save(self, folder: Path) -> None:
        """Write the model; the folder appears whole or not at all."""
        staging = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
        try:
            if self.node is not None:
                (staging / "node").mkdir()
                self.node.save(staging / "node")
            write_json(staging / "tuned.json", self._settings())
            shutil.rmtree(folder, ignore_errors=True)
            staging.rename(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _settings(self) -> dict[str, Any]:
        return {
            "prompts": vars(self.prompts),
            "shape": self.shape.to_dict(),
            "learned": self.learned.tolist(),
            "usual": self.usual.tolist(),
            "slopes": self.calibration.slopes.tolist(),
            "offsets": self.calibration.offsets.tolist(),
        }

    @classmethod
    def load(cls, folder: Path) -> TrainedModel:
        """The model that `save` wrote."""
        from cascade.nodes.linear import LinearBackend
        from cascade.validation.calibration import Calibration

        settings = read_json(folder / "tuned.json")
        calibration = Calibration(np.array(settings["slopes"]), np.array(settings["offsets"]))
        return cls(
            Prompts(**settings["prompts"]),
            Shape.of_dict(settings["shape"]),
            np.array(settings["learned"], dtype=np.int64),
            np.array(settings["usual"], dtype=np.float32),
            LinearBackend().load(folder / "node") if (folder / "node").exists() else None,
            calibration,
        )


@dataclass(frozen=True)
class Metrics:
    """How well a model answers: mean log loss, and the share of right decisions, in [0, 1]."""

    loss: float
    accuracy: float

    @classmethod
    def of(cls, chances: FloatArray, targets: BoolArray, shape: Shape) -> Metrics:
        from cascade.validation.calibration import log_loss

        if shape.kind == "choice":
            right = chances.argmax(axis=1) == targets.argmax(axis=1)
        else:
            right = (chances >= 0.5) == targets
        return cls(log_loss(chances, targets), float(right.mean()) if right.size else 0.0)


def train(examples: Sequence[Example], seed: int) -> tuple[TrainedModel, Metrics]:
    """A model of these examples, and how well it does on those that it had not seen."""
    from cascade.validation.calibration import Calibration

    prompts = Prompts.of(examples)
    answers = [one.answer for one in examples]
    shape = shape_of(answers, framed=prompts.format == "completion")
    targets = shape.targets(answers)
    usual = ((targets.sum(axis=0) + 1) / (len(targets) + 2)).astype(np.float32)
    learned = np.flatnonzero(targets.any(axis=0) & ~targets.all(axis=0))
    if not len(learned):
        nothing = TrainedModel(prompts, shape, learned, usual, None, Calibration.identity(0))
        return nothing, Metrics.of(nothing.probabilities([""] * len(targets)), targets, shape)
    texts = [prompts.text(one.system, one.text) or "" for one in examples]
    return _fitted(prompts, shape, usual, learned, texts, targets, seed)


def _fitted(
    prompts: Prompts,
    shape: Shape,
    usual: FloatArray,
    learned: IntArray,
    texts: Sequence[str],
    targets: BoolArray,
    seed: int,
) -> tuple[TrainedModel, Metrics]:
    from cascade.nodes.linear import LinearBackend
    from cascade.validation.calibration import fit_calibration

    names = tuple(shape.columns[column] for column in learned.tolist())
    varying = np.ascontiguousarray(targets[:, learned])
    problem = NodeProblem(names, Texts(texts), varying, np.ones(len(texts), dtype=bool), seed)
    with tempfile.TemporaryDirectory() as folder:
        fitted = LinearBackend().fit(problem, Path(folder))
    calibration = fit_calibration(fitted.scores, varying[fitted.rows])
    chances = np.repeat(usual[None], len(fitted.rows), axis=0)
    chances[:, learned] = calibration.apply(fitted.scores)
    quality = Metrics.of(chances, targets[fitted.rows], shape)
    return TrainedModel(prompts, shape, learned, usual, fitted.model, calibration), quality


def evaluate(tuned: TrainedModel, examples: Sequence[Example]) -> Metrics:
    """How well a model does on examples that it did not learn from."""
    texts = [tuned.prompts.text(one.system, one.text) or "" for one in examples]
    targets = tuned.shape.targets([one.answer for one in examples])
    return Metrics.of(tuned.probabilities(texts), targets, tuned.shape)

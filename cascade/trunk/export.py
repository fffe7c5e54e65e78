"""A tuned trunk as an encoder that needs no torch: a network in ONNX, in 8 bits where that loses nothing."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cascade.encoders.files import digest_of
from cascade.encoders.settings import EncoderSettings, Stored
from cascade.errors import BackendError

MODEL, TOKENIZER = "model.onnx", "tokenizer.json"
# What 8 bits may cost, in average precision on held-out rows.
MOST_LOST = 0.002


class _States(torch.nn.Module):  # type: ignore[misc] # torch has no types here
    """A transformer that takes what an encoder's network gets, and gives the states of its tokens."""

    def __init__(self, trunk: Any) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        return self.trunk(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def write_network(trunk: Any, path: Path) -> None:
    """Write a transformer that lies on the processor, in 32 bits; BackendError where a package is missing."""
    states = _States(trunk).eval()
    # One row and one token would be taken for numbers that never change.
    tokens = torch.ones((2, 3), dtype=torch.int64)
    sizes = {0: torch.export.Dim("texts", min=1), 1: torch.export.Dim("tokens", min=1)}
    try:
        with _quiet():
            torch.onnx.export(
                states,
                (tokens, tokens.clone()),
                str(path),
                input_names=["input_ids", "attention_mask"],
                output_names=["last_hidden_state"],
                dynamic_shapes={"input_ids": sizes, "attention_mask": sizes},
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except ModuleNotFoundError as error:
        raise BackendError(
            f"the export of a tuned encoder needs the package {error.name!r}. "
            "Run: pip install 'cascade-classifier[train]'"
        ) from error


def write_in_8_bits(path: Path, target: Path) -> None:
    """Write the network at `path` with weights in 8 bits, each row of them scaled for itself."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(path, target, weight_type=QuantType.QInt8, per_channel=True)


def settings_of(folder: Path, base: Stored) -> EncoderSettings:
    """How the network in `folder` is used: as its base was."""
    files = {name: digest_of(folder / name) for name in (MODEL, TOKENIZER)}
    return replace(base.settings, kind="onnx", model=MODEL, tokenizer=TOKENIZER, files=files)


def exported(
    trunk: Any, base_folder: Path, base: Stored, folder: Path, precision: Callable[[Path, Stored], float]
) -> tuple[Stored, dict[str, float]]:
    """Write a tuned trunk into an empty folder as an encoder, as small as it can be at no cost.

    Parameters
    ----------
    precision
        Called with the folder of an encoder and what it is, answers how good the heads are with it.

    Returns
    -------
    What was written, and the precision with 32 and with 8 bits.
    """
    shutil.copyfile(base_folder / base.settings.tokenizer, folder / TOKENIZER)
    write_network(trunk, folder / MODEL)
    whole = Stored(base.name, settings_of(folder, base), base.about)
    found = {"float": precision(folder, whole)}
    small = folder / "small"
    small.mkdir()
    shutil.copyfile(folder / TOKENIZER, small / TOKENIZER)
    write_in_8_bits(folder / MODEL, small / MODEL)
    # What is computed in 8 bits is scaled by the largest number of a batch, so that texts change each other.
    in_8_bits = Stored(base.name, replace(settings_of(small, base), alone=True), base.about)
    found["int8"] = precision(small, in_8_bits)
    if found["int8"] >= found["float"] - MOST_LOST:
        (small / MODEL).replace(folder / MODEL)
        whole = in_8_bits
    shutil.rmtree(small)
    return whole, found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what libraries say of their own workings while they export."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

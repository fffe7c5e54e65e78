"""A transformer with heads, in torch: from the files of a base to the logits of a batch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cascade.encoders.settings import Stored
from cascade.errors import BackendError, ModelError
from cascade.system.array_types import FloatArray
from cascade.trunk.heads import SCALE, Lesson, Weights

# Larger bases are not tuned whole: low-rank matrices beside their own take a tenth of the memory (Hu et al.,
# "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022).
MOST_TUNED_WHOLE = 300_000_000
RANK, ALPHA = 16, 32


class Network:
    """A trunk and its heads, side by side in the columns of one matrix.

    Parameters
    ----------
    folder, base
        Where the files of the base lie, and how it is used.
    lessons
        What the heads learn.
    device
        Where it runs.
    most_tuned_whole
        With more parameters only low-rank matrices are tuned.
    """

    def __init__(
        self,
        folder: Path,
        base: Stored,
        lessons: Sequence[Lesson],
        device: Any,
        most_tuned_whole: int = MOST_TUNED_WHOLE,
    ) -> None:
        self.device, self.pooling = device, base.settings.pooling
        trunk = _read(folder)
        self.is_whole = sum(one.numel() for one in trunk.parameters()) <= most_tuned_whole
        self.trunk = (trunk if self.is_whole else _with_low_rank(trunk)).to(device)
        biases = np.concatenate([lesson.first_biases() for lesson in lessons])
        self.heads = torch.nn.Linear(base.settings.dims, len(biases)).to(device)
        with torch.no_grad():
            self.heads.weight.zero_()
            self.heads.bias.copy_(torch.from_numpy(biases))

    def vectors(self, ids: Sequence[Sequence[int]]) -> Any:
        """The vectors of texts in tokens, of unit length, shape (n_texts, dims)."""
        tokens, mask = _padded(ids)
        tokens, mask = tokens.to(self.device), mask.to(self.device)
        states = self.trunk(input_ids=tokens, attention_mask=mask).last_hidden_state
        return torch.nn.functional.normalize(_pooled(states.float(), mask, self.pooling))

    def logits(self, ids: Sequence[Sequence[int]]) -> Any:
        """Those of all heads, shape (n_texts, n_columns)."""
        return self.heads(self.vectors(ids) * SCALE)

    def tuned(self) -> list[Any]:
        """The parameters of the trunk that learn."""
        return [one for one in self.trunk.parameters() if one.requires_grad]

    def state(self) -> dict[str, Any]:
        """All that learns, by name."""
        named = {f"trunk.{name}": one for name, one in self.trunk.named_parameters() if one.requires_grad}
        return {**named, **{f"heads.{name}": one for name, one in self.heads.named_parameters()}}

    def restore(self, state: dict[str, Any]) -> None:
        """Take what `state` gave; ModelError where that is of another network."""
        own = self.state()
        if own.keys() != state.keys() or any(own[name].shape != state[name].shape for name in own):
            raise ModelError("a checkpoint of another network")
        with torch.no_grad():
            for name, one in own.items():
                one.copy_(state[name])

    def weights(self, lessons: Sequence[Lesson]) -> list[Weights]:
        """The numbers of each head, for vectors of unit length."""
        values = (self.heads.weight.detach().cpu().numpy() * SCALE).T
        biases = self.heads.bias.detach().cpu().numpy()
        found, end = [], 0
        for lesson in lessons:
            columns = slice(end, end := end + lesson.targets.shape[1])
            own: FloatArray = np.ascontiguousarray(values[:, columns], dtype=np.float32)
            found.append(Weights(own, np.array(biases[columns], dtype=np.float32), lesson.exclusive))
        return found

    def merged(self) -> Any:
        """The trunk as one plain transformer on the processor, ready to be exported."""
        trunk = self.trunk if self.is_whole else self.trunk.merge_and_unload()
        return trunk.to("cpu").eval()


def _read(folder: Path) -> Any:
    """The transformer of a folder, from safetensors alone and with no code of its own."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        return transformers.AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(f"{folder}: transformers cannot read this base: {first}") from error


def _with_low_rank(trunk: Any) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ModuleNotFoundError as error:
        raise BackendError(
            "a base of more than 300 million parameters needs the package 'peft'. Run: pip install peft"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of transformers at what peft asks it
        return get_peft_model(trunk, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear"))


def _padded(ids: Sequence[Sequence[int]]) -> tuple[Any, Any]:
    longest = max(map(len, ids))
    tokens, mask = (np.zeros((len(ids), longest), dtype=np.int64) for _ in range(2))
    for row, own in enumerate(ids):
        tokens[row, : len(own)], mask[row, : len(own)] = own, 1
    return torch.from_numpy(tokens), torch.from_numpy(mask)


def _pooled(states: Any, mask: Any, pooling: str) -> Any:
    """One vector for each text of those of its tokens, as `cascade.encoders.onnx_encoder` pools them."""
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        return states[torch.arange(len(states)), mask.sum(dim=1) - 1]
    if pooling == "max":
        return states.masked_fill(mask[:, :, None] == 0, -torch.inf).amax(dim=1)
    weights = mask[:, :, None].to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)

"""``/v1/models``: those that were trained, and bases that have learned nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response

from cascade.sandbox.answer_shapes import Shape
from cascade.sandbox.reader.reading import READER
from cascade.sandbox.responses import ApiError, json_response
from cascade.sandbox.storage import Record, Storage, public
from cascade.sandbox.training import Format, TrainedModel

BASES: Mapping[str, tuple[Format, ...]] = {
    "gpt-4.1-2025-04-14": ("chat",),
    "gpt-4.1-mini-2025-04-14": ("chat",),
    "gpt-4.1-nano-2025-04-14": ("chat",),
    "gpt-4o-mini-2024-07-18": ("chat",),
    "gpt-6-luna": ("chat",),
    "babbage-002": ("completion",),
    "davinci-002": ("completion",),
    READER: ("chat",),
}


class Models:
    """The models that answer: those that were tuned, and bases that have learned nothing."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._loaded: dict[str, TrainedModel] = {}

    def find(self, name: str, format_: Format) -> TrainedModel | None:
        """The model of a name, None for a base; ApiError where there is none of this format."""
        if name in BASES:
            _check_format(format_, BASES[name])
            return None
        loaded = self._loaded.get(name) or self._load(name)
        _check_format(format_, (loaded.prompts.format,))
        return loaded

    def _load(self, name: str) -> TrainedModel:
        record = self.storage.get("model", name)
        if record is None:
            message = f"The model `{name}` does not exist or you do not have access to it."
            raise ApiError(404, message, "model_not_found")
        self._loaded[name] = TrainedModel.load(self.storage.model(record["_job"]))
        return self._loaded[name]

    def _listed(self) -> list[Record]:
        bases = [_base(name) for name in BASES]
        return bases + [public(record) for record in self.storage.all("model")]

    async def list(self, request: Request) -> Response:  # noqa: ARG002 - a handler's signature
        return json_response({"object": "list", "data": self._listed()})

    async def get(self, request: Request) -> Response:
        name = request.path_params["name"]
        record = _base(name) if name in BASES else self.storage.get("model", name)
        if record is None:
            raise ApiError(404, f"The model '{name}' does not exist", "model_not_found", "model")
        return json_response(public(record))

    async def delete(self, request: Request) -> Response:
        name = request.path_params["name"]
        if self.storage.get("model", name) is None:
            raise ApiError(404, f"The model '{name}' does not exist", "model_not_found", "model")
        self.storage.drop("model", name)
        self._loaded = {one: tuned for one, tuned in self._loaded.items() if not one.startswith(name)}
        return json_response({"id": name, "object": "model", "deleted": True})


def _base(name: str) -> Record:
    return {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "system"}


def _check_format(wanted: Format, known: Sequence[Format]) -> None:
    if wanted in known:
        return
    if wanted == "chat":
        message = "This is not a chat model and thus not supported in the v1/chat/completions endpoint."
    else:
        message = "This is a chat model and not supported in the v1/completions endpoint."
    raise ApiError(404, message, None, "model")


def untrained_shape(system: str) -> Shape:
    """How a model that learned nothing might answer: as the instructions seem to want it."""
    places = re.search(r"\b[01](?:,[01])+\b", system)
    if places:
        length = 2 * places[0].count(",") + 1
        tokens = tuple("," if at % 2 else "0" for at in range(length))
        return Shape("places", tuple(str(at) for at in range(0, length, 2)), tokens=tokens, values=("0", "1"))
    numbers = sorted({int(one) for one in re.findall(r"\b\d{1,3}\b", system)})
    return Shape("choice", tuple(str(one) for one in numbers) or ("none",))

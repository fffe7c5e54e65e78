"""The tree of the model that answers, as JSON, kept while that model answers."""

from __future__ import annotations

import gzip
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cascade.predict.answers import Model
from cascade.show.tree import tree_of_model


@dataclass(frozen=True, slots=True)
class TaxonomyAnswer:
    """The tree as it is and by gzip: that of 5,000 labels is 1 MB, and packed less than a tenth.

    Attributes
    ----------
    model
        Digest of the model; empty where there is none yet.
    """

    model: str
    plain: bytes
    packed: bytes

    @classmethod
    def of(cls, model: Model) -> TaxonomyAnswer:
        tree = tree_of_model(model.taxonomy, model.manifest)
        told: dict[str, Any] = {"name": model.taxonomy.name, "model": model.digest, "tree": tree.to_json()}
        if not model.manifest.is_calibrated:
            told["calibrated"] = False
        plain = json.dumps(told, ensure_ascii=False).encode()
        return cls(model.digest, plain, gzip.compress(plain, 6, mtime=0))

    def response(self, request: Request) -> Response:
        """In the form that the request takes."""
        headers, body = {"vary": "accept-encoding"}, self.plain
        if takes_gzip(request.headers.get("accept-encoding", "")):
            headers, body = headers | {"content-encoding": "gzip"}, self.packed
        return Response(body, headers=headers, media_type="application/json")


def takes_gzip(accepted: str) -> bool:
    """Whether gzip is named in Accept-Encoding with a weight above 0 (RFC 9110, 12.4.2 and 12.5.3)."""
    for one in accepted.lower().split(","):
        name, _, weight = (part.strip() for part in one.partition(";"))
        if name == "gzip":
            with suppress(ValueError):
                return float(weight.removeprefix("q=") or 1) > 0
    return False

"""What a taxonomy may say of a fine-tune of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cascade.encoders.settings import NAME
from cascade.system.shapes import FLAG, Option, whole, whole_number, yes_or_no

# Of a text of so many rows together the trunk is taught, in as many epochs as that takes: few rows are seen
# often, many rows seldom. On CLINC150 (13,600 rows) and the feedback data (2,500) more epochs won nothing.
ROWS_TAUGHT = 54_000
FEWEST_EPOCHS, MOST_EPOCHS = 3, 12


@dataclass(frozen=True)
class TrunkSettings:
    """How the trunk of a group is trained; groups with equal settings share one.

    Attributes
    ----------
    base
        The encoder that is tuned, by its name.
    words
        Whether a linear model of the words speaks beside the head.
    epochs
        How often each row is seen; None for as often as suits the number of rows.
    learning_rate
        Of the trunk at its height; heads learn faster.
    batch_size
        Rows for each step.
    """

    base: str
    words: bool = True
    epochs: int | None = None
    learning_rate: float = 2e-4
    batch_size: int = 32

    def epochs_for(self, rows: int) -> int:
        """How often each of so many rows is seen."""
        if self.epochs is not None:
            return self.epochs
        return min(max(round(ROWS_TAUGHT / max(rows, 1)), FEWEST_EPOCHS), MOST_EPOCHS)

    def key(self) -> dict[str, Any]:
        """What a trained trunk depends on: words are none of it."""
        return {"epochs": self.epochs, "learning_rate": self.learning_rate, "batch_size": self.batch_size}


def _base(value: Any) -> str:
    if isinstance(value, str) and NAME.fullmatch(value):
        return ""
    return f"expected the name of an encoder that can be trained, such as minilm, found {value!r}"


def _rate(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1:
        return ""
    return f"expected a number above 0, such as 2e-4, found {value!r}"


OPTIONS: Mapping[str, Option] = {
    "base": Option(
        "The encoder that is tuned; `cascade encoders get NAME --to-train` brings its weights.",
        {"type": "string", "pattern": f"^{NAME.pattern}$"},
        _base,
    ),
    "words": Option("Whether a model of the words speaks beside it: true, if not said.", FLAG, yes_or_no),
    "epochs": Option(
        "How often each row is seen; if not said, as suits their number.",
        whole(1, 1000),
        whole_number(1, 1000),
    ),
    "learning_rate": Option(
        "How fast the trunk learns, at its height: 2e-4, if not said.",
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        _rate,
    ),
    "batch_size": Option(
        "How many rows teach at once: 32, if not said.", whole(1, 4096), whole_number(1, 4096)
    ),
}


def conflicts(options: Mapping[str, Any]) -> str:
    """What is wrong with options that are sound one by one, or an empty string."""
    return "" if "base" in options else "expected a base, such as minilm"

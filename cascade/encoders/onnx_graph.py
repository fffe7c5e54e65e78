"""What an ONNX file asks for, read before any runtime opens it: operators, inputs, files beside it.

The numbers of fields are those of ``onnx.proto3``. Only names are looked at; weights are skipped where they
lie.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field
from pathlib import Path

from cascade.encoders.protobuf import fields, first_text, text_of
from cascade.errors import ModelError

# Those of the standard, and those that onnxruntime itself brings for quantised and fused networks. Any other
# would have to be loaded from a library that came with the file.
OUR_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
_DEEPEST = 32

_GRAPH, _OPSETS, _FUNCTIONS = 7, 8, 25  # of the model
_NODES, _WEIGHTS, _INPUTS, _OUTPUTS = 1, 5, 11, 12  # of a graph
_OPERATOR, _ATTRIBUTES, _DOMAIN = 4, 5, 7  # of a node
_TENSOR, _SUBGRAPH, _TENSORS, _SUBGRAPHS = 5, 6, 10, 11  # of an attribute
_BESIDE = 13  # of a tensor: where its values lie, in entries of key and value
_OF_FUNCTION = 7


@dataclass
class Graph:
    """What was found in a file.

    Attributes
    ----------
    inputs, outputs
        Their names, weights not among the inputs.
    domains
        Those of its operators.
    operators
        Their names.
    beside
        Files that hold weights, as the file names them.
    """

    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    domains: set[str] = field(default_factory=set)
    operators: set[str] = field(default_factory=set)
    beside: set[str] = field(default_factory=set)


def read_graph(path: Path) -> Graph:
    """What the file asks for; ModelError where it is half there or no ONNX file."""
    found = Graph()
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
            memoryview(content) as whole,
        ):
            _model(whole, found)
    except (OSError, ValueError, IndexError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: expected an ONNX file, found one that is cut or another kind.") from error
    if not found.outputs:
        raise ModelError(f"{path}: expected an ONNX file, found no network in it.")
    return found


def _model(message: memoryview, found: Graph) -> None:
    for number, value in fields(message):
        if number == _GRAPH:
            _graph(value, found, 0)
        elif number == _OPSETS:
            found.domains.add(first_text(value, 1))
        elif number == _FUNCTIONS:
            for of_function, node in fields(value):
                if of_function == _OF_FUNCTION:
                    _node(node, found, 0)


def _graph(message: memoryview, found: Graph, depth: int) -> None:
    if depth > _DEEPEST:
        raise ValueError("too deep")
    weights, inputs = set(), []
    for number, value in fields(message):
        if number == _NODES:
            _node(value, found, depth)
        elif number == _WEIGHTS:
            weights.add(first_text(value, 8))
            _tensor(value, found)
        elif number == _INPUTS and not depth:
            inputs.append(first_text(value, 1))
        elif number == _OUTPUTS and not depth:
            found.outputs.append(first_text(value, 1))
    found.inputs += [name for name in inputs if name not in weights]


def _node(message: memoryview, found: Graph, depth: int) -> None:
    for number, value in fields(message):
        if number == _OPERATOR:
            found.operators.add(text_of(value))
        elif number == _DOMAIN:
            found.domains.add(text_of(value))
        elif number == _ATTRIBUTES:
            _attribute(value, found, depth)


def _attribute(message: memoryview, found: Graph, depth: int) -> None:
    for number, value in fields(message):
        if number in (_TENSOR, _TENSORS):
            _tensor(value, found)
        elif number in (_SUBGRAPH, _SUBGRAPHS):
            _graph(value, found, depth + 1)


def _tensor(message: memoryview, found: Graph) -> None:
    for number, value in fields(message):
        if number == _BESIDE:
            entry = {of_entry: text_of(one) for of_entry, one in fields(value)}
            if entry.get(1) == "location":
                found.beside.add(entry.get(2, ""))

"""The JSON Schema that `cascade schema` prints, held against the reader."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from pathlib import Path

import places
import pytest
import yaml
from hypothesis import given, settings
from jsonschema import Draft202012Validator
from processes import command, environment
from trees import taxonomies

from cascade.backends import CHOOSABLE, KINDS
from cascade.errors import TaxonomyError
from cascade.fitted import backend_complaints
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.schema import schema

SCHEMA = schema({kind: KINDS[kind].options for kind in CHOOSABLE})
VALIDATOR = Draft202012Validator(SCHEMA)

UNSEEN = {
    "a key twice": "has the key .* twice",
    "a name twice": "is defined twice|stands twice|is the path of two labels|names the column .* twice",
    "a label and a group of one name": "has the name of a (label|group)",
    "what a label is said to be in two places": "has another (description|threshold) than",
    "an alias of two things": "is also (an alias of|the name of)",
    "names of groups that are none": "also_in of .* names",
    "groups in a circle": "groups form a cycle",
    "a group that no other is in, and that is in none": "has no labels and no groups",
    "also_in of a label whose name is plain": "Labels have `also_in` only with",
    "nothing, where a name may be the word null": "is empty",
    "what is no number": r"is \.nan",
    "an encoding that there is not": "expected such as utf-8",
    "quotes around a word for true or false": "is '(yes|no|on|off)'; expected true or false",
    "half a character": "lone surrogate",
    "the order of a list": "in the order words, encoder",
    "tiers at a group and looks at the top": "and so has the top level",
}
"""What the reader refuses and a schema cannot see, with the complaint: it sees values, each by itself."""


class Yaml12(yaml.SafeLoader):
    """YAML as an editor reads it: the core schema of 1.2, and merges."""

    yaml_implicit_resolvers = {}  # noqa: RUF012

    def construct_mapping(self, node, deep=False):
        self.flatten_mapping(node)
        return {str(key.value): self.construct_object(value, deep=True) for key, value in node.value}


for tag, pattern, firsts in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", list("-+0123456789.")),
    ("merge", r"<<", ["<"]),
):
    Yaml12.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), firsts)


def seen(text):
    """What the schema has against a file."""
    try:
        value = yaml.load(text, Yaml12)
    except (yaml.YAMLError, RecursionError) as error:
        return [str(error)]
    return [error.message for error in VALIDATOR.iter_errors(value)]


def read(folder, text):
    """What the reader has against a file."""
    path = folder / "t.yaml"
    path.write_text(text, "utf-8")
    try:
        Taxonomy.load(path, check_backend=backend_complaints)
    except TaxonomyError as error:
        return [problem.message for problem in error.problems]
    return []


def constants(name):
    """The texts and lists of texts that stand at the top of a module of tests."""
    found = {}
    for node in ast.parse((Path(__file__).parent / name).read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.List):
            found[node.targets[0].id] = ast.literal_eval(node.value)
    return found


def examples(table):
    blocks = [block for block in table.strip("\n").split("\n\n") if not block.startswith("##")]
    return [block.split("\n=> ")[0] + "\n" for block in blocks]


PLAIN, PATHS = constants("test_taxonomy.py"), constants("test_names.py")
REFUSED = [
    *(PLAIN["SOUND"] + text for text in examples(PLAIN["FAULTS"])),
    *(PATHS["HEAD"] + text for text in examples(PATHS["FAULTS"])),
    *("name: n\n" + text for text in (*PATHS["SETTLED"], *PATHS["NOT_SETTLED"])),
    "name: n\ngroups: {g: {labels: [x]}, h: {labels: [{name: y, also_in: g}]}}\n",
    "name: n\ngroups: {g: {labels: [x], escalate: [prompt, words]}}\n",
    "name: n\ngroups: {g: {labels: [x], escalate: [words]}}\n",
    "name: n\ngroups: {g: {labels: [x], escalate: [words, magic]}}\n",
    "name: n\ngroups: {g: {labels: [x], escalate: on}}\n",
    "name: n\nescalate: [words, prompt]\ngroups: {g: {labels: [x], escalate: [words, prompt]}}\n",
]
ACCEPTED = [
    PLAIN["WHOLE"].replace(
        'finetune, model: small, epochs: 3, rate: 1e-4, shuffle: on, seed: ~, tags: ["1", 2]', "linear"
    ),
    PATHS["SHOP"],
    *(PATHS["HEAD"] + text for text in PATHS["SETTLED"]),
    *(path.read_text("utf-8") for path in sorted((places.ROOT / "taxonomies").glob("*.yaml"))),
    "name: n\nlabels: [no, on, 1e3, 2024-01-01, 0x1F, 1_000, null, ~, été]\ngroups: {1: {labels: [2.5]}}\n",
    (
        "name: n\ndefaults: {backend: {kind: linear, encoder: minilm}, escalate: [words, encoder]}\n"
        "groups: {g: {labels: [x], escalate: off}, h: {labels: [y], backend: {kind: prompt, model: m}, "
        "escalate: [words, prompt]}}\n"
    ),
    "name: n\nlabels: [x]\ndescription:\ndefaults: {threshold:, back_off: Yes}\n",
    (
        "name: n\nlabels: [x]\ndefaults: &d {threshold: {recall: 1}, backend: {kind: linear, C: [0.3, 1]}}\n"
        "groups:\n  g: {<<: *d, labels: [y]}\n"
    ),
    (
        "name: n\nlabels: [x]\ndefaults: {backend: {kind: openai, provider: compatible, batch: true, "
        "suffix: ab, base_url: http://localhost/v1, limits: {rpm: 60}, hyperparameters: {n_epochs: auto}}}\n"
    ),
    *(
        f"name: n\nlabels: [x]\nverify: {{backend: {{kind: prompt, model: m}}, at_most: {share}}}\n"
        for share in ("10%", "12.5 %", "100%", "0.1", "1", "~")
    ),
]


def test_the_schema_is_one():
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == Draft202012Validator.META_SCHEMA["$id"]


@pytest.mark.parametrize("text", ACCEPTED)
def test_what_the_reader_takes_the_schema_takes(tmp_path, text):
    assert read(tmp_path, text) == []
    assert seen(text) == []


@pytest.mark.parametrize("text", REFUSED)
def test_what_the_reader_refuses_the_schema_refuses_or_cannot_see(tmp_path, text):
    found = read(tmp_path, text)
    assert found
    unseen = [kind for kind, pattern in UNSEEN.items() if any(re.search(pattern, one) for one in found)]
    assert seen(text) or unseen, found


@pytest.mark.parametrize("kind", UNSEEN)
def test_what_a_schema_is_said_not_to_see_it_does_not_see(tmp_path, kind):
    refused = [text for text in REFUSED if any(re.search(UNSEEN[kind], one) for one in read(tmp_path, text))]
    assert any(not seen(text) for text in refused)


@settings(max_examples=50)
@given(taxonomies())
def test_any_taxonomy_in_its_written_form_is_taken(taxonomy):
    assert list(VALIDATOR.iter_errors(taxonomy.to_dict())) == []


OPTIONS = {
    "C": [0.3, 1, [1, 3], 0, -1, "1", [], ["1"], 1e6, True],
    "encoder": [
        "minilm",
        "e5-small.v2",
        "Minilm",
        "../up",
        "",
        7,
        None,
        {"api": "m"},
        {"api": "m", "dimensions": 64, "prefix": "q: ", "base_url": "https://a.b/v1", "limits": {"rpm": 1}},
        {"api": "m", "dimensions": 0},
        {"api": " "},
        {"dimensions": 64},
        {"api": "m", "batch": True},
    ],
    "provider": ["openai", "azure", "nobody", 1],
    "base_url": ["https://a.b/v1", "ftp://a.b", "a.b", 1],
    "api_key_env": ["A_KEY", "sk-123", "1A", 1],
    "base_model": ["m", "", " ", 1],
    "answer": ["auto", "names", "word", "number", "decisions"],
    "hold": ["auto", "grammar", "tight", 1],
    "examples": ["auto", 0, 50, 51, -1, 2.5, "3", True],
    "shortlist": [2, 255, 1, 256, 8.5, True],
    "samples": [1, 20, 0, 21, 1.5, True],
    "calibration_rows": [20, 1000, 19, 20.5, "30", True],
    "prompt": [
        "{choices} {how}",
        "{path}\n{how}\n{choices}",
        "{choices}",
        "{how} {choices} {x}",
        "",
        7,
        None,
    ],
    "extra": [{}, {"reasoning_effort": "low", "x": [1]}, {"messages": []}, {"n": 2}, 5, [1]],
    "format": ["chat", "completion", "text"],
    "hyperparameters": [{}, {"n_epochs": 3, "x": True, "y": "auto"}, {"x": [1]}, [1], 1],
    "suffix": ["a-b.c", "", "a b", "x" * 100, 1],
    "model": ["m", "", 1],
    "max_examples": [10, 9, 10.5, "10", True],
    "concurrency": [1, 0, 1.5, True],
    "limits": [{"rpm": 1}, {"rpm": 1, "tpm": 2}, {}, {"rpm": 0}, {"x": 1}, 5],
    "list_children": [True, False, 1, "maybe"],
    "batch": [True, 0],
    "store": [True, False, 1, "maybe"],
    "base": ["minilm", "e5-small.v2", "Minilm", "../up", "", 7, None],
    "words": [True, False, 1, "maybe"],
    "epochs": [1, 1000, 0, 1001, 2.5, "3", True],
    "learning_rate": [2e-4, 1, 0, 1.5, "2e-4", True],
    "batch_size": [1, 4096, 0, 4097, 8.5, True],
}


def test_every_option_of_a_backend_has_examples():
    assert set(OPTIONS) == {name for kind in CHOOSABLE for name in KINDS[kind].options}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in CHOOSABLE for name in KINDS[kind].options]
)
def test_options_of_a_backend_are_taken_by_both_or_by_none(kind, name):
    option = KINDS[kind].options[name]
    validator = Draft202012Validator(option.shape)
    for value in OPTIONS[name]:
        assert validator.is_valid(value) == (option(value) == ""), value


def test_every_key_is_described():
    bare = [
        f"{name}.{key}"
        for name, part in (("top", SCHEMA), *SCHEMA["$defs"].items())
        for key, shape in part.get("properties", {}).items()
        if not shape["description"]
    ]
    assert bare == []


def test_the_command_prints_it():
    done = subprocess.run(command("schema"), env=environment(), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == json.loads(json.dumps(SCHEMA))

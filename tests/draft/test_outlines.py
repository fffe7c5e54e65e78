"""What stands in files of names is understood, whatever they are written in."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import xlsxwriter
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.draft.concepts import Concept, Outline, needs_paths, walk
from cascade.draft.drafting import Request, draft
from cascade.draft.paths import separator_of, split_path
from cascade.draft.sources import kind_of, outline_of
from cascade.draft.yaml_text import Head, written
from cascade.errors import DataError
from cascade.taxonomy.definition import Taxonomy

SHOP = {"Billing": {"Refund": {}, "Charge": {"Double": {}}}, "Delivery": {"Late": {}}}


def nested(outline):
    """Names within names, as mappings."""

    def of(concepts):
        return {concept.name: of(concept.children) for concept in concepts}

    return of(outline.top)


def read(path, kind=None, language="en", sheet=None):
    return outline_of(path, kind or kind_of(path, sheet), language=language, sheet=sheet)


def wrote(folder, name, text):
    path = folder / name
    path.write_text(text, "utf-8")
    return path


# One tree in many forms

FORMS = {
    "levels.csv": "Level 1,Level 2,Level 3\nBilling,Refund,\n,Charge,Double\nDelivery,Late,\n",
    "levels.tsv": "Level 1\tLevel 2\tLevel 3\nBilling\tRefund\t\nBilling\tCharge\tDouble\nDelivery\tLate\t\n",
    "staircase.csv": "Group;Label;Sublabel\nBilling;;\n;Refund;\n;Charge;\n;;Double\nDelivery;;\n;Late;\n",
    "titled.csv": (
        "Our labels,,\n,,\nGroup,Label,Sublabel\nBilling,Refund,\n,Charge,Double\nDelivery,Late,\n"
    ),
    "parents.csv": "name,parent\nRefund,Billing\nCharge,Billing\nDouble,Charge\nDelivery,\nLate,Delivery\n",
    "ids.csv": "id,name,parent_id\n1,Billing,\n2,Refund,1\n3,Charge,1\n4,Double,3\n5,Delivery,\n6,Late,5\n",
    "bare.csv": "Billing,Refund,\nBilling,Charge,Double\nDelivery,Late,\n",
    "paths.csv": "path\nBilling > Refund\nBilling > Charge > Double\nDelivery > Late\n",
    "indented.txt": "Billing\n  Refund\n  Charge\n    Double\nDelivery\n  Late\n",
    "tabs.txt": "Billing\n\tRefund\n\tCharge\n\t\tDouble\n\nDelivery\n\tLate\n",
    "paths.txt": "Billing/Refund\nBilling/Charge/Double\nDelivery/Late\n",
    "list.md": "* Billing\n  * Refund\n  * Charge\n    1. Double\n* Delivery\n  * Late\n",
    "headings.md": "# Labels\n\n## Billing\n- Refund\n- Charge\n  - Double\n\n## Delivery\n- Late\n",
    "objects.json": '{"Billing": {"Refund": null, "Charge": ["Double"]}, "Delivery": ["Late"]}',
    "children.json": json.dumps(
        {
            "name": "Shop",
            "children": [
                {
                    "name": "Billing",
                    "children": [{"name": "Refund"}, {"name": "Charge", "children": [{"name": "Double"}]}],
                },
                {"name": "Delivery", "children": ["Late"]},
            ],
        }
    ),
    "paths.json": '["Billing > Refund", "Billing > Charge > Double", "Delivery > Late"]',
    "lists.json": '[["Billing", "Refund"], ["Billing", "Charge", "Double"], ["Delivery", "Late"]]',
    "config.xml": (
        '<View><Text name="t" value="$t"/><Taxonomy name="x" toName="t"><Choice value="Billing"><Choice '
        'value="Refund"/><Choice value="Charge"><Choice value="Double"/></Choice></Choice>'
        '<Choice value="Delivery"><Choice value="Late"/></Choice></Taxonomy></View>'
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_tree_is_the_same_in_every_form(tmp_path, name):
    assert nested(read(wrote(tmp_path, name, FORMS[name]))) == SHOP


@pytest.mark.parametrize(
    "name", ["refund\nlate\ncharge\n", "- refund\n- late\n- charge\n", "refund\r\nlate\r\ncharge"]
)
def test_a_plain_list_of_names_has_no_groups(tmp_path, name):
    assert nested(read(wrote(tmp_path, "names.txt", name))) == {"refund": {}, "late": {}, "charge": {}}


def workbook(path, rows, merged=(), formulas=()):
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet("Labels")
        for down, row in enumerate(rows):
            sheet.write_row(down, 0, row)
        for cells, text in merged:
            sheet.merge_range(cells, text)
        for cell, formula, value in formulas:
            sheet.write_formula(cell, formula, None, value)
    return path


def test_a_workbook_is_read_with_cells_merged_downwards(tmp_path):
    rows = [["Group", "Label", "Below"], [], ["", "Charge", "Double"], ["Delivery", "Late"]]
    path = workbook(tmp_path / "labels.xlsx", rows, merged=[("A2:A3", "Billing")])
    with pytest.raises(DataError, match="expected one at each level"):
        read(wrote(tmp_path, "gap.csv", "Group,Label,Below\n,Refund,\n"), kind="sheet")
    assert nested(read(path)) == {"Billing": {"Charge": {"Double": {}}}, "Delivery": {"Late": {}}}


def test_the_other_formats_of_workbooks_and_their_numbers_are_read(tmp_path):
    import xlwt

    book = xlwt.Workbook()
    sheet = book.add_sheet("Codes")
    for down, row in enumerate([("Group", "Label"), ("A", 1), ("A", 2.5)]):
        for across, cell in enumerate(row):
            sheet.write(down, across, cell)
    book.save(str(tmp_path / "codes.xls"))
    assert nested(read(tmp_path / "codes.xls")) == {"A": {"1": {}, "2.5": {}}}


def test_an_open_document_is_read(tmp_path):
    from odf.opendocument import OpenDocumentSpreadsheet
    from odf.table import Table, TableCell, TableRow
    from odf.text import P

    book = OpenDocumentSpreadsheet()
    table = Table(name="Labels")
    for row in (("Group", "Label"), ("Billing", "Refund")):
        line = TableRow()
        for cell in row:
            held = TableCell(valuetype="string")
            held.addElement(P(text=cell))
            line.addElement(held)
        table.addElement(line)
    book.spreadsheet.addElement(table)
    book.save(str(tmp_path / "labels.ods"))
    assert nested(read(tmp_path / "labels.ods")) == {"Billing": {"Refund": {}}}


def test_descriptions_and_aliases_of_a_sheet_are_those_of_the_last_name(tmp_path):
    said = ["Billing,Refund,Money back,money back; return", "Billing,,All about money,"]
    text = "\n".join(["group,label,description,synonyms", *said])
    (billing,) = read(wrote(tmp_path, "labels.csv", text)).top
    assert (billing.description, billing.children[0].description) == ("All about money", "Money back")
    assert billing.children[0].aliases == ("money back", "return")


def test_descriptions_of_markdown_and_json(tmp_path):
    listed = read(
        wrote(tmp_path, "labels.md", "- Billing\n  - **Refund**: Money back\n  - `late` - Came too late\n")
    )
    found = read(
        wrote(
            tmp_path,
            "labels.json",
            '{"Billing": {"Refund": "Money back", "late": {"description": "Came too late"}}}',
        )
    )
    for outline in (listed, found):
        (billing,) = outline.top
        assert [(one.name, one.description) for one in billing.children] == [
            ("Refund", "Money back"),
            ("late", "Came too late"),
        ]


def test_a_title_of_markdown_and_the_root_of_json_name_the_taxonomy(tmp_path):
    assert read(wrote(tmp_path, "headings.md", FORMS["headings.md"])).name == "Labels"
    assert read(wrote(tmp_path, "children.json", FORMS["children.json"])).name == "Shop"


def test_a_child_of_two_parents_in_a_sheet_of_parents_is_one_thing(tmp_path):
    text = "child,parent\nRefund,Billing\nRefund,Complaints\nLate,Complaints\n"
    outline = read(wrote(tmp_path, "parents.csv", text))
    billing, complaints = outline.top
    assert billing.children[0] is complaints.children[0]
    assert not needs_paths(outline.top)


def test_one_name_in_two_groups_of_levels_is_two_things(tmp_path):
    assert needs_paths(
        read(wrote(tmp_path, "labels.csv", "group,label\nBilling,Other\nDelivery,Other\n")).top
    )


# HiClass


def test_arrays_of_hiclass_are_read_with_the_rows_of_each_label(tmp_path):
    np.save(tmp_path / "y.npy", np.array([["a", "b"], ["a", "c"], ["a", "b"], ["d", ""]]))
    outline = read(tmp_path / "y.npy")
    assert nested(outline) == {"a": {"b": {}, "c": {}}, "d": {}}
    assert {path: concept.rows for path, concept in walk(outline.top)} == {
        ("a",): 3,
        ("a", "b"): 2,
        ("a", "c"): 1,
        ("d",): 1,
    }


def test_arrays_of_several_labels_and_of_one_level_are_read(tmp_path):
    np.save(tmp_path / "many.npy", np.array([[["a", "b"], ["c", "d"]], [["a", "e"], ["", ""]]]))
    assert nested(read(tmp_path / "many.npy")) == {"a": {"b": {}, "e": {}}, "c": {"d": {}}}
    np.save(tmp_path / "one.npy", np.array(["a", "b", "a"]))
    assert nested(read(tmp_path / "one.npy")) == {"a": {}, "b": {}}


def test_levels_without_a_header_are_samples_where_it_is_said(tmp_path):
    outline = read(wrote(tmp_path, "y.csv", "a,b\na,b\na,c\n"), kind="hiclass")
    assert nested(outline) == {"a": {"b": {}, "c": {}}}
    assert outline.top[0].rows == 3


def test_an_array_of_objects_is_not_unpickled(tmp_path):
    np.save(tmp_path / "y.npy", np.array([["a", None]], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"an array of objects.*y\.astype\(str\)"):
        read(tmp_path / "y.npy")


# Label Studio


def test_several_controls_are_groups_and_a_single_choice_is_a_facet(tmp_path):
    text = (
        '<View><Choices name="mood" toName="t"><Choice value="glad"/><Choice value="cross" alias="x"/>'
        '</Choices><Choices name="topic" toName="t" choice="multiple">'
        '<Choice value="refund" hint="Money back"/></Choices></View>'
    )
    mood, topic = read(wrote(tmp_path, "config.xml", text)).top
    assert (mood.name, mood.settings, topic.name, topic.settings) == ("mood", {"choose": "one"}, "topic", {})
    assert mood.children[1].aliases == ("x",)
    assert topic.children[0].description == "Money back"


def test_entities_are_refused(tmp_path):
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa">]><View><Choices name="c"><Choice value="&a;"/></Choices></View>'
    with pytest.raises(DataError, match="declares a document type"):
        read(wrote(tmp_path, "config.xml", bomb), kind="label-studio")


# Faults


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("empty.csv", "", r"the table is empty"),
        ("empty.txt", "\n\n", r"no labels found"),
        ("empty.json", "{}", r"no labels found"),
        ("gap.txt", "Billing > > Refund\nBilling > Late\n", r"gap\.txt:1: a path with an empty part"),
        ("gap.csv", "level1,level2,level3\nBilling,,Double\n", r"gap\.csv row 2: a path with an empty part"),
        ("jump.txt", "a\n    b\n  c\n", r"jump\.txt:3: 'c' is indented by 2; expected one of 0, 4"),
        (
            "cycle.csv",
            "name,parent\na,b\nb,c\nc,a\n",
            r"a cycle: (a > c > b > a|b > a > c > b|c > b > a > c)",
        ),
        ("self.csv", "name,parent\na,a\n", r"a cycle: a > a"),
        ("ids.csv", "id,name,parent_id\n1,a,\n2,b,9\n", r"row 3: the parent '9' is no id of any row"),
        ("nameless.csv", "parent,size\na,1\n", r"a column of parents, and none of names"),
        ("broken.json", '{"a": [}', r"broken\.json:1:8: not valid JSON"),
        ("number.json", '{"a": 7.5}', r"number\.json: a: found 7\.5"),
        ("broken.xml", "<View><Choices></View>", r"broken\.xml:1:\d+: not valid XML"),
        ("none.xml", "<View><Text/></View>", r"no <Taxonomy> or <Choices>"),
        ("blank.xml", '<View><Choices name="a"><Choice/></Choices></View>', r"a <Choice> without a value"),
        (
            "deep.json",
            json.dumps({"a": "b"}).replace('"b"', '{"a":' * 50 + '"b"' + "}" * 50),
            r"41 levels; expected 40 or fewer",
        ),
    ],
)
def test_what_cannot_be_understood_is_told_with_its_place(tmp_path, name, text, message):
    path = wrote(tmp_path, name, text)
    kind = "sheet" if name.endswith(".csv") else None
    with pytest.raises(DataError, match=message):
        read(path, kind=kind)


def test_cells_merged_across_columns_are_refused(tmp_path):
    path = workbook(tmp_path / "labels.xlsx", [["Group", "Label"]], merged=[("A2:B2", "Billing")])
    with pytest.raises(DataError, match=r"sheet 'Labels': cells A2:B2 are merged across columns"):
        read(path, kind="sheet")


@pytest.mark.parametrize(
    ("value", "message"), [("#REF!", "cell B2 holds a formula that has come to a fault"), ("Late", None)]
)
def test_a_formula_is_its_value_and_a_faulty_one_is_refused(tmp_path, value, message):
    path = workbook(tmp_path / "f.xlsx", [["Group", "Label"], ["Billing"]], formulas=[("B2", "=C1", value)])
    if message is None:
        assert nested(read(path)) == {"Billing": {"Late": {}}}
    else:
        with pytest.raises(DataError, match=message):
            read(path)


def test_a_formula_that_was_never_computed_is_refused(tmp_path):
    from openpyxl import Workbook

    book = Workbook()
    book.active.append(["Group", "Label"])
    book.active.append(["Billing", "=A2"])
    book.save(tmp_path / "f.xlsx")
    with pytest.raises(DataError, match="cell B2 holds a formula that was never computed"):
        read(tmp_path / "f.xlsx")


def test_a_workbook_with_a_password_is_refused(tmp_path):
    # What a spreadsheet program writes then: an OLE container with the encrypted package.
    path = tmp_path / "secret.xlsx"
    path.write_bytes(encrypted_workbook())
    with pytest.raises(DataError, match=r"secret\.xlsx: has a password; save it without one"):
        read(path)


def encrypted_workbook():
    """The least compound file with a stream EncryptedPackage: a header, its allocation table, a directory."""
    sector, end, free, table = 512, 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFD

    def number(value, size=4):
        return value.to_bytes(size, "little")

    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + number(0x3E, 2) + number(3, 2) + b"\xfe\xff"
    header += number(9, 2) + number(6, 2) + bytes(6) + number(0) + number(1) + number(1) + number(0)
    header += number(0) + number(end) + number(0) + number(end) + number(0) + number(0) + number(free) * 108
    allocation = (
        number(table)
        + number(end)
        + number(end) * 1
        + b"".join(number(at + 1) if at < 10 else number(end) for at in range(3, 11))
    )
    allocation += number(free) * ((sector - len(allocation)) // 4)

    def entry(name, kind, child=free, start=0, size=0):
        encoded = name.encode("utf-16-le") + b"\0\0"
        links = number(free) + number(free) + number(child)
        return (
            encoded.ljust(64, b"\0")
            + number(len(encoded), 2)
            + bytes([kind, 1])
            + links
            + bytes(36)
            + (number(start) + number(size, 8))
        )

    entries = entry("Root Entry", 5, child=1, start=end) + entry("EncryptedPackage", 2, start=2, size=4608)
    directory = entries.ljust(sector, b"\0")
    return header + allocation + directory + bytes(sector * 9)


def test_a_sheet_that_is_not_there_is_told_with_those_that_are(tmp_path):
    path = workbook(tmp_path / "labels.xlsx", [["Group", "Label"], ["a", "b"]])
    with pytest.raises(DataError, match=r"no sheet 'Label'; there are 'Labels'\. Did you mean 'Labels'\?"):
        read(path, sheet="Label")


@pytest.mark.parametrize("name", ["no.xlsx", "no.npy", "no.ods"])
def test_a_file_that_is_none_of_its_kind_is_told(tmp_path, name):
    path = wrote(tmp_path, name, "not at all")
    with pytest.raises(DataError, match=r"not a spreadsheet, or a damaged one|not an array"):
        read(path, kind="hiclass" if name.endswith("npy") else "sheet")


def test_a_damaged_workbook_is_told(tmp_path):
    path = workbook(tmp_path / "whole.xlsx", [["Group", "Label"], ["a", "b"]])
    damaged = tmp_path / "damaged.xlsx"
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(damaged, "w") as part:
        for name in whole.namelist():
            if "sheet1" not in name:
                part.writestr(name, whole.read(name))
    with pytest.raises(DataError, match="names a sheet 'Labels' and does not hold it"):
        read(damaged)


# Which kind

ROWS = "comment,topic\nwhere is my parcel,late\nmy money please,refund\n"


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("rows.csv", ROWS, "rows"),
        ("long.csv", f"what,who\n{'a long story ' * 9},late\n", "rows"),
        ("again.csv", "a,b\nx,y\nx,y\n", "rows"),
        ("rows.jsonl", '{"text": "a", "labels": []}\n', "rows"),
        ("rows.json", '[{"text": "a", "labels": []}]', "rows"),
        ("fasttext.txt", "__label__late where is it\n", "rows"),
        ("linked.json", '{"@context": {}, "@graph": []}', "skos"),
        (
            "v.xml",
            '<?xml version="1.0"?><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/>',
            "skos",
        ),
        ("c.xml", "<View></View>", "label-studio"),
        ("names.txt", "late\nrefund\n", "outline"),
        ("tree.json", '{"a": ["b"]}', "json"),
    ],
)
def test_the_kind_of_a_file_is_known_by_what_is_in_it(tmp_path, name, text, kind):
    assert kind_of(wrote(tmp_path, name, text)) == kind


def test_what_is_not_there_or_is_a_taxonomy_already_is_told(tmp_path):
    wrote(tmp_path, "rows.csv", ROWS)
    with pytest.raises(DataError, match=r"no such file\. Did you mean 'rows\.csv'\?"):
        kind_of(tmp_path / "row.csv")
    with pytest.raises(DataError, match="a taxonomy already"):
        kind_of(wrote(tmp_path, "t.yaml", "name: x"))
    with pytest.raises(DataError, match="Say it with --from: rows, sheet"):
        kind_of(wrote(tmp_path, "t.doc", "x"))
    with pytest.raises(DataError, match="standard input"):
        kind_of(Path("-"))


# Paths


@pytest.mark.parametrize(
    ("names", "separator"),
    [
        (["a > b", "a > c", "d"], " > "),
        (["a/b", "a/c"], "/"),
        (["a::b", "c::d"], "::"),
        (["yes/no", "late"], None),
        (["and/or", "either/or"], None),
        (["a|b", "a|c"], "|"),
        (["late", "refund"], None),
        ([], None),
    ],
)
def test_names_are_paths_where_their_mark_says_so(names, separator):
    assert separator_of(names) == separator


part = st.text(st.characters(categories=["Lu", "Ll", "Nd"]), min_size=1, max_size=6)


@settings(deadline=None, derandomize=True)
@given(st.lists(part, min_size=1, max_size=4), st.sampled_from([" > ", "/", "::", "|", " -> "]))
def test_a_path_that_is_joined_is_split_into_its_parts(parts, mark):
    assert split_path(mark.join(parts), mark) == tuple(parts)


# As YAML

names = (
    st.text(
        st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp", "Co", "Cn"]),
        min_size=1,
        max_size=12,
    )
    .map(lambda text: " ".join(text.split()))
    .filter(bool)
)


@st.composite
def outlines(draw):
    every = draw(st.lists(names, unique=True, min_size=3, max_size=12))
    groups = [Concept(name, draw(names)) for name in every[: len(every) // 3]]
    labels = [
        Concept(name, aliases=(), rows=draw(st.none() | st.integers(0, 20))) for name in every[len(groups) :]
    ]
    for label in labels:
        parents = draw(st.lists(st.sampled_from(groups), unique_by=id, max_size=2)) if groups else []
        for parent in parents:
            parent.children.append(label)
    placed = {id(child) for group in groups for child in group.children}
    kept = [group for group in groups if group.children]
    return Outline([*kept, *(label for label in labels if id(label) not in placed)])


@settings(deadline=None, derandomize=True, max_examples=150)
@given(outlines(), names, names)
def test_what_is_written_is_read_as_the_same_taxonomy(outline, column, delimiter):
    text = written(
        outline, Head("x", {"text": column, "labels": [column], "labels_delimiter": delimiter}, ["said"])
    )
    taxonomy = Taxonomy.of_text(text)
    assert taxonomy.data.text == column
    assert taxonomy.data.labels_delimiter == delimiter
    for path, concept in walk(outline.top):
        assert taxonomy.graph.parents[concept.name][0] is not None
        if concept.is_group:
            assert set(taxonomy.groups[path[-1]].children) == {child.name for child in concept.children}
            assert taxonomy.groups[path[-1]].description == concept.description
    assert set(taxonomy.labels) == {concept.name for _, concept in walk(outline.top) if not concept.is_group}


def test_a_group_with_two_parents_is_written_once():
    shared = Concept("tax", children=[Concept("vat")])
    outline = Outline(
        [Concept("billing", children=[shared]), Concept("b2b", children=[Concept("quote"), shared])]
    )
    taxonomy = Taxonomy.of_text(written(outline, Head("x")))
    assert taxonomy.graph.parents["tax"] == ("billing", "b2b")


def test_words_that_yaml_takes_for_others_are_kept():
    outline = Outline(
        [Concept(name) for name in ("no", "on", "null", "007", "1e3", "a: b", "# x", "- y", "'q'", "~")]
    )
    assert list(Taxonomy.of_text(written(outline, Head("x"))).labels) == [one.name for one in outline.top]


def test_a_name_with_several_parents_is_told_with_the_way_to_have_several(tmp_path):
    sheet = wrote(
        tmp_path, "s.csv", "parent,name\n,Billing\nBilling,Refund\nBilling,Other\n,Delivery\nDelivery,Other\n"
    )
    found = draft(Request(sheet, tmp_path / "s.yaml"))
    told = ["1 label stands in several groups; if they are several things, write `names: path`:"]
    assert [line for line in found.told if "several groups" in line] == told
    assert f"# {told[0]}\n#   'Other' in Billing and Delivery\n" in found.text
    alone = wrote(tmp_path, "t.csv", "parent,name\n,Billing\nBilling,Refund\n")
    assert not any("several groups" in line for line in draft(Request(alone, tmp_path / "t.yaml")).told)

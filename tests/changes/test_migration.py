from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from cascade.changes.migration import QUEUE_NAME, DecisionsNeededError, migrate
from cascade.errors import DataError
from cascade.fitted import Cascade
from cascade.rows.readings import Columns
from cascade.taxonomy.definition import Taxonomy
from cascade.teach.queue import read_queue
from cascade.teach.review import Review


def taxonomy(groups, **more):
    return Taxonomy.from_dict({"name": "shop", "groups": groups, **more})


# What becomes of labels


def written(place, name, text):
    path = place / name
    path.write_bytes(text.encode())
    return path


def migrated(place, old, new, text, decisions=None, name="rows.csv", **options):
    """The text of a file after it was migrated, and the report."""
    source = written(place, name, text)
    report = migrate(old, new, [source], place / "out", decisions, **options)
    return (place / "out" / name).read_bytes().decode(), report


SHOP = {"money": {"labels": ["refund", "card"]}, "goods": {"labels": ["late", "broken"]}}


def test_only_the_cells_of_labels_that_changed_are_written_anew(tmp_path):
    old = taxonomy(SHOP)
    new = taxonomy({**SHOP, "goods": {"labels": [{"name": "too_late", "aliases": ["late"]}, "broken"]}})
    text = (
        'id;"Text";Topic ;x\r\n1;"a ""b""; c"; Late , REFUND;+1\r\n\r\n2;\'=1+1;broken;\r\n3;late;-; y \r\n'
    )
    found, report = migrated(tmp_path, old, new, text)
    assert found == text.replace(" Late , REFUND", " Too late , REFUND").replace("Too late", "Too_late")
    assert report.labels == {"kept": 2, "renamed": 1}


def test_json_keeps_order_numbers_blanks_and_escapes(tmp_path):
    old, new = (
        taxonomy(SHOP),
        taxonomy({**SHOP, "goods": {"labels": [{"name": "délai", "aliases": ["late"]}, "broken"]}}),
    )
    first = '{ "z":1.50e3,"labels" : ["late",  "broken"], "text":"caf\\u00e9 late", "z":2 }\n\n'
    text = first + '{"text": "b", "labels": ["card"] }\n'
    found, _ = migrated(tmp_path, old, new, text, name="rows.jsonl")
    assert found == text.replace('["late",', '["d\\u00e9lai",')


def test_a_name_that_was_an_alias_and_is_a_label_now_is_told_apart_by_the_rows(tmp_path):
    old = taxonomy({**SHOP, "goods": {"labels": ["late", {"name": "broken", "aliases": ["cracked"]}]}})
    new = taxonomy({**SHOP, "goods": {"labels": ["late", "broken", "cracked"]}})
    text = "text,labels\na,cracked;late\nb,broken\nc,card\n"
    with pytest.raises(DecisionsNeededError) as needed:
        migrated(tmp_path, old, new, text)
    assert [(one.name, one.rows) for one in needed.value.questions] == [("broken", 1)]
    assert "broken: [broken, cracked]  # 1 row; it was split" in needed.value.yaml
    assert not (tmp_path / "out").exists()
    found, report = migrated(tmp_path, old, new, text, {"broken": "broken"})
    assert found == text
    assert report.labels == {"kept": 3, "split": 1}


def test_a_label_that_became_a_group_is_left_to_a_person_and_a_group_that_became_a_label_is_not(tmp_path):
    old = taxonomy({"money": {"labels": ["refund", "card"]}, "goods": {"labels": ["late", "broken"]}})
    new = taxonomy(
        {"goods": {"labels": ["broken"], "groups": {"late": {"labels": ["early", "never"]}}}},
        labels=["money"],
    )
    text = "text,labels\na,late\nb,money\nc,refund\nd,broken;late\n"
    with pytest.raises(DecisionsNeededError) as needed:
        migrated(tmp_path, old, new, text)
    assert {one.name: one.proposal.yaml() for one in needed.value.questions} == {
        "refund": "money",
        "late": "review",
    }
    found, report = migrated(tmp_path, old, new, text, {"late": "review", "refund": "money"})
    assert found == "text,labels\na,late\nb,money\nc,money\nd,broken;late\n"
    queue = read_queue(Path(report.queue), new, "another model")
    assert [(row.id, row.proposed, tuple(row.scores)) for row in queue] == [
        (1, ("late",), ("early", "never")),
        (4, ("broken", "late"), ("early", "never")),
    ]


def test_plain_names_become_paths_and_back(tmp_path):
    groups = {"money": {"labels": ["refund", "card"]}, "goods": {"labels": ["late", "other"]}}
    plain, paths = taxonomy(groups), taxonomy(groups, names="path")
    text = "text,labels\na,late;refund\nb,\nc,money\nd,other\n"
    found, report = migrated(tmp_path, plain, paths, text)
    assert found == "text,labels\na,goods/late;money/refund\nb,\nc,money\nd,goods/other\n"
    assert report.labels == {"kept": 1, "renamed": 3}
    back, _ = migrated(tmp_path / "out", paths, plain, found)
    assert back == text


def test_paths_and_levels_follow_a_label_that_was_moved(tmp_path):
    old = taxonomy({"money": {"labels": ["refund", "card"]}, "goods": {"labels": ["late", "broken"]}})
    new = taxonomy({"money": {"labels": ["refund"]}, "goods": {"labels": ["late", "broken", "card"]}})
    text = "text,labels\na,Money > Card # Goods > Late\nb,Money > Refund\nc,Goods > Broken\n"
    found, report = migrated(tmp_path, old, new, text)
    assert found == text.replace("Money > Card", "Goods > Card")
    assert report.labels == {"kept": 3, "moved": 1}
    levels = "text,level1,level2\na,Money,Card\nb,Money,Refund\nc,Goods,Late\nd,Goods,\n"
    found, _ = migrated(tmp_path, old, new, levels, name="levels.csv")
    assert found == levels.replace("Money,Card", "Goods,Card")


def test_a_group_that_was_renamed_takes_its_paths_along_in_all_ways_of_writing_them(tmp_path):
    old = taxonomy(
        {
            "billing": {"labels": ["refund", "other"], "groups": {"tax": {"labels": ["vat", "other"]}}},
            "goods": {"labels": ["late", "other"]},
        },
        names="path",
    )
    new = taxonomy(
        {
            "money": {
                "aliases": ["billing"],
                "labels": ["refund", "other"],
                "groups": {"tax": {"labels": ["vat", "other"]}},
            },
            "goods": {"labels": ["late"], "groups": {"courier": {"labels": ["other", "rude"]}}},
        },
        names="path",
    )
    text = "text,labels\na,billing > refund; goods > late\nb,billing > tax > other\nc,goods > other\n"
    with pytest.raises(DecisionsNeededError) as needed:
        migrated(tmp_path, old, new, text)
    assert [one.proposal.yaml() for one in needed.value.questions] == ["goods/courier/other"]
    decisions = {"goods/other": "goods/courier/other"}
    found, _ = migrated(tmp_path, old, new, text, decisions)
    assert found == text.replace("billing", "money").replace("goods > other", "goods > courier > other")
    levels = "text,l1,l2,l3\na,billing,refund,\nb,billing,tax,other\nc,goods,other,\nd,billing,tax,\ne,,,\n"
    found, _ = migrated(tmp_path, old, new, levels, decisions, name="levels.csv")
    assert found == levels.replace("billing", "money").replace("goods,other,", "goods,courier,other")
    lists = (
        '{"text": "a", "labels": ["billing/refund", "late"]}\n{"text": "b", "labels": [["billing", "tax"]]}\n'
    )
    found, _ = migrated(tmp_path, old, new, lists, name="rows.jsonl")
    assert found == lists.replace("billing", "money")
    again = [tmp_path / "out" / name for name in ("rows.csv", "levels.csv", "rows.jsonl")]
    twice = migrate(new, new, again, tmp_path / "twice")
    assert [one.changed for one in twice.files] == [0, 0, 0]


def test_columns_of_0_and_1_are_renamed_joined_added_and_taken_out(tmp_path):
    old = taxonomy(SHOP)
    new = taxonomy(
        {
            "money": {"labels": [{"name": "pay", "aliases": ["card", "refund"]}]},
            "goods": {"labels": ["slow", "lost"]},
        }
    )
    text = "text,refund,late,card,broken,n\na,1,0,0,0,7\nb,0,1,1,1,8\nc,1,0,1,0,9\n"
    text += "d,x?,0,0,0,10\ne,0,0,y?,0,11\n"
    found, report = migrated(tmp_path, old, new, text, {"late": ["slow", "lost"], "broken": None})
    assert found == "text,pay,goods,n\na,1,0,7\nb,1,1,8\nc,1,0,9\nd,x?,0,10\ne,y?,0,11\n"
    assert [(bad.number, "expected 0 or 1" in bad.reason) for bad in report.refused] == [
        (4, True),
        (5, True),
    ]
    assert report.labels == {"merged": 4, "open": 1, "removed": 1}
    objects = '{"text": "a", "refund": true, "late": false, "card": false, "broken": true, "n": 1.0}\n'
    found, _ = migrated(tmp_path, old, new, objects, {"broken": None}, name="rows.jsonl")
    assert found == '{"text": "a", "pay": true, "n": 1.0}\n'


def test_rows_that_cannot_be_read_or_written_are_carried_over_and_told(tmp_path):
    old, new = (
        taxonomy(SHOP),
        taxonomy({**SHOP, "goods": {"labels": [{"name": "slow", "aliases": ["late"]}, "broken"]}}),
    )
    first = '{"text": "a", "labels": ["late"]}\n'
    text = first + 'no JSON\n{"text": "b", "labels": ["lates"]}\n{"labels": ["late"]}\n'
    found, report = migrated(tmp_path, old, new, text, name="rows.jsonl")
    assert found == text.replace('"a", "labels": ["late"]', '"a", "labels": ["slow"]')
    assert [bad.number for bad in report.refused] == [2, 3, 4]


def test_a_row_without_room_for_its_labels_is_carried_over_and_told(tmp_path):
    old, new = taxonomy(SHOP), taxonomy({**SHOP, "goods": {"labels": ["late", "cracked", "leaking"]}})
    text = "id,text,level1,level2\n1,a,money,card\n2,b,goods,broken\n3,c,goods,late\n4,d,money,refund\n"
    answers = written(tmp_path, "said.jsonl", '{"id": "2", "text": "b", "labels": ["cracked", "card"]}\n')
    decisions = {"broken": ["cracked", "leaking"]}
    found, report = migrated(tmp_path, old, new, text, decisions, answers=answers)
    assert found == text
    assert [(bad.number, bad.reason) for bad in report.refused] == [
        (2, "its labels cannot be written in columns of levels, which hold one path")
    ]


def test_answers_of_a_review_go_into_the_files_once(tmp_path):
    old, new = taxonomy(SHOP), taxonomy({**SHOP, "goods": {"labels": ["late", "cracked", "leaking"]}})
    text = "id,text,labels\n1,a,broken;card\n2,b,broken\n3,c,late;broken\n2,b,broken\n"
    decisions = {"broken": ["cracked", "leaking"]}
    found, report = migrated(tmp_path, old, new, text, decisions)
    assert found == "id,text,labels\n1,a,goods;card\n2,b,goods\n3,c,late\n2,b,goods\n"
    assert (report.questions, report.files[0].queued) == (3, 4)
    said = '{"id": "2", "text": "b", "labels": ["leaking"]}\n'
    said += '{"id": "1", "text": "a", "labels": ["card", "cracked", "late"]}\n'
    answers = written(tmp_path, "migration.reviewed.jsonl", said)
    with pytest.raises(DataError, match="there already, with other content"):
        migrated(tmp_path, old, new, text, decisions, answers=answers)
    found, report = migrated(tmp_path, old, new, text, decisions, answers=answers, force=True)
    assert found == "id,text,labels\n1,a,card;cracked;late\n2,b,leaking\n3,c,late\n2,b,leaking\n"
    assert (report.questions, report.files[0].queued, report.files[0].answered) == (1, 1, 3)
    assert report.unused_answers == 0
    last = written(tmp_path, "last.jsonl", said + '{"id": "3", "text": "c", "labels": []}\n')
    found, report = migrated(tmp_path, old, new, text, decisions, answers=last, force=True)
    assert found.splitlines()[3] == "3,c,"
    other = written(tmp_path, "other.jsonl", '{"id": "1", "text": "not a", "labels": ["card"]}\n')
    assert migrated(tmp_path, old, new, text, decisions, answers=other, force=True)[1].unused_answers == 1
    found, report = migrated(tmp_path, old, new, text, decisions, answers=last, force=True)
    assert report.queue is None
    assert not (tmp_path / "out" / QUEUE_NAME).exists()


def test_what_is_said_of_the_queue_is_what_the_next_run_puts_into_the_files(tmp_path):
    old, new = taxonomy(SHOP), taxonomy({**SHOP, "goods": {"labels": ["late", "cracked", "leaking"]}})
    text = "text,labels\nall a,broken;card\nall b,broken\nall c,refund\n"
    decisions = {"broken": ["cracked", "leaking"]}
    _, report = migrated(tmp_path, old, new, text, decisions)
    answers = tmp_path / "out/migration.reviewed.jsonl"
    with contextlib.closing(
        Review(read_queue(Path(report.queue), new, ""), answers, new, Columns())
    ) as review:
        for queued in review.queued.values():
            sure = [name for name in queued.proposed if name != "goods"]
            review.answer(queued.key, [*sure, "leaking"], "", "")
    found, report = migrated(tmp_path, old, new, text, decisions, answers=answers, force=True)
    rows = [set(line.split(",")[1].split(";")) for line in found.splitlines()[1:]]
    assert rows == [{"card", "leaking"}, {"leaking"}, {"refund"}]
    assert (report.queue, report.files[0].answered) == (None, 2)


def test_a_model_folder_stands_for_the_taxonomy_that_it_was_fitted_by(tmp_path):
    rows = [
        (f"{word} {place}", [label])
        for place in range(12)
        for word, label in (("slow", "late"), ("visa", "card"))
    ]
    texts, labels = zip(*rows, strict=True)
    Cascade.fit(taxonomy(SHOP), list(texts), list(labels)).save(tmp_path / "model")
    new = taxonomy({**SHOP, "goods": {"labels": [{"name": "too_late", "aliases": ["late"]}, "broken"]}})
    found, _ = migrated(tmp_path, tmp_path / "model", new, "text,labels\na b,late\n")
    assert found == "text,labels\na b,too_late\n"


def test_without_rows_all_files_of_the_taxonomy_are_migrated(tmp_path):
    for folder in ("train", "test"):
        (tmp_path / folder).mkdir()
        written(tmp_path / folder, "rows.csv", "message,what\nx y,late\nz,card\n")
    data = {"train": "train/*.csv", "test": "test/rows.csv", "text": "message", "labels": "what"}
    old = Taxonomy.from_dict({"name": "n", "data": data, "groups": SHOP}, base=tmp_path)
    new = Taxonomy.from_dict(
        {
            "name": "n",
            "data": data,
            "groups": {**SHOP, "goods": {"labels": [{"name": "slow", "aliases": ["late"]}]}},
        }
    )
    report = migrate(old, new, out=tmp_path / "out")
    assert [one.out for one in report.files] == [
        str(tmp_path / "out" / one / "rows.csv") for one in ("train", "test")
    ]
    assert (tmp_path / "out/test/rows.csv").read_text() == "message,what\nx y,slow\nz,card\n"


def test_a_file_in_the_folder_for_the_new_ones_is_refused(tmp_path):
    source = written(tmp_path, "rows.csv", "text,labels\na,late\n")
    with pytest.raises(DataError, match="lies in the folder"):
        migrate(taxonomy(SHOP), taxonomy(SHOP), [source], tmp_path)


def test_a_new_taxonomy_that_reads_the_file_otherwise_is_told_what_to_say(tmp_path):
    old = taxonomy(SHOP, data={"text": "body", "labels": "tags"})
    new = taxonomy(SHOP, data={"text": "body", "labels": "labels"})
    _, report = migrated(tmp_path, old, new, "body,tags,labels\na b,late,\nc d,card,late\n")
    [note] = report.files[0].notes
    assert 'labels: "tags"' in note


@pytest.mark.parametrize(
    ("before", "after", "proposed"),
    [
        ({"aliases": ["charged twice"]}, {"aliases": ["Charged Twice"]}, "due"),
        ({"description": "Two payments."}, {"description": "Two payments."}, "due"),
        ({"aliases": ["a"], "description": "Two."}, {"aliases": ["b"], "description": "Three."}, "money"),
        ({}, {}, "money"),
    ],
)
def test_a_new_label_with_the_alias_or_description_of_one_that_is_gone_is_proposed(
    tmp_path, before, after, proposed
):
    old = taxonomy({"money": {"labels": ["refund", {"name": "double_charge", **before}]}})
    new = taxonomy({"money": {"labels": ["refund", {"name": "due", **after}]}})
    source = written(tmp_path, "rows.csv", "text,labels\na,double_charge\nb,refund\n")
    with pytest.raises(DecisionsNeededError) as asked:
        migrate(old, new, [source], tmp_path / "out")
    [question] = asked.value.questions
    assert (question.name, question.proposal.names) == ("double_charge", (proposed,))


def test_two_new_labels_of_one_description_are_no_answer(tmp_path):
    told = {"description": "Two payments."}
    old = taxonomy({"money": {"labels": ["refund", {"name": "double_charge", **told}]}})
    new = taxonomy({"money": {"labels": [{"name": "x", **told}, {"name": "y", **told}, "refund"]}})
    source = written(tmp_path, "rows.csv", "text,labels\na,double_charge\n")
    with pytest.raises(DecisionsNeededError) as asked:
        migrate(old, new, [source], tmp_path / "out")
    assert asked.value.questions[0].proposal.is_open

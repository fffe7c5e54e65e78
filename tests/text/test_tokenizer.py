from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cascade.text.tokenizer import tokenizer

pytest.importorskip("bpe_openai", reason="bpe-openai is not installed")


@pytest.fixture(scope="module")
def of_package():
    """The same tokens as the package itself has them."""
    import bpe_openai

    return bpe_openai.get_encoding("o200k_base")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
@example("The parcel didn't come, 12345 \n\n crème brûlée <|endoftext|> \U0001f469\u200d\U0001f4bb")
def test_tokens_are_those_of_the_package_and_make_the_text_again(of_package, text):
    tokens = tokenizer().encode(text)
    assert tokens == of_package.encode_ordinary(text)
    assert tokenizer().decode(tokens) == text


def test_a_part_of_a_character_is_no_text():
    first, *_ = tokenizer().encode("\U00013000")
    with pytest.raises(ValueError, match="UTF-8"):
        tokenizer().decode([first])


def test_the_package_is_not_imported_which_would_take_seconds():
    code = (
        "import sys; from cascade.hosted import tokens;"
        "print(tokens.count('1,0,1'), tokens.cut('one two three four', 2), 'bpe_openai' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "5 one two False\n"


@pytest.mark.parametrize("parts", ["raise ImportError", "tokenizers = None"])
def test_a_package_whose_parts_are_other_ones_is_asked_itself(tmp_path, parts):
    package = tmp_path / "bpe_openai"
    package.mkdir()
    (package / "_bindings.py").write_text(parts)
    (package / "__init__.py").write_text(
        "class Encoding:\n"
        "    encode_ordinary = staticmethod(str.split)\n"
        "    decode = staticmethod(lambda tokens, errors: ' '.join(tokens))\n\n"
        "def get_encoding(name):\n    return Encoding\n"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from cascade.text.tokenizer import tokenizer;"
        "print(tokenizer().encode('a b'), tokenizer().decode(['a', 'b']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['a', 'b'] a b\n"

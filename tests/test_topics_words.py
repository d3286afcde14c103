"""What a word is: folding, parts, plurals, and places in the text as given."""

from __future__ import annotations

from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digest.topics.words import stem, words

TERMS = {
    "case": ("Language MODELS", "language model"),
    "hyphen": ("multi-agent", "multi agent"),
    "hyphens of typography": ("multi‐agent multi–agent", "multi agent multi agent"),
    "version": ("GPT-4 GPT 4 gpt4", "gpt 4 gpt 4 gpt 4"),
    "version with a letter": ("GPT-4o gpt4o", "gpt 4o gpt 4o"),
    "point": ("GPT-4.1", "gpt 4 1"),
    "number before letters": ("3D 4k 16x16", "3d 4k 16x 16"),
    "slash": ("ViT-B/16", "vit b 16"),
    "plus": ("C++ c++17 g++", "c++ c++ 17 g++"),
    "plus between": ("a++b", "a b"),
    "sharp": ("C# F# issue #4", "c# f# issue 4"),
    "dot": (".NET ASP.NET end.Net", ".net asp net end net"),
    "accents": ("naïve Poincaré", "naive poincare"),
    "decomposed": ("Poincare\u0301", "poincare"),
    "letters of their own": ("Łukasz Søren Straße", "lukasz soren strasse"),
    "raised": ("M²CD", "m 2cd"),
    "ligature": ("ﬁne", "fine"),
    "greek": ("μ-MoE µ", "μ moe μ"),
    "chinese": ("强化学习 RL学习", "强 化 学 习 rl 学 习"),
    "japanese": ("日本の", "日 本 の"),
    "korean": ("한국어 모델", "한국어 모델"),
    "possessive": ("Editor's Adam’s", "editor adam"),
    "apostrophe": ("don't d’Alembert", "don t d alembert"),
    "underscore": ("A_B", "a b"),
    "soft hyphen": ("trans\u00adformer", "transformer"),
    "vowels that are marks": ("हिन्दी भाषा", "हनद भष"),
    "marks around and after": ("1\ufe0f\u20e3 e\u20dd x\u034fy", "1 e xy"),
    "nothing": (" -- !? ", ""),
}


@pytest.mark.parametrize(("text", "expected"), TERMS.values(), ids=TERMS.keys())
def test_words(text: str, expected: str) -> None:
    assert normalize("NFC", " ".join(word.term for word in words(text))) == expected


PLURALS = (
    "agents:agent studies:study processes:process classes:class boxes:box approaches:approach "
    "matches:match hashes:hash caches:cache analyses:analysis hypotheses:hypothesis "
    "matrices:matrix indices:index vertices:vertex corpora:corpus biases:bias gpus:gpu llms:llm "
    "gans:gan vaes:vae metrics:metric topics:topic databases:database uses:use employees:employee "
    "images:image axes:axis"
)


@pytest.mark.parametrize("pair", PLURALS.split())
def test_a_plural_is_its_singular(pair: str) -> None:
    plural, singular = pair.split(":")
    assert stem(plural) == stem(singular) == singular


SINGULARS = (
    "analysis bias process physics dynamics news lens series this class corpus gas bus aws ios "
    "kubernetes thesis means robotics status loss data schema"
)


@pytest.mark.parametrize("word", SINGULARS.split())
def test_what_is_no_plural_stays(word: str) -> None:
    assert stem(word) == word


@pytest.mark.parametrize(
    ("one", "other"),
    [("news", "new"), ("dynamics", "dynamic"), ("lens", "len"), ("university", "universe"),
     ("generation", "generative"), ("modeling", "model"), ("planning", "plan")],
)  # fmt: skip
def test_different_words_stay_apart(one: str, other: str) -> None:
    assert stem(one) != stem(other)


def test_names_keep_their_s() -> None:
    assert [word.term for word in words("Ronald Williams", stemmed=False)] == [
        "ronald",
        "williams",
    ]


def test_places_are_those_of_the_text_as_given() -> None:
    text = "On Poincare\u0301's GPT-4 ﬁelds, ½"
    assert [text[word.start : word.end] for word in words(text)] == [
        "On",
        "Poincare\u0301",
        "GPT",
        "4",
        "ﬁelds",
        "½",
        "½",
    ]


@given(st.text())
def test_terms_are_plain_strings_in_order(text: str) -> None:
    found = words(text)
    for word in found:
        assert word.term
        assert not any(char.isspace() for char in word.term)
        assert 0 <= word.start < word.end <= len(text)
    assert [word.start for word in found] == sorted(word.start for word in found)


@given(st.text(st.sampled_from("abcXYZ 123-+#.éß²μ学"), max_size=30))
def test_case_and_form_do_not_count(text: str) -> None:
    plain = [word.term for word in words(text)]
    assert [word.term for word in words(text.swapcase())] == plain
    assert [word.term for word in words(normalize("NFD", text))] == plain

"""Which tokens of XLM-R's 250,002 the bundled model keeps, and its tokenizer with only those.

Kept are all tokens of Chinese characters, kana, hangul, digits and signs, and of the Latin, Cyrillic and Arabic ones
the single characters, and those that the commonest words of the claimed languages are made of (wordfreq's lists). A
text whose tokens are all kept is tokenized as before; a token that is not kept falls into its pieces.
"""

from __future__ import annotations

import copy
import unicodedata
from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer

LANGUAGES = ("zh", "en", "ja", "ko", "de", "fr", "es", "it", "pt", "ru", "ar", "tr", "vi")
WORDS = 100_000  # the commonest of each language
WHOLE_SCRIPTS = frozenset({"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "IDEOGRAPHIC", "BOPOMOFO"})
LETTERS = frozenset({"LATIN", "CYRILLIC", "ARABIC"})
SPECIAL = 4  # <s>, <pad>, </s>, <unk>
_SPACE = "▁"


def scripts(piece: str) -> set[str]:
    """The scripts of a piece's letters, as their Unicode names begin; marks and digits have none."""
    return {unicodedata.name(letter, "?").split()[0] for letter in piece if letter.isalpha() and letter != _SPACE}


def choose_tokens(
    tokenizer: Tokenizer,
    pieces: list[str],
    texts: Iterable[str] = (),
    *,
    languages: Sequence[str] = LANGUAGES,
    words: int = WORDS,
    whole: frozenset[str] = WHOLE_SCRIPTS,
    letters: frozenset[str] = LETTERS,
) -> list[int]:
    """Ids of the tokens to keep, ascending; ``texts`` are read beside the lists of words.

    Of the scripts ``whole`` every token is kept, of ``letters`` those that are used, and single characters.
    """
    import wordfreq

    used: set[int] = set()
    for language in languages:
        common = wordfreq.top_n_list(language, words, wordlist="best")
        for variant in (common, [word.capitalize() for word in common]):
            for encoding in tokenizer.encode_batch_fast(variant, add_special_tokens=False):
                used.update(encoding.ids)
    for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False):
        used.update(encoding.ids)
    kept = []
    for number, piece in enumerate(pieces):
        found = scripts(piece)
        single = len(piece.removeprefix(_SPACE)) <= 1
        if number < SPECIAL or (found <= whole) or (found <= whole | letters and (number in used or single)):
            kept.append(number)
    return kept


def prune(tokenizer: dict, kept: list[int]) -> dict:
    """A copy of a ``tokenizer.json`` with only the tokens ``kept``, numbered anew in the same order."""
    pruned = copy.deepcopy(tokenizer)
    vocabulary = tokenizer["model"]["vocab"]
    pruned["model"]["vocab"] = [vocabulary[number] for number in kept]
    place = {number: new for new, number in enumerate(kept)}
    pruned["added_tokens"] = [
        token | {"id": place[token["id"]]} for token in tokenizer["added_tokens"] if token["id"] in place
    ]
    return pruned


def pair_template(prefix: dict[str, list[int]]) -> dict:
    """The post-processor ``<s> query: A </s> <s> passage: B </s>``; ``prefix`` has the ids of the two words' pieces."""

    def special(name: str, numbers: list[int], tokens: list[str]) -> dict:
        return {"id": name, "ids": numbers, "tokens": tokens}

    def segment(sequence: str, word: str, type_id: int) -> list[dict]:
        return [
            {"SpecialToken": {"id": "<s>", "type_id": type_id}},
            {"SpecialToken": {"id": word, "type_id": type_id}},
            {"Sequence": {"id": sequence, "type_id": type_id}},
            {"SpecialToken": {"id": "</s>", "type_id": type_id}},
        ]

    known = {"<s>": special("<s>", [0], ["<s>"]), "</s>": special("</s>", [2], ["</s>"])}
    known |= {word: special(word, numbers, [word] * len(numbers)) for word, numbers in prefix.items()}
    return {
        "type": "TemplateProcessing",
        "single": segment("A", "query:", 0),
        "pair": segment("A", "query:", 0) + segment("B", "passage:", 1),
        "special_tokens": known,
    }

"""Trees in brackets: reading, writing, drawing, and what is no tree."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from metaglot.kinds.trees import DEEPEST, draw_tree, read_tree, well_formed, write_tree
from metaglot.types import Span

NESTED = "[IN:ADD [SL:WHO [IN:FIND [SL:OWNER my ] [SL:RELATION Mum ] ] ] [SL:WHEN at 8 pm ] ]"


def pairs(text, spans):
    return [(span.label, text[span.start : span.end]) for span in spans]


def test_reads_outer_nodes_first():
    text = "Add my Mum to the call at 8 pm"
    assert pairs(text, read_tree(text, NESTED)) == [
        ("IN:ADD", text),
        ("SL:WHO", "my Mum"),
        ("IN:FIND", "my Mum"),
        ("SL:OWNER", "my"),
        ("SL:RELATION", "Mum"),
        ("SL:WHEN", "at 8 pm"),
    ]


def test_reads_brackets_with_all_words():
    text = "directions to the Eagles game"
    tree = read_tree(text, "[IN:GO directions to [SL:TO [IN:EVENT the [SL:NAME Eagles ] [SL:CAT game ] ] ] ]")
    assert pairs(text, tree)[1:] == [
        ("SL:TO", "the Eagles game"),
        ("IN:EVENT", "the Eagles game"),
        ("SL:NAME", "Eagles"),
        ("SL:CAT", "game"),
    ]


@pytest.mark.parametrize(
    ("text", "brackets", "found"),
    [
        # Cut into words in another way, and without spaces at all.
        ("wake me at 6:48, ok", "[IN:A [SL:T at 6 : 48 ] ]", [(8, 15)]),
        ("ปลุกฉันพรุ่งนี้", "[IN:A [SL:T พรุ่ง นี้ ] ]", [(7, 15)]),
        ("a  b\tc", "[IN:A [SL:T b c ] ]", [(3, 6)]),
        # Whole words before parts of words, then the leftmost.
        ("call a cab", "[IN:A [SL:X a ] ]", [(5, 6)]),
        ("call Ann", "[IN:A [SL:X a ] ]", [(1, 2)]),
        ("to be or to go", "[IN:A [SL:X to ] ]", [(0, 2)]),
        ("to be or to go", "[IN:A [SL:X to ] [SL:Y to ] ]", [(0, 2), (9, 11)]),
        # A part of a word where the order asks for it.
        ("on monday a cab", "[IN:A [SL:X day ] [SL:Y a cab ] ]", [(6, 9), (10, 15)]),
        # Slots in another order than the words, as translations have them.
        ("tomorrow in New York", "[IN:A [SL:X New York ] [SL:Y tomorrow ] ]", [(0, 8), (12, 20)]),
        ("", "[IN:A ]", []),
        ("no slot", " [IN:A] ", []),
    ],
)
def test_finds_the_words(text, brackets, found):
    assert [(span.start, span.end) for span in read_tree(text, brackets)[1:]] == found


@pytest.mark.parametrize(
    ("brackets", "message"),
    [
        ("", "expected a tree such as '[IN:… [SL:… word ] ]', found no bracket."),
        ("[IN:A [SL:X play ]", "expected a ']' for 'IN:A' at character 0, found none."),
        ("[IN:A ] ]", "expected a '[' for each ']', found none for that at character 8."),
        ("[IN:A ] [IN:B ]", "expected one root, found a second, 'IN:B', at character 8."),
        ("[SL:X play ]", "expected an intent at the root, found the slot 'SL:X' at character 0."),
        ("[IN:A [ play ] ]", "expected a label after '[', found none at character 6."),
        (
            "[IN:A [SL: play ] ]",
            "expected a label that begins with 'IN:' or 'SL:', found 'SL:' at character 6.",
        ),
        ("[A play ]", "expected a label that begins with 'IN:' or 'SL:', found 'A' at character 0."),
        ("play [IN:A ]", "expected words inside brackets, found 'play' at character 0."),
        ("[IN:A [IN:B play ] ]", "expected slots inside 'IN:A', found the intent 'IN:B' at character 6."),
        (
            "[IN:A [SL:X [SL:Y play ] ] ]",
            "expected intents inside 'SL:X', found the slot 'SL:Y' at character 12.",
        ),
        ("[IN:A [SL:X ] ]", "expected a word inside 'SL:X', found none at character 6."),
        ("[IN:A [SL:X [IN:B ] ] ]", "expected a word inside 'IN:B', found none at character 12."),
        ("[IN:A [SL:X rock ] ]", "expected words of the text, found 'rock' at character 12."),
        (
            "[IN:A [SL:X play jazz ] ]",
            "expected words that stand together in the text, found 'play jazz' at character 12.",
        ),
        (
            "[IN:A [SL:X now ] [SL:Y now ] ]",
            "expected words in a place of their own, found 'now' at character 24.",
        ),
        (
            "[IN:A jazz [SL:X play ] ]",
            "expected words in the order of the text, found 'play' at character 17.",
        ),
    ],
)
def test_says_what_is_no_tree_and_where(brackets, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read_tree("play me some jazz now", brackets)


def test_nodes_that_cross_in_the_text_are_refused():
    brackets = "[IN:A [SL:X [IN:B [SL:Y play ] [SL:Z jazz ] ] ] [SL:W [IN:C [SL:U me ] [SL:V now ] ] ] ]"
    with pytest.raises(
        ValueError, match="inside one another or apart, found 'SL:W' at 5 to 21 across 'IN:B'"
    ):
        read_tree("play me some jazz now", brackets)


def test_brackets_may_not_be_bottomless():
    one = "[IN:A [SL:X "
    deep = one * (DEEPEST // 2) + "play " + "] ] " * (DEEPEST // 2)
    assert len(read_tree("play", deep)) == DEEPEST
    with pytest.raises(ValueError, match=f"expected at most {DEEPEST} brackets inside one another at"):
        read_tree("play", one * 5000 + "play " + "] ] " * 5000)


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([], "expected a tree"),
        ([(0, 9, "X")], "begins with 'IN:' or 'SL:', found 'X'"),
        ([(0, 9, "SL:X")], "expected an intent at the root"),
        ([(0, 9, "IN:A"), (3, 3, "SL:X")], "expected a stretch with characters, found 'SL:X' at 3 to 3"),
        ([(0, 9, "IN:A"), (3, 10, "SL:X")], "found 'SL:X' at 3 to 10 across 'IN:A'"),
        ([(0, 9, "IN:A"), (5, 6, "SL:X"), (1, 2, "SL:Y")], "found 'SL:Y' at 1 to 2 too late"),
        ([(0, 9, "IN:A"), (1, 4, "SL:X"), (3, 6, "SL:Y")], "found 'SL:Y' at 3 to 6 across 'SL:X'"),
        ([(0, 9, "IN:A"), (1, 4, "SL:X"), (1, 6, "SL:Y")], "found 'SL:Y' at 1 to 6 too late"),
        ([(0, 9, "IN:A"), (1, 4, "SL:X"), (1, 4, "SL:Y")], "expected intents inside 'SL:X', found the slot"),
        ([(0, 9, "IN:A"), (1, 4, "IN:B")], "expected slots inside 'IN:A', found the intent 'IN:B'"),
        ([(0, 9, f"{x}:A") for x in ("IN", "SL") * DEEPEST], f"at most {DEEPEST} nodes inside one another"),
    ],
)
def test_well_formed_says_what_is_wrong(spans, message):
    spans = [Span(*span) for span in spans]
    assert message in well_formed(spans)
    with pytest.raises(ValueError, match=re.escape(message)):
        write_tree("123456789", spans)
    with pytest.raises(ValueError, match=re.escape(message)):
        draw_tree("123456789", spans)


def test_writes_decoupled_brackets_in_the_order_of_the_text():
    text = "at 8 pm add  my Mum"
    written = write_tree(text, read_tree(text, NESTED))
    assert written == "[IN:ADD [SL:WHEN at 8 pm ] [SL:WHO [IN:FIND [SL:OWNER my ] [SL:RELATION Mum ] ] ] ]"


def test_an_intent_without_slots_keeps_its_words():
    brackets = "[IN:GO [SL:TO [IN:HOME home ] ] ]"
    assert write_tree("drive home", read_tree("drive home", brackets)) == brackets


def test_draws_a_branch_for_each_node():
    text = "Add my Mum [b]now[/b] at 8 pm"
    console = Console(width=60, force_terminal=False)
    with console.capture() as capture:
        console.print(draw_tree(text, read_tree(text, NESTED)))
    assert capture.get().splitlines() == [
        "IN:ADD",
        "├── SL:WHO",
        "│   └── IN:FIND",
        "│       ├── SL:OWNER  my",
        "│       └── SL:RELATION  Mum",
        "└── SL:WHEN  at 8 pm",
    ]


WORDS = ["a", "b", "tea", "é", "६", "พรุ่ง", "?", "IN:"]


@st.composite
def trees(draw):
    """A text, and brackets over its words in their order."""
    cut = draw(st.permutations(WORDS))[: draw(st.integers(1, len(WORDS)))]

    def intent(words, depth):
        parts = []
        while words:
            n = draw(st.integers(1, len(words)))
            head, words = words[:n], words[n:]
            if draw(st.booleans()):
                nested = depth < 3 and draw(st.booleans())
                inner = intent(head, depth + 1) if nested else " ".join(head)
                parts.append(f"[SL:{draw(st.sampled_from('XY'))} {inner} ]")
        if depth and not parts:
            return "[IN:N [SL:Z " + " ".join(words or head) + " ] ]"
        return f"[IN:{draw(st.sampled_from('AB'))} {' '.join(parts)} ]"

    return draw(st.sampled_from([" ", "", "  "])).join(cut), intent(cut, 0)


@given(trees())
def test_what_is_read_and_written_is_read_again(case):
    text, brackets = case
    spans = read_tree(text, brackets)
    assert [span.label for span in spans] == re.findall(r"\[(\S+)", brackets)
    written = write_tree(text, spans)
    assert read_tree(text, written) == spans
    assert write_tree(text, read_tree(text, written)) == written


@given(
    st.text(alphabet="ab [é", max_size=12),
    st.lists(st.sampled_from(["[IN:A", "[SL:X", "]", "a", "b", "ab", "[", "é", "[:", "IN:"]), max_size=14),
)
def test_any_brackets_are_a_tree_or_a_value_error(text, pieces):
    try:
        spans = read_tree(text, " ".join(pieces))
    except ValueError as error:
        assert re.match(r"expected .+\.$", str(error))
    else:
        assert not well_formed(spans)
        assert all(0 <= span.start <= span.end <= len(text) for span in spans)


@given(st.text(max_size=30), st.text(max_size=60))
def test_any_text_is_a_tree_or_a_value_error(text, brackets):
    try:
        assert not well_formed(read_tree(text, brackets))
    except ValueError as error:
        assert str(error).startswith("expected ")

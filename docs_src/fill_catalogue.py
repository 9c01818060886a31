"""Fill the gaps of a catalogue with drafts of a translator who sees no placeholder."""

from collections.abc import Sequence

from rich import print

from metaglot.bitext.placeholders import hide, restore
from metaglot.bitext.po import Message
from metaglot.bitext.po_filling import fill

WORDS = {"Hello, ⟨0⟩": "Habari, ⟨0⟩", "⟨0⟩ of ⟨1⟩": "⟨0⟩ kati ya zote"}


def translate(messages: Sequence[Message]) -> list[str]:
    """Return a draft of each message, and none of what there are no words for."""
    hidden = [hide(message.source) for message in messages]
    return [restore(WORDS.get(each.text, ""), each.slots) for each in hidden]


print(fill("sw.po", translate))

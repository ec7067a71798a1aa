"""Texts for the proof: real sentences of different lengths and scripts."""

from __future__ import annotations

_PARAGRAPH = (
    "The lighthouse keeper climbed the stairs twice a day, once at dusk to light the lamp and once at dawn to put it "
    "out. In winter the wind came straight off the water and found every gap in the masonry. He wrote down the time of "
    "each ship that passed, its heading and the color of its flag, although nobody had asked him to for years. "
)
_SENTENCES = (
    "a",
    "Yes.",
    "How long does a transfer to another bank take?",
    "The encoder reads the whole input at once; the decoder writes one token after the other.",
    "Temperatures fell to -12.5 °C overnight, and 3,400 households lost power.",
    "Ich hätte gern zwei Fahrkarten nach Köln, bitte.",
    "¿Dónde está la biblioteca más cercana?",
    "Les élèves ont répondu à toutes les questions sauf la dernière.",
    "Все счастливые семьи похожи друг на друга.",
    "السلام عليكم، كيف يمكنني مساعدتك؟",
    "שלום, מה שלומך היום?",
    "这家餐厅的面条非常好吃。",
    "東京から京都まで新幹線で二時間ほどかかります。",
    "मुझे कल सुबह दिल्ली जाना है।",
    "def area(radius): return 3.14159 * radius ** 2",
    "Wait... what?! 🤖🚀 I ❤️ it.",
)


def sample_texts() -> list[str]:
    """Short and middling texts, from one letter to a paragraph."""
    return [*_SENTENCES, _PARAGRAPH, _PARAGRAPH[: len(_PARAGRAPH) // 2]]


def long_text(characters: int) -> str:
    """Running text of at least ``characters`` characters."""
    text = _PARAGRAPH + " ".join(_SENTENCES)
    return (text * (characters // len(text) + 1))[:characters]

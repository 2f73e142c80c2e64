"""What the captions of the digits say."""

from typing import NamedTuple

import numpy as np

from rl_jax.data import tokens

NAMES = (
    *("zero", "one", "two", "three", "four"),
    *("five", "six", "seven", "eight", "nine"),
)
SEEN = (
    "a photo of the digit {}",
    "the number {} written by hand",
    "a small grey image of the numeral {}",
    "someone wrote the figure {} here",
    "this is the handwritten digit {}",
    "{}",
)
UNSEEN = ("a picture of the number {}", "here someone drew a {}")
LENGTH = 10


class DigitPrompts(NamedTuple):
    """Texts that name the ten digits.

    Attributes:
      seen: int32 [10, 6, 10], the captions that training uses.
      unseen: int32 [10, 2, 10], two more that it never sees; two of their words,
        "picture" and "drew", are in no caption.
    """

    seen: np.ndarray
    unseen: np.ndarray


def vocabulary() -> tuple[str, ...]:
    """The special tokens, the ten names and the words of all templates."""
    rest = {word for text in SEEN + UNSEEN for word in text.split() if word != "{}"}
    return (*tokens.SPECIAL, *NAMES, *sorted(rest))


def digit_prompts() -> DigitPrompts:
    """Tokens for zero-shot classification of `digits(captions=True)`.

    Returns:
      The prompts of each class by templates seen in training, and by unseen ones.
    """
    tokenizer = tokens.words(vocabulary())
    return DigitPrompts(
        *(
            tokens.class_prompts(tokenizer, NAMES, templates, length=LENGTH)
            for templates in (SEEN, UNSEEN)
        )
    )

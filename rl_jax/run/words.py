"""What hidden words are guessed with from their frequency alone, beside BERT."""

from typing import Any

import numpy as np

from rl_jax.methods.bert import numbers_chosen
from rl_jax.run.held_out import rows_measured
from rl_jax.run.split import Part, rows_of
from rl_jax.run.trained import Run


def by_frequency(run: Run, fit_part: Part, scored_part: Part) -> dict[str, Any] | None:
    """Cross-entropy and accuracy without looking at the text around a word.

    p_w = (1 + n_w) / Σ_v (1 + n_v) of the n_w times that w stands in the texts learnt
    from; of the words of the texts on which the method's own loss is measured, as often
    as each is hidden on average,

        loss = E[−log p_w]   (nats)      accuracy = E[w = argmax p]

    A model below that loss has learnt from the words around (Devlin et al. 2019,
    arXiv:1810.04805, hide as many of each text).

    Args:
      run: as trained.
      fit_part: the texts whose words are counted.
      scored_part: the scored texts.

    Returns:
      `{"loss", "accuracy", "texts"}`; None for other methods than `bert`, and where
      there is no batch of scored texts or no word in them.
    """
    rows = rows_measured(run, scored_part)
    if run.recipe.method.factory != "bert" or not rows:
        return None
    arguments = run.recipe.method.arguments
    first = arguments["first_word"]
    texts = rows_of(scored_part).fields["tokens"][:rows]
    learnt = np.asarray(rows_of(fit_part).fields["tokens"]).ravel()
    times = np.bincount(learnt, minlength=arguments["vocab_size"])[first:] + 1.0
    log_p = np.log(times / times.sum())

    words = texts >= first
    lengths = words.sum(1)
    chosen = numbers_chosen(texts.shape[1], arguments["mask_probability"])[lengths]
    # Of each text its words are as likely to be hidden.
    weight = words * (np.minimum(chosen, lengths) / np.maximum(lengths, 1))[:, None]
    if not weight.sum():
        return None
    word = np.where(words, texts - first, 0)
    return {
        "loss": float(np.average(-log_p[word], weights=weight)),
        "accuracy": float(np.average(word == times.argmax(), weights=weight)),
        "texts": rows,
    }


def said(found: dict[str, Any], measured: dict[str, float]) -> str:
    """The line that sets the method's own numbers beside it."""
    parts = [
        f"{name} {measured[key]:.3f}, by its frequency alone {found[key]:.3f}"
        for name, key in (("cross-entropy (nats)", "loss"), ("accuracy", "accuracy"))
        if key in measured
    ]
    return f"a hidden word of {found['texts']:,} scored texts: {'; '.join(parts)}"

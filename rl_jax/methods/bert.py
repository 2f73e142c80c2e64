"""BERT: words hidden in a text, from the words around them."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from rl_jax import networks
from rl_jax.errors import UsageError
from rl_jax.losses import weighted_cross_entropy
from rl_jax.methods import inputs, noise
from rl_jax.methods.micro_batch import micro_batched
from rl_jax.types import MASK, PADDING, Aux, Method, Network

FIRST_WORD = MASK + 1


def bert(
    encoder: Network,
    *,
    vocab_size: int,
    mask_probability: float = 0.15,
    mask_token: int = MASK,
    first_word: int = FIRST_WORD,
    log_unigram: tuple[float, ...] | None = None,
    micro_batch: int | None = None,
) -> Method:
    """Masked language model (Devlin et al. 2019, arXiv:1810.04805).

    Of the n words of a text, 15 % are chosen, max(1, round(0.15·n)) as the authors have
    it; of these 80 % become the mask token, 10 % another word at random, 10 % stay. The
    loss is the cross-entropy of the words chosen, no others, over the batch. The output
    layer is the embedding of the tokens and a bias. There is no second sentence to
    predict.

    Args:
      encoder: tokens [B, L] to [B, L, D]: `networks.text_transformer` with pool="none"
        and the same vocabulary.
      vocab_size: V, number of different tokens. 0 is padding, 1 is an unknown word.
      mask_probability: share of the words chosen, in (0, 1].
      mask_token: put where a word is hidden.
      first_word: tokens below are special; they are neither chosen nor put in for a
        word.
      log_unigram: V values where the output bias starts, such as the logarithm of the
        share of each token in the data; None: 0.
      micro_batch: texts whose activations of the encoder are held at a time, as in
        `simclr`; None: all.

    Returns:
      A method for `tokens` [B, L]. `encode` names `h`, the mean over all tokens that
      are not padding. Metrics: `accuracy` of the words chosen, `hidden_loss` of those
      behind the mask token only.

    Raises:
      UsageError: for values out of range; while tracing, for tokens that are not [B, L]
        or an encoder without an output for each token or of another vocabulary; as
        `micro_batched` does.
    """
    if not 0 < mask_probability <= 1:
        raise UsageError(
            f"bert: mask_probability must be in (0, 1], got {mask_probability}"
        )
    if not 0 < mask_token < first_word < vocab_size:
        raise UsageError(
            "bert: expected 0 < mask_token < first_word < vocab_size, got "
            f"{mask_token}, {first_word} and {vocab_size}"
        )
    if log_unigram is not None and len(log_unigram) != vocab_size:
        raise UsageError(
            f"bert: log_unigram must have vocab_size={vocab_size} values, got "
            f"{len(log_unigram)}"
        )

    if micro_batch is not None:
        encoder = micro_batched(encoder, micro_batch)

    def hide(rng, tokens):
        """The text [L] as the encoder sees it, places to predict, and which count."""
        rng_place, rng_kind, rng_word = jax.random.split(rng, 3)
        word = tokens >= first_word
        drawn = jax.random.uniform(rng_place, tokens.shape)
        most = math.ceil(mask_probability * len(tokens))
        places = jnp.argsort(jnp.where(word, drawn, 2.0))[:most]
        count = jnp.sum(word)
        chosen = jnp.asarray(numbers_chosen(len(tokens), mask_probability))[count]
        counts = jnp.arange(most) < jnp.minimum(chosen, count)

        kind = jax.random.uniform(rng_kind, places.shape)
        other = jax.random.randint(rng_word, places.shape, first_word, vocab_size)
        new = jnp.where(kind < 0.9, other, tokens[places])
        new = jnp.where(kind < 0.8, mask_token, new)
        new = jnp.where(counts, new, tokens[places])
        return tokens.at[places].set(new), places, counts

    def init(rng, batch):
        tokens = inputs.texts("bert", batch)
        params, state = encoder.init(rng, tokens)
        run = functools.partial(encoder.apply, train=False)
        y, _ = jax.eval_shape(run, params, state, tokens)
        if y.ndim != 3:
            raise UsageError(
                "bert: encoder must give an output for each token, [B, L, D], got "
                f'{y.shape}; use a text_transformer with pool="none"'
            )
        size = len(networks.token_embedding(params))
        if size != vocab_size:
            raise UsageError(
                f"bert: encoder has a vocabulary of {size} tokens, the method of "
                f"vocab_size={vocab_size}; give both the same"
            )
        bias = [0.0] * vocab_size if log_unigram is None else log_unigram
        return {"encoder": params, "bias": jnp.asarray(bias, jnp.float32)}, state

    def loss(params, state, batch, rng):
        tokens = inputs.texts("bert", batch)
        rngs = jax.vmap(functools.partial(jax.random.fold_in, rng))(batch["index"])
        seen, places, counts = jax.vmap(hide)(rngs, tokens)
        (rng_encoder,) = noise.keys(rng, 1)
        y, state = encoder.apply(
            params["encoder"], state, seen, train=True, rng=rng_encoder
        )
        chosen = jnp.take_along_axis(y, places[..., None], axis=1)
        embedding = networks.token_embedding(params["encoder"])
        logits = chosen @ embedding.T + params["bias"][None, None]

        word = jnp.take_along_axis(tokens, places, axis=1)
        hidden = jnp.take_along_axis(seen, places, axis=1) == mask_token
        value = weighted_cross_entropy(logits, word, counts)
        right = jnp.sum((logits.argmax(-1) == word) & counts)
        metrics = {
            "accuracy": right / jnp.maximum(jnp.sum(counts), 1),
            "hidden_loss": weighted_cross_entropy(logits, word, counts & hidden),
        }
        features = {"h": networks.mean_of_tokens(y, seen != PADDING)[:, None]}
        return value, Aux(state, metrics, jax.lax.stop_gradient(features))

    def encode(params, state, batch):
        tokens = inputs.texts("bert", batch)
        y, _ = encoder.apply(params["encoder"], state, tokens, train=False)
        h = networks.mean_of_tokens(y, tokens != PADDING)
        return {"h": h} | networks.layers_of(encoder, params["encoder"], state, tokens)

    return Method(init, loss, encode)


def numbers_chosen(length: int, probability: float) -> np.ndarray:
    """max(1, round(p n)) for n = 0 … length words, int32 [length + 1].

    In float64 and half to even, as the authors round: float32 puts some halves on the
    other side.
    """
    return np.maximum(np.round(probability * np.arange(length + 1)), 1).astype(np.int32)

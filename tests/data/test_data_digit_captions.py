"""The digits with captions, and without them as before."""

import numpy as np
import pytest

from rl_jax.data import digit_prompts, digits, stream, words
from rl_jax.data.digit_captions import NAMES, SEEN, UNSEEN


@pytest.fixture(scope="module")
def source():
    return digits(captions=True)


def test_images_labels_and_split_are_those_without_captions(source):
    plain = digits()
    assert plain.fields == {}
    assert plain.vocabulary == ()
    assert plain.prompts is None
    assert plain.unseen_prompts is None
    for one, two in ((source, plain), (source.held_out, plain.held_out)):
        np.testing.assert_array_equal(one.images, two.images)
        np.testing.assert_array_equal(one.labels, two.labels)
        assert one.digest() != two.digest()


def test_digest_of_the_plain_digits():
    # Runs made before there were captions compare with these.
    assert digits().digest() == "1b567bb157277308ee7b2358dced9ccb"
    assert digits().held_out.digest() == "1575b1328d84f287f82975a29c33e67c"


def test_captions_say_which_digit_it_is(source):
    tokenizer = words(source.vocabulary)
    for part in (source, source.held_out):
        assert part.fields["tokens"].shape == (part.size, len(SEEN), 10)
        assert part.fields["tokens"].dtype == np.int32
        assert not part.fields["tokens"].flags.writeable
        for i in range(0, part.size, 50):
            name = NAMES[part.labels[i]]
            said = [tokenizer.decode(row) for row in part.fields["tokens"][i]]
            assert said == [template.format(name) for template in SEEN]


def test_prompts(source):
    prompts = digit_prompts()
    assert prompts.seen.shape == (10, 6, 10)
    assert prompts.unseen.shape == (10, 2, 10)
    np.testing.assert_array_equal(source.prompts, prompts.seen)
    np.testing.assert_array_equal(source.held_out.prompts, prompts.seen)
    np.testing.assert_array_equal(source.unseen_prompts, prompts.unseen)
    np.testing.assert_array_equal(source.held_out.unseen_prompts, prompts.unseen)
    tokenizer = words(source.vocabulary)
    for label, name in enumerate(NAMES):
        for template, row in zip(UNSEEN, prompts.unseen[label], strict=True):
            assert tokenizer.decode(row) == template.format(name)


def test_unseen_templates_are_in_no_caption(source):
    shown = {row.tobytes() for row in source.fields["tokens"].reshape(-1, 10)}
    unseen = {row.tobytes() for row in digit_prompts().unseen.reshape(-1, 10)}
    assert not shown & unseen
    assert len(shown) == 60
    assert len(unseen) == 20
    # As said where they are described.
    new = set(np.unique(digit_prompts().unseen)) - set(np.unique(source.prompts))
    assert {source.vocabulary[i] for i in new} == {"picture", "drew"}


def test_every_word_is_known_and_used(source):
    used = np.unique(np.concatenate([p.ravel() for p in digit_prompts()]))
    assert set(used) == set(range(len(source.vocabulary))) - {1, 2}


def test_batches(source):
    with stream(source, seed=0, batch_size=8, num_steps=1) as batches:
        batch = next(batches)
    assert set(batch) == {"index", "image", "label", "tokens"}
    np.testing.assert_array_equal(batch["tokens"], digit_prompts().seen[batch["label"]])

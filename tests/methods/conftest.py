"""Which tests of the contract are quick: those that compile most, of one of a kind."""

import pytest

HEAVY = ("test_eight_devices_equal_one", "test_resumes_bit_for_bit")
ONE_OF_A_KIND = {
    *("simclr", "moco", "byol", "dino", "vae", "mae", "supervised", "clip"),
    *("bert", "cpc", "jigsaw"),
}
"""Views, a queue, a moving target, a centre, noise, masks, labels, pairs, tokens and
parts; the states of the others are made of the same."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.name != "test_contract.py" or item.originalname not in HEAVY:
            continue
        if item.callspec.params["case"] not in ONE_OF_A_KIND:
            item.add_marker(pytest.mark.slow)

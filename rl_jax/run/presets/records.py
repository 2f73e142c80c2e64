"""Settings for vectors, sequences and text."""

from rl_jax.run.presets.preset import Change, Preset


def records() -> Preset:
    """For vectors, sequences and text: a multi-layer perceptron, no augmentation."""
    return Preset(
        augment="none",
        optimizer="adamw",
        networks={"encoder": "mlp"},
        arguments={"optimizer": {"learning_rate": 1e-3, "warmup_steps": 50}},
        steps=1000,
        batch_size=128,
        log_every=10,
        checkpoint_every=100,
        methods={
            "bert": Change(
                networks={"encoder": "text_transformer"},
                arguments={
                    "encoder": {"pool": "none", "depth": 1},
                    "optimizer": {"learning_rate": 2e-3, "warmup_steps": 100},
                },
                steps=500,
                batch_size=32,
            ),
            "simcse": Change(
                networks={"encoder": "text_transformer"},
                arguments={
                    "encoder": {"depth": 1, "dropout": 0.1},
                    "projector": {"hidden": 64, "out": 64, "batch_norm": False},
                    "simcse": {"temperature": 0.2},
                },
                steps=500,
                batch_size=64,
            ),
            "cpc": Change(arguments={"encoder": {"batch_norm": False}}),
            "autoencoder": Change(arguments={"encoder": {"out": 16}}),
            "ivae": Change(
                networks={"decoder": "mlp_decoder"},
                arguments={
                    "encoder": {"features": (64, 64), "out": 64, "batch_norm": False},
                    "decoder": {"features": (64, 64)},
                    "optimizer": {"learning_rate": 3e-3},
                },
                steps=4000,
                batch_size=256,
            ),
            "vae": Change(networks={"decoder": "mlp_decoder"}),
            "info_nce": Change(arguments={"info_nce": {"positives": "temporal"}}),
        },
    )


def strokes() -> Preset:
    """For digits read row by row: eight steps, so windows are short."""
    preset = records()
    short = {
        "cpc": {"window": 1},
        "info_nce": {"window": 2, "gap": (0, 2)},
    }
    methods = dict(preset.methods)
    for method, values in short.items():
        change = methods[method]
        own = change.arguments.get(method, {}) | values
        arguments = change.arguments | {method: own}
        methods[method] = change._replace(arguments=arguments)
    return preset._replace(methods=methods)

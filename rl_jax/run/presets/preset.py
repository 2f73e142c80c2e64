"""What a preset is made of."""

from typing import Any, NamedTuple


class Change(NamedTuple):
    """What a preset has otherwise for one method.

    Attributes:
      augment, optimizer: names of factories; None: those of the preset.
      networks: names of factories by role, those that differ.
      arguments: by part; where the part's factory differs, all of them.
      steps, batch_size: None: those of the preset.
      short: arguments by part, too, of runs that are too short for the whole warm-up.
    """

    augment: str | None = None
    optimizer: str | None = None
    networks: dict[str, str] = {}
    arguments: dict[str, dict[str, Any]] = {}
    steps: int | None = None
    batch_size: int | None = None
    short: dict[str, dict[str, Any]] = {}


class Preset(NamedTuple):
    """Names of factories and the arguments that differ from their own defaults.

    Attributes:
      augment, optimizer: names of factories.
      networks: names of factories by role; where a role has one factory only, no name
        is needed.
      arguments: by part, what to pass instead of a factory's default; the name of a
        method gives that method's.
      steps: optimizer steps.
      batch_size: examples of one step.
      log_every, checkpoint_every: in steps.
      methods: what is otherwise for some methods.
      vit: what is otherwise where a method that has another encoder is given a vision
        transformer; by method, OTHERS for all that are not named.
      tuned: what is otherwise for `supervised` where another run trained its encoder,
        by the encoder's factory.
      short: as of a change.
    """

    augment: str
    optimizer: str
    networks: dict[str, str]
    arguments: dict[str, dict[str, Any]]
    steps: int
    batch_size: int
    log_every: int
    checkpoint_every: int
    methods: dict[str, Change] = {}
    vit: dict[str, Change] = {}
    tuned: dict[str, Change] = {}
    short: dict[str, dict[str, Any]] = {}


OTHERS = "others"

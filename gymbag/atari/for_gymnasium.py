"""The Atari env as Gymnasium's, and what its ids are registered as."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
from gymnasium.envs.registration import EnvSpec

from gymbag.atari import environment, registration


class RunSpec(EnvSpec):
    """The spec of an id, which ends in the number of a run; that is no version, so none is out of date."""

    def __post_init__(self) -> None:
        """Tell the library what to know the id by."""
        self.namespace, self.name, self.version = None, registration.name_spec(self.id), None


class AtariEnv(environment.AtariMethods, gymnasium.Env[Any, Any]):
    """Plays an Atari game, by default exactly as the agents of the DQN Replay data did.

    Observations are grey frames, (84, 84) uint8; the actions are the game's minimal set, in ALE's order.
    `info` has "lives", and "episode_frame_number" and "frame_number", which count the frames of the emulator.
    A step that ends the game returns an observation that means nothing; the data does not have it.

    `experience` is the data, an `Experience`; `get_dataset` and `open_reader` are its own.

    Args:
        game: Its name, such as "space-invaders" or "SpaceInvaders".
        run: Which of the five runs of the data to load, 1 to 5; v0 to v4 in the ids.
        epochs: The first and the last to load, 0 to 50, where (1, 1) is "mixed" in the ids, (10, 10)
            "medium" and (50, 50) "expert".
        stack: Whether an observation is the last four frames, (4, 84, 84), the newest last.
        sticky_action: Whether the game repeats the action before instead, with a probability of 0.25 in
            each of its frames. True by default.
        clip_reward: Whether to clip rewards to [-1, 1]. True by default.
        terminal_on_life_loss: Whether losing a life terminates the episode. The game goes on if it is
            stepped on; `reset` begins a new one.
        render_mode: "human" for a window, "rgb_array" to have `render` return the screen in colour.
        rom_path: A ROM to play instead of ale-py's, such as the one that the data was made with.
        d4rl_defaults: Whether to play as d4rl-atari's envs do, which differs from the data:

            ====================  ===================  ===========================
            ..                    the data's           d4rl-atari's
            ====================  ===================  ===========================
            sticky actions        yes                  no
            rewards               clipped              the game's own
            at a reset            nothing              1 to 30 no-ops, at random
            stack after a reset   zeros and the frame  the frame four times
            truncated after       27,000 steps         108,000 frames, with no-ops
            ====================  ===================  ===========================

            What `sticky_action` and `clip_reward` say comes before it.
        replay_logs: Folder with Dopamine's files; for this and what follows see `Experience`.
        dataset_dir: Folder with d4rl-atari's files, to which files are downloaded and converted, too.
        mirror: URL of a server with Dopamine's files.
        rl_unplugged: Folder or URL with the files of RL Unplugged.

    Raises:
        ChoiceError: There is no such game, run, epoch or render mode.
        PlaceError: A folder does not exist, or a URL is none that can be used.
        UnknownArgumentError: There is no such keyword argument.
        RomError: The file at `rom_path` is not the game's ROM.
        MissingExtraError: ale-py or OpenCV is not installed.

    >>> env = AtariEnv("breakout", stack=True)
    >>> observation, info = env.reset(seed=1)
    >>> observation.shape, bool(observation[:3].any()), info["lives"]
    ((4, 84, 84), False, 5)
    """

    spaces: ClassVar[Any] = gymnasium.spaces

"""Playing a game as the agents of the DQN Replay data did: the part that does not depend on a gym library.

A step holds an action for four frames of the game; what is seen is the maximum of the last two, in grey and
made smaller. This is Dopamine's preprocessing (https://github.com/google/dopamine, atari_lib.py):

    frames of the game      f1   f2   f3   f4
    what is seen                      max(f3, f4) -> 84 x 84

Where a step ends the game, its last frames do not count, as the screen may show anything by then: what is
seen is mostly what was seen before. The data holds no such frame.
"""

from __future__ import annotations

import inspect
import os
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from gymbag.atari.epoch import FRAME_SHAPE, STACK_FRAMES, STEPS_LIMIT
from gymbag.atari.games import as_integer, suggest
from gymbag.atari.roms import find_rom, import_ale
from gymbag.errors import ChoiceError, MissingExtraError, RecordingError, UnknownArgumentError

if TYPE_CHECKING:
    from gymbag.storage.hdf5_reader import HDF5Reader

_FRAME_SKIP = 4
_STICKY_PROBABILITY = 0.25
# d4rl-atari's own defaults. Its ids are limited to so many steps, and the gym env inside to as many frames.
_MOST_NOOPS = 30
_D4RL_LIMIT = 108_000


class AtariMethods:
    """An Atari env but for its library, which `for_gymnasium` and `for_gym` add; see there."""

    #: The spaces of the library.
    spaces: ClassVar[Any]
    np_random: Any

    # The game runs at 60 frames a second, of which a step takes four.
    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["human", "rgb_array"], "render_fps": 15}

    def __init__(
        self,
        game: str,
        run: int = 1,
        epochs: tuple[int, int] = (1, 1),
        *,
        stack: bool = False,
        sticky_action: bool | None = None,
        clip_reward: bool | None = None,
        terminal_on_life_loss: bool = False,
        render_mode: str | None = None,
        rom_path: str | os.PathLike[str] | None = None,
        d4rl_defaults: bool = False,
        replay_logs: str | os.PathLike[str] | None = None,
        dataset_dir: str | os.PathLike[str] | None = None,
        mirror: str | None = None,
        rl_unplugged: str | os.PathLike[str] | None = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            found = next(iter(unknown))
            names = [name for name in inspect.signature(AtariMethods).parameters if name != "unknown"]
            raise UnknownArgumentError(
                f"expected keyword arguments of {', '.join(names)}; found {found!r}{suggest(found, names)}"
            )
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ChoiceError(f"expected render_mode 'human', 'rgb_array' or None, found {render_mode!r}")
        from gymbag.atari.experience import Experience  # which takes longer to import than all the rest

        self.experience = Experience(
            game,
            run,
            epochs,
            replay_logs=replay_logs,
            dataset_dir=dataset_dir,
            mirror=mirror,
            rl_unplugged=rl_unplugged,
        )
        self.game, self.stack, self.render_mode = self.experience.game, stack, render_mode
        self._clip_reward = not d4rl_defaults if clip_reward is None else clip_reward
        self._terminal_on_life_loss = terminal_on_life_loss
        self._d4rl_defaults = d4rl_defaults
        self._steps_limit = _D4RL_LIMIT if d4rl_defaults else STEPS_LIMIT
        sticky = not d4rl_defaults if sticky_action is None else sticky_action

        ale_py, self._cv2 = import_ale(), _import_cv2()
        self._rom = find_rom(self.game, rom_path)
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self.ale = ale_py.ALEInterface()
        self.ale.setFloat("repeat_action_probability", _STICKY_PROBABILITY if sticky else 0.0)
        if d4rl_defaults:
            self.ale.setInt("max_num_frames_per_episode", _D4RL_LIMIT)
        if render_mode == "human":
            self.ale.setBool("display_screen", True)
            self.ale.setBool("sound", True)
        self._begin_game(None)

        self._actions = self.ale.getMinimalActionSet()
        # The two that are seen of a step's frames. The first also holds what was seen last.
        self._screens = [np.zeros(self.ale.getScreenDims(), np.uint8) for _ in range(2)]
        self._frames = np.zeros((STACK_FRAMES, *FRAME_SHAPE), np.uint8)
        self._playing, self._steps, self._lives = False, 0, 0
        self.action_space = self.spaces.Discrete(len(self._actions))
        self.observation_space = self.spaces.Box(
            0, 255, self._frames.shape if stack else FRAME_SHAPE, np.uint8
        )

    def _begin_game(self, seed: int | None) -> None:
        """Load the game, as ALE takes a seed only then; with ale-py's own env, a seed gives the same game."""
        _, ale_seed = np.random.SeedSequence(seed).generate_state(2).view(np.int32)
        self.ale.setInt("random_seed", int(ale_seed))
        self._rom.load_into(self.ale)

    def get_dataset(
        self, *, compat: bool = False, lazy: bool = False, unclipped_rewards: bool = False
    ) -> dict[str, Any]:
        """Return the data of the run's epochs, in stacks if the env's observations are; see `Experience`."""
        return self.experience.get_dataset(
            stack=self.stack, compat=compat, lazy=lazy, unclipped_rewards=unclipped_rewards
        )

    def open_reader(self, epoch: int | None = None, *, unclipped_rewards: bool = False) -> HDF5Reader:
        """Open an epoch as a recording; see `Experience`."""
        return self.experience.open_reader(epoch, unclipped_rewards=unclipped_rewards)

    def get_action_meanings(self) -> list[str]:
        """Return the name of each action, such as "NOOP" or "UPFIRE"."""
        return [action.name for action in self._actions]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin a new game, also where the last step only lost a life.

        Raises:
            RecordingError: The env is closed.
        """
        if self.ale is None:
            raise RecordingError("this env is closed; make a new one")
        super().reset(seed=seed)  # type: ignore[misc]  # of the library's Env, the second base
        if seed is not None:
            self._begin_game(seed)
        self.ale.reset_game()
        if self._d4rl_defaults:
            for _ in range(self.np_random.integers(1, _MOST_NOOPS + 1)):
                self.ale.act(self._actions[0])
                if self.ale.game_over():
                    self.ale.reset_game()
        self._playing, self._steps, self._lives = True, 0, self.ale.lives()
        self.ale.getScreenGrayscale(self._screens[0])
        self._screens[1].fill(0)
        self._frames.fill(0)
        observation = self._observe()
        if self.stack and self._d4rl_defaults:
            self._frames[:] = self._frames[-1]
            observation = self._frames.copy()
        return observation, self._inform()

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Play four frames with one action, fewer if the game ends.

        Raises:
            RecordingError: No game is under way.
            ChoiceError: There is no such action.
        """
        if not self._playing:
            raise RecordingError("expected reset() before step(): no game is under way")
        number = as_integer(action)
        if not 0 <= number < len(self._actions):
            raise ChoiceError(f"expected an action from 0 to {len(self._actions) - 1}, found {action!r}")
        ale, reward, over, lost = self.ale, 0.0, False, False
        for frame in range(_FRAME_SKIP):
            reward += ale.act(self._actions[number])
            over = ale.game_over()
            if self._terminal_on_life_loss:
                lives = ale.lives()
                lost, self._lives = lives < self._lives, lives
            if over or lost:
                break
            if frame >= _FRAME_SKIP - 2:
                ale.getScreenGrayscale(self._screens[frame - _FRAME_SKIP])
        self._steps += 1
        terminated = lost or (over and ale.game_over(with_truncation=False))
        truncated = self._steps >= self._steps_limit or (over and ale.game_truncated())
        self._playing = not over and not truncated
        if self._clip_reward:
            reward = min(max(reward, -1.0), 1.0)
        return self._observe(), reward, terminated, truncated, self._inform()

    def _observe(self) -> np.ndarray:
        first, second = self._screens
        np.maximum(first, second, out=first)
        frame: np.ndarray = self._cv2.resize(first, FRAME_SHAPE, interpolation=self._cv2.INTER_AREA)
        if not self.stack:
            return frame
        self._frames[:-1] = self._frames[1:]
        self._frames[-1] = frame
        return self._frames.copy()

    def _inform(self) -> dict[str, Any]:
        return {
            "lives": self.ale.lives(),
            "episode_frame_number": self.ale.getEpisodeFrameNumber(),
            "frame_number": self.ale.getFrameNumber(),
        }

    def render(self) -> np.ndarray | None:
        """Return the screen, (height, width, 3) uint8, with render_mode "rgb_array"; else None."""
        if self.render_mode != "rgb_array" or self.ale is None:
            return None
        screen: np.ndarray = self.ale.getScreenRGB()
        return screen

    def close(self) -> None:
        """Let go of the emulator, and of its window. Closing again does nothing."""
        self.ale, self._playing = None, False


def _import_cv2() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise MissingExtraError(
            f'playing Atari games needs opencv-python-headless: pip install "gymbag[atari]" ({error})'
        ) from error
    return cv2

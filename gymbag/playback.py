"""Replaying recorded episodes as an env does: the part that does not depend on a gym library."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from gymbag import nested
from gymbag.episode import Episode, RecordedOptions, Step, annotate_step
from gymbag.errors import PlaybackError, SpaceError
from gymbag.spaces import Library
from gymbag.storage.base import Reader

#: Episodes to replay: a reader, or any iterable of iterables of steps.
Source = Reader | Iterable[Iterable[Any]]


class Playback:
    """Gives back recorded episodes call by call, in their order or by number.

    Args:
        source: The episodes.
        truncate_unfinished: Whether the last step of an unfinished episode says that it was
            truncated.
    """

    def __init__(self, source: Source, truncate_unfinished: bool = False) -> None:
        self._source = source
        self._truncate_unfinished = truncate_unfinished
        self._episodes: Iterator[Any] = iter(source)
        self._upcoming: Any = next(self._episodes, None)
        self._episode: Any = None
        self._steps: Iterator[Any] = iter(())
        self._next_step: Step | None = None
        self.index = -1

    @property
    def episode_over(self) -> bool:
        """Whether the current episode has no more steps."""
        return self._next_step is None

    @property
    def played_out(self) -> bool:
        """Whether the last episode has been replayed to its last step."""
        return self._upcoming is None and self.episode_over

    def reset(self, options: Mapping[str, Any] | None = None) -> Step:
        """Go to the next episode, or to that of `options["episode"]`, and return its first step.

        `RecordedOptions` choose none: they were meant for the env that was recorded.

        Raises:
            PlaybackError: There is no such episode.
        """
        if options and "episode" in options and not isinstance(options, RecordedOptions):
            self._go_to(options["episode"])
        elif not self.episode_over:
            self._leave_episode()
        if self._upcoming is None:
            raise PlaybackError(
                f"all {self.index + 1} episodes have been played; check env.played_out before reset()"
                + (", or start again with reset(options={'episode': 0})" if self.index >= 0 else "")
            )
        self._episode, self._upcoming = self._upcoming, None
        self.index += 1
        self._steps = iter(self._episode)
        found = next(self._steps, None)
        if found is None:
            self._leave_episode()
            raise PlaybackError(f"episode {self.index} has no steps, not even a reset")
        first = _copy_step(found)
        self._take_step()
        return first

    def _go_to(self, number: Any) -> None:
        if not isinstance(self._source, Reader):
            raise PlaybackError("expected a reader, to choose an episode from; this source only goes on")
        count = len(self._source)
        if not isinstance(number, int | np.integer) or not -count <= number < count:
            raise PlaybackError(f"expected an episode from 0 to {count - 1}, found {number!r}")
        number %= count
        self._episodes = map(self._source.read_episode, range(number, count))
        self._upcoming, self.index = next(self._episodes), number - 1

    def _take_step(self) -> None:
        step = next(self._steps, None)
        # A copy, because the source may use the same buffers for the step after.
        self._next_step = None if step is None else _copy_step(step)
        if step is None:
            self._leave_episode()

    def _leave_episode(self) -> None:
        # Only now is the next episode fetched: a generator may make it while the one before is used up.
        if not isinstance(self._episode, Episode):
            for _ in self._steps:
                pass
        self._upcoming = next(self._episodes, None)
        self._next_step = None

    def step(self) -> tuple[Step, bool, bool]:
        """Return the next step, and whether it terminated and truncated the episode.

        Raises:
            PlaybackError: The episode is over, or no episode was begun.
        """
        step = self._next_step
        if step is None:
            raise PlaybackError(self._why_over())
        self._take_step()
        over = self._next_step is None
        if isinstance(self._episode, Episode):
            terminated = over and self._episode.terminated
            truncated = over and self._episode.truncated
        else:
            terminated, truncated = bool(step.done), False
        if over and self._truncate_unfinished and not terminated:
            truncated = True
        return step, terminated, truncated

    def _why_over(self) -> str:
        if self._episode is None:
            return "expected reset() before step()"
        if isinstance(self._episode, Episode) and not (self._episode.finished or self._truncate_unfinished):
            return (
                f"episode {self.index} was recorded unfinished and has no more steps; call reset() when "
                "env.episode_over, or replay with PlaybackEnv(..., truncate_unfinished=True)"
            )
        return f"episode {self.index} is over; call reset()"


def _copy_step(step: Any) -> Step:
    moment, observation, action, reward, done, info = step
    copied = Step(moment, nested.copy(observation), action, reward, done, nested.copy(info))
    return annotate_step(copied, nested.copy(getattr(step, "annotation", None)))


class PlaybackMethods:
    """A replay env but for its library, which `for_gymnasium` and `for_gym` add; see there."""

    #: The library, and the class of its specs.
    library: ClassVar[Library]
    spec_class: ClassVar[Any]

    #: Tells recorders of a replay to name the data set as it was.
    replays_a_gymbag_recording = True
    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(
        self,
        source: Source,
        observation_space: Any = None,
        action_space: Any = None,
        *,
        render_mode: str | None = None,
        truncate_unfinished: bool = False,
        annotations: bool = False,
    ) -> None:
        # Whoever makes an env from this spec gets a replay of the same source, from its beginning.
        self.spec = self.spec_class(
            id="gymbag/Playback-v0",
            entry_point=lambda **options: type(self)(
                source,
                observation_space,
                action_space,
                truncate_unfinished=truncate_unfinished,
                annotations=annotations,
                **options,
            ),
            nondeterministic=True,
            order_enforce=False,
            disable_env_checker=True,
        )
        if isinstance(source, Reader):
            source = source.in_library(self.library)
            observation_space = source.observation_space if observation_space is None else observation_space
            action_space = source.action_space if action_space is None else action_space
        if observation_space is None or action_space is None:
            raise SpaceError("expected a reader, or observation_space= and action_space= beside the episodes")
        if render_mode not in (None, "rgb_array"):
            raise PlaybackError(f"expected render_mode None or 'rgb_array', found {render_mode!r}")
        self.observation_space, self.action_space = observation_space, action_space
        self.render_mode = render_mode
        self._source = source
        self._playback = Playback(source, truncate_unfinished)
        self._with_annotations = annotations
        self._frame: Any = None

    @property
    def dataset_name(self) -> str | None:
        """Name of the data set that is replayed; recording the replay names its data set so, too."""
        return self._source.name if isinstance(self._source, Reader) else None

    @property
    def episode(self) -> int:
        """Number of the episode that is replayed; -1 before the first reset."""
        return self._playback.index

    @property
    def episode_over(self) -> bool:
        """Whether the current episode has no more steps; also true of one that was recorded unfinished."""
        return self._playback.episode_over

    @property
    def played_out(self) -> bool:
        """Whether the last episode has been replayed to its end."""
        return self._playback.played_out

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin the next episode, or the one given by `options={"episode": number}`; the seed has no effect.

        Raises:
            PlaybackError: There is no such episode.
        """
        super().reset(seed=seed)  # type: ignore[misc]  # of the library's Env, the second base
        first = self._playback.reset(options)
        return self._show(first.observation), first.info or {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Return what was recorded, whatever the action.

        Raises:
            PlaybackError: The episode has no more steps, or `reset` has not been called.
        """
        step, terminated, truncated = self._playback.step()
        info = step.info or {}
        if self._with_annotations:
            info["annotation"] = step.annotation or {}
        return self._show(step.observation), step.reward, terminated, truncated, info

    def _show(self, observation: Any) -> Any:
        if self.render_mode is not None:
            self._frame = nested.copy(observation)
        return observation

    def render(self) -> np.ndarray | None:
        """Return the latest image observation as RGB (height, width, 3) uint8; None without render_mode.

        Grey images are repeated in all three colours; of stacked ones the last is shown; in a dict
        or tuple the first image is.

        Raises:
            PlaybackError: The observations are no images, or there is none yet.
        """
        if self.render_mode is None:
            return None
        for leaf in nested.leaves(self._frame):
            image = _as_image(leaf)
            if image is not None:
                return image
        raise PlaybackError(
            "expected image observations, uint8 (height, width[, 1 or 3]) or stacked (n, height, width), "
            f"found {'none yet; call reset() first' if self._frame is None else self.observation_space}"
        )

    def get_dataset(self, dtype: Any = None, infos: Any = False, annotations: Any = False) -> dict[str, Any]:
        """Flatten the recording that is replayed; see `Reader.get_dataset`.

        Raises:
            PlaybackError: The source is not a reader.
        """
        if not isinstance(self._source, Reader):
            raise PlaybackError("expected a reader as the source of the replay, to flatten it")
        return self._source.get_dataset(dtype, infos, annotations)

    def close(self) -> None:
        """Close the reader that is replayed, if it is one."""
        if isinstance(self._source, Reader):
            self._source.close()


def _as_image(leaf: Any) -> np.ndarray | None:
    if not isinstance(leaf, np.ndarray) or leaf.dtype != np.uint8 or leaf.ndim not in (2, 3):
        return None
    if leaf.ndim == 3 and leaf.shape[-1] == 3:
        return leaf.copy()
    grey = leaf if leaf.ndim == 2 else leaf[..., 0] if leaf.shape[-1] == 1 else leaf[-1]
    return np.repeat(grey[..., np.newaxis], 3, axis=-1)

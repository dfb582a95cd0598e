"""Recording what an env does: the wrapper that passes every reset and step on to a writer.

Here is all of it that does not depend on a gym library; `for_gymnasium` and `for_gym` add the rest. The
wrapper changes nothing of what the env is given or returns. It has three states:

    between episodes   at first, and after an episode has ended: `step` raises, and the env is not touched
    in an episode      after `reset`, until a step is terminated or truncated, or fails
    closed             after `close`: `reset` and `step` raise; closing again is harmless
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata as package_metadata
from typing import Any

from gymbag import json_values, nested
from gymbag.errors import RecordingError, SpaceError
from gymbag.infos import InfoChoice, InfoFilter
from gymbag.spaces import describe_space, library_of
from gymbag.storage.base import Header, RecordingState, Writer
from gymbag.storage.hdf5_writer import HDF5Writer

_PACKAGES = ("gymbag", "gymnasium", "gym", "numpy", "h5py", "ale-py", "mujoco")


class RecordingWrapper:
    """Wraps an env so that everything that happens is recorded.

    A gymnasium env becomes a `gymnasium.Wrapper`, a gym env a `gym.Wrapper`. What `reset` and
    `step` are given and return is passed through untouched. Attributes of the env are to be had
    from the wrapper, too.

    Recording an env that is recorded already, to another file or to memory, gives two full
    recordings.

    Args:
        env: The env, of gymnasium or of gym 0.26.
        writer: Where to record to, such as `HDF5Writer("file.h5")` or `MemoryWriter()`.
        name: Name of the data set; by default the id of the env's spec, else the name of its class.
        description: What you want to remember of where the data comes from.
        metadata: Whatever else to keep: any value an info can hold.
        info: Which infos to record: True for all, False for none, or a list of keys.
        clock: Returns the time, in Unix seconds.

    Raises:
        SpaceError: A space of the env cannot be stored.
        StorageError: The writer cannot take the data. Nothing has been changed then.
    """

    env: Any

    def __new__(cls, env: Any, *args: Any, **options: Any) -> Any:
        """Choose the wrapper of the env's own library."""
        if not hasattr(env, "step") or isinstance(env, type) or hasattr(env, "single_action_space"):
            raise SpaceError(
                f"expected an env of gymnasium or gym, found {env!r}; of a vector env, wrap each env inside"
            )
        # By its name, as only the library's own module may import the library.
        for_library = importlib.import_module(f"gymbag.for_{library_of(env)}").RecordingWrapper
        chosen: Any = cls
        return object.__new__(_combine(chosen, for_library))

    def __init__(
        self,
        env: Any,
        writer: Writer,
        *,
        name: str | None = None,
        description: str = "",
        metadata: Mapping[str, Any] | None = None,
        info: InfoChoice = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(env)  # type: ignore[call-arg]  # of the library's Wrapper, the second base
        self._choose_info = InfoFilter(info)
        writer.begin(
            Header(
                name or dataset_name(env),
                describe_space(env.observation_space),
                describe_space(env.action_space),
                description,
                _describe_spec(env.spec),
                dict(_find_versions()),
                dict(metadata or {}),
            )
        )
        self._writer = writer
        self._clock = clock
        self._state = RecordingState()
        self._recorded_step = writer.recorded_step(env, clock, self._choose_info, self._state)
        if type(self).step is RecordingWrapper.step:
            vars(self)["step"] = self._recorded_step  # which saves a call a step

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        """Reset the env and begin an episode; one that is under way is kept, unfinished.

        Raises:
            RecordingError: The recording is closed.
        """
        if self._state.closed:
            raise RecordingError("this recording is closed; wrap a new env to record more")
        recorded_options = None
        self._state.in_episode = False
        if seed is None and options is None:
            result = self.env.reset()
        else:
            arguments = {"seed": seed, "options": options}
            recorded_options = nested.copy(options)  # the env may change them
            result = self.env.reset(**{name: value for name, value in arguments.items() if value is not None})
        observation, info = result
        self._writer.write_reset(self._clock(), observation, self._choose_info(info), seed, recorded_options)
        self._state.in_episode = True
        return result

    def step(self, action: Any) -> Any:
        """Step the env and record what it was given and returned.

        Raises:
            RecordingError: No episode is under way: before the first reset, after an episode's last
                step, or after `close`. The env has not been stepped then.
        """
        return self._recorded_step(action)

    def annotate(self, /, **values: Any) -> None:
        """Keep values with the step that comes next: what the agent knew when it chose the action.

        They are stored under `annotations/KEY`, in the rows of the steps, and change nothing of what the env
        is given or returns. Values of the same key replace those given before; if the episode is cut before
        the next step, they are dropped.

        Args:
            values: Any values an info can hold, by name, such as `policy_value=0.5`.

        Raises:
            RecordingError: No episode is under way, or the writer's backend keeps no annotations.

        >>> import gymnasium
        >>> from gymbag import MemoryWriter
        >>> writer = MemoryWriter()
        >>> env = RecordingWrapper(gymnasium.make("CartPole-v1"), writer)
        >>> observation, info = env.reset(seed=1)
        >>> env.annotate(policy_value=0.5)
        >>> step = env.step(0)
        >>> env.close()
        """
        if not self._state.in_episode:
            self._state.refuse("annotate")
        self._writer.annotate(values)

    def close(self) -> None:
        """Close the recording, keeping an episode under way unfinished, and close the env."""
        self._state.closed, self._state.in_episode = True, False
        try:
            self._writer.close()
        finally:
            self.env.close()

    @property
    def spec(self) -> Any:
        """The env's own spec, so that an env that is made from it does not record."""
        return self.env.spec

    def __getattr__(self, name: str) -> Any:
        """Look up what the wrapper does not have in the env, private names excepted."""
        if name.startswith("_") or name == "env":
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.env, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute of the env where the env has it, just as it is looked up there."""
        own = name.startswith("_") or name == "env" or hasattr(type(self), name)
        if own or not hasattr(self.env, name):
            object.__setattr__(self, name, value)
        else:
            setattr(self.env, name, value)

    def __reduce__(self) -> Any:
        """Refuse to be pickled or copied: two recorders cannot share a file.

        Raises:
            RecordingError: Always.
        """
        raise RecordingError(
            "a recording env cannot be pickled or copied; record inside the process that steps the env"
        )


def record_hdf5(
    env: Any,
    filename: str | os.PathLike[str],
    description: str = "",
    *,
    name: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    info: InfoChoice = True,
    compression: str | None = "gzip",
    level: int | None = None,
    chunk_rows: int | Mapping[str, int] | None = None,
    flush_seconds: float = 1.0,
    durable: bool = True,
) -> Any:
    """Wrap an env so that everything that happens is recorded to an HDF5 file.

    A data set of the same name is continued.

    Args:
        env: The env, of gymnasium or of gym 0.26.
        filename: Path of the file, which is made if need be.
        description: What you want to remember of where the data comes from.
        name: Name of the data set; by default the id of the env's spec, else the name of its class.
        metadata: Whatever else to keep: any value an info can hold.
        info: Which infos to record: True for all, False for none, or a list of keys.
        compression: How to compress a new data set: "gzip", "zstd", "lzf" or None; see `HDF5Writer`.
        level: How hard to compress.
        chunk_rows: How many steps make a chunk of a new data set, or of some of its columns.
        flush_seconds: How old a step may become before it is safe from the process being killed.
        durable: Whether it is to be safe from the loss of power, too; see `HDF5Writer`.

    Returns:
        The env to use in place of the one given, a `RecordingWrapper`. Close it when you are done.

    Raises:
        SpaceError: A space of the env, or the metadata, cannot be stored.
        StorageError: The file cannot take the data, or there is no such compression. Nothing has been
            changed then.
        MissingExtraError: The compression needs an optional package.
    """
    writer = HDF5Writer(
        filename,
        compression=compression,
        level=level,
        chunk_rows=chunk_rows,
        flush_seconds=flush_seconds,
        durable=durable,
    )
    return RecordingWrapper(env, writer, name=name, description=description, metadata=metadata, info=info)


@functools.cache
def _combine(cls: Any, for_library: Any) -> Any:
    """Choose the wrapper of a library, or combine it with a class derived from `RecordingWrapper`."""
    if issubclass(for_library, cls) or issubclass(cls, for_library):
        return for_library if issubclass(for_library, cls) else cls
    return type(cls.__name__, (cls, for_library), {"__module__": cls.__module__, "__doc__": cls.__doc__})


def dataset_name(env: Any) -> str:
    """Name the data set of an env: what it replays, else the id of its spec, else the name of its class."""
    replays = getattr(env.unwrapped, "replays_a_gymbag_recording", False) is True
    return (replays and env.unwrapped.dataset_name) or (
        env.spec.id if env.spec is not None else type(env.unwrapped).__name__
    )


def _describe_spec(spec: Any) -> dict[str, Any] | None:
    """Turn an env's spec into values to store; what cannot be stored, such as a function, by its repr."""
    if spec is None:
        return None
    described: dict[str, Any] = _storable(spec)
    return described


def _storable(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _storable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {_storable(key): _storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    try:
        json_values.encode(value)
    except json_values.UnstorableError:
        return repr(value)
    return value


@functools.cache  # looking them up takes as long as thousands of steps
def _find_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = package_metadata.version(package)
        except package_metadata.PackageNotFoundError:
            continue
    return versions


def record_from_iter(writer: Writer, source: Iterable[Iterable[Any]], header: Header | None = None) -> None:
    """Write episodes to a writer and close it: converts between backends.

    Args:
        writer: Where to write to.
        source: A reader, or any iterable of episodes, each an iterable of
            `(time, observation, action, reward, done, info)`, the reset first. Of an episode that
            is not an `Episode`, `done` at its last step counts as terminated. What was said of a step
            with `env.annotate` is taken from its attribute `annotation`, if it has one.
        header: Spaces, name and so on; by default the source's own.

    Raises:
        SpaceError: The source is no reader, and no header was given.
        RecordingError: The source has annotations, and the writer does not keep any.
    """
    header = header or getattr(source, "header", None)
    if header is None:
        raise SpaceError("expected a reader, or header=Header(name, observation_space, action_space)")
    writer.begin(header)
    try:
        for episode in source:
            steps = iter(episode)
            seed, options = getattr(episode, "seed", None), getattr(episode, "options", None)
            moment, observation, _, _, _, info = next(steps)
            writer.write_reset(moment, observation, info or {}, seed, options)
            for step in steps:
                moment, observation, action, reward, done, info = step
                annotation = getattr(step, "annotation", None)
                if annotation:
                    writer.annotate(annotation)
                terminated = done and getattr(episode, "terminated", True)
                truncated = done and getattr(episode, "truncated", False)
                writer.write_step(moment, observation, action, reward, terminated, truncated, info or {})
    finally:
        writer.close()

"""d4rl-atari's ids: all are there, in both libraries, make without a warning, and errors say the nearest."""

from __future__ import annotations

import itertools
import os
import pickle
import subprocess
import sys
from typing import Any

import gym
import gymnasium
import pytest
from envs import LIBRARIES, both_libraries

import gymbag.atari
from gymbag.atari.games import GAMES
from gymbag.errors import ChoiceError, MissingExtraError, UnknownArgumentError

gymbag.atari.register(gym)

REGISTRIES: dict[str, Any] = {"gymnasium": gymnasium.registry, "gym": gym.envs.registry}
EPOCHS = {"mixed": 1, "medium": 10, "expert": 50, **{f"epoch-{epoch}": epoch for epoch in range(1, 51)}}
# Each, and what it tells to load: the game, the run, and the epoch.
IDS = {
    f"{game.name}-{name}-v{version}": (game.name, version + 1, epoch)
    for game, (name, epoch), version in itertools.product(GAMES, EPOCHS.items(), range(5))
}


def run_python(program: str, *options: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, *options, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    ).stdout


@both_libraries
def test_all_ids_are_there(library: str) -> None:
    assert len(IDS) == 16_430
    registry = REGISTRIES[library]
    assert IDS.keys() <= registry.keys()
    assert [name for name, spec in registry.items() if "gymbag" in str(spec.entry_point)] == sorted(
        IDS, key=list(registry).index
    )
    for name, (game, run, epoch) in IDS.items():
        spec = registry[name]
        assert (spec.id, spec.max_episode_steps) == (name, None)
        assert spec.kwargs == {"game": game, "run": run, "epochs": (epoch, epoch)}


@both_libraries
def test_registering_again_changes_nothing(library: str) -> None:
    registry = REGISTRIES[library]
    before = dict(registry)
    gymbag.atari.register(LIBRARIES[library])
    assert list(registry) == list(before)
    assert all(registry[name].kwargs == spec.kwargs for name, spec in before.items())
    assert all(spec is before[name] for name, spec in registry.items() if name not in IDS)


@pytest.mark.parametrize("module", [pytest, gymnasium.envs, "gymnasium", None], ids=repr)
def test_only_the_two_libraries_can_have_them(module: Any) -> None:
    with pytest.raises(ChoiceError, match="expected the module gymnasium or gym, found "):
        gymbag.atari.register(module)


@both_libraries
@pytest.mark.parametrize("name", ["breakout-mixed-v0", "breakout-epoch-7-v4", "space-invaders-expert-v2"])
def test_an_id_makes_a_bare_env_of_its_library(library: str, name: str) -> None:
    env = LIBRARIES[library].make(name)
    game, run, epoch = IDS[name]
    assert isinstance(env, LIBRARIES[library].Env)
    assert env.unwrapped is env
    assert (env.game.name, env.experience.run, env.experience.epochs) == (game, run, range(epoch, epoch + 1))
    assert env.spec.id == name
    assert LIBRARIES[library].spec(name).make().spec.id == name


@both_libraries
def test_no_run_is_said_to_be_out_of_date_under_any_filter(library: str) -> None:
    program = f"""
import {library} as gym, gymbag.atari, warnings
warnings.simplefilter("error")  # from here on, as importing gym itself warns
gymbag.atari.register(gym)
for version in range(5):
    gym.make(f"pong-mixed-v{{version}}").reset()
"""
    run_python(program)


def test_other_envs_that_are_out_of_date_are_said_to_be() -> None:
    with pytest.warns(DeprecationWarning, match="CartPole-v0 is out of date"):
        gymnasium.make("CartPole-v0")


@both_libraries
@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("brekout-mixed-v0", "breakout-mixed"),
        ("space-invader-expert-v2", "space-invaders-expert"),
        ("breakout-mxed-v3", "breakout-mixed"),
        ("pong-large-v0", "pong-mixed"),
        ("breakout-epoch-51-v0", "breakout-epoch-5"),
        ("breakout-epoch-0-v0", "breakout-epoch-50"),
        ("breakout-mixed-v5", "breakout-mixed-v0"),
    ],
)
def test_an_unknown_id_is_an_error_that_says_the_nearest(library: str, name: str, nearest: str) -> None:
    with pytest.raises(LIBRARIES[library].error.Error, match=f"{nearest}`") as error:
        LIBRARIES[library].make(name)
    assert "doesn't exist" in str(error.value)


@both_libraries
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stak": True}, "found 'stak'; did you mean 'stack'?"),
        ({"sticky_actions": False}, "found 'sticky_actions'; did you mean 'sticky_action'?"),
        (
            {"frameskip": 4},
            "expected keyword arguments of game, run, epochs, stack, sticky_action, clip_reward",
        ),
        ({"stack": True, "index": 3}, "rl_unplugged; found 'index'"),
    ],
)
def test_an_unknown_argument_is_an_error_that_says_which_there_are(
    library: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UnknownArgumentError) as error:
        LIBRARIES[library].make("breakout-mixed-v0", **arguments)
    assert message in str(error.value)
    assert isinstance(error.value, TypeError)


def test_a_spec_can_be_pickled_and_written_as_json() -> None:
    env = gymnasium.make("breakout-medium-v3", stack=True)
    for spec in (
        env.spec,
        pickle.loads(pickle.dumps(env.spec)),
        gymnasium.envs.registration.EnvSpec.from_json(env.spec.to_json()),
        pickle.loads(pickle.dumps(gymnasium.spec("breakout-medium-v3"))),
    ):
        made = gymnasium.make(spec)
        assert (made.game.name, made.experience.run, made.experience.epochs) == ("breakout", 4, range(10, 11))
        assert made.spec.id == "breakout-medium-v3"


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_vector_envs_can_be_made(mode: str) -> None:
    # Forking a process that has threads is what newer Pythons warn of.
    options = {"context": "spawn"} if mode == "async" else {}
    env = gymnasium.make_vec(
        "breakout-mixed-v1", 2, vectorization_mode=mode, vector_kwargs=options, stack=True
    )
    observations, _ = env.reset(seed=1)
    assert observations.shape == (2, 4, 84, 84)
    observations, rewards, *_ = env.step(env.action_space.sample())
    assert observations in env.observation_space
    assert rewards.shape == (2,)
    env.close()


def test_importing_registers_and_is_light() -> None:
    program = """
import sys, gymbag.atari, gymnasium
assert "breakout-mixed-v0" in gymnasium.registry
print(*sorted({"cv2", "gym", "h5py"} & set(sys.modules)))
"""
    assert not run_python(program, "-W", "error").split()


@pytest.mark.parametrize("missing", ["ale_py", "cv2"])
def test_what_is_not_installed_is_said_when_an_env_is_made(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtraError, match=r'pip install "gymbag\[atari\]"'):
        gymnasium.make("breakout-mixed-v0")


def test_ids_are_there_without_ale_py() -> None:
    program = """
import sys
sys.modules["ale_py"] = None
import gymbag.atari, gymnasium
print(gymnasium.spec("breakout-mixed-v0").kwargs["game"])
"""
    assert run_python(program) == "breakout\n"

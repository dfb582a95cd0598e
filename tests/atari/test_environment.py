"""The Atari env: what it shows is, frame by frame, what Dopamine's preprocessing does, written anew."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ale_py
import ale_py.roms
import cv2
import gym
import gymnasium
import numpy as np
import pytest
from envs import LIBRARIES, assert_recorded, both_libraries, play
from gym.utils import env_checker as gym_checker
from gymnasium.utils import env_checker as gymnasium_checker
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

import gymbag
import gymbag.atari
from gymbag import HDF5Reader
from gymbag.atari import environment
from gymbag.atari.for_gymnasium import AtariEnv
from gymbag.atari.games import GAMES, find_game
from gymbag.errors import ChoiceError, PlaceError, RecordingError

gymbag.atari.register(gym)

# Screens of 210, 214 and 220 lines, actions of all kinds, and games with and without lives.
SEVERAL_GAMES = ["breakout", "carnival", "freeway", "ms-pacman", "pong", "pooyan", "seaquest"]


class Dopamine:
    """Dopamine's preprocessing as it is published, over the emulator itself."""

    def __init__(self, game: str, seed: int, sticky: float = 0.25, life_loss: bool = False, noops: int = 0):
        self.ale = ale_py.ALEInterface()
        self.ale.setFloat("repeat_action_probability", sticky)
        ale_seed = np.random.SeedSequence(seed).generate_state(2)[1]
        self.ale.setInt("random_seed", int(ale_seed.astype(np.int32)))
        self.ale.loadROM(ale_py.roms.get_rom_path(game.replace("-", "_")))
        self.actions = self.ale.getMinimalActionSet()
        self.random, self.noops = np.random.default_rng(seed), noops
        self.life_loss = life_loss

    def reset(self) -> np.ndarray:
        self.ale.reset_game()
        if self.noops:
            for _ in range(self.random.integers(1, self.noops + 1)):
                self.ale.act(ale_py.Action.NOOP)
        self.lives = self.ale.lives()
        screen = self.ale.getScreenGrayscale()
        self.screens = [screen, np.zeros_like(screen)]
        return self.pool()

    def step(self, action: int) -> tuple[np.ndarray, float, bool]:
        total, is_terminal = 0.0, False
        for frame in range(4):
            total += self.ale.act(self.actions[action])
            is_terminal = self.ale.game_over()
            if self.life_loss:
                lives = self.ale.lives()
                is_terminal = is_terminal or lives < self.lives
                self.lives = lives
            if is_terminal:
                break
            if frame >= 2:
                self.screens[frame - 2] = self.ale.getScreenGrayscale()
        return self.pool(), total, is_terminal

    def pool(self) -> np.ndarray:
        self.screens[0] = np.stack(self.screens).max(axis=0)
        return cv2.resize(self.screens[0], (84, 84), interpolation=cv2.INTER_AREA)


def actions_of(env: Any, count: int, seed: int = 5) -> list[int]:
    return [int(action) for action in np.random.default_rng(seed).integers(env.action_space.n, size=count)]


@pytest.mark.parametrize(
    ("library", "game"), [("gym", "seaquest"), *(("gymnasium", game) for game in SEVERAL_GAMES)]
)
def test_it_is_dopamine_s_preprocessing(library: str, game: str) -> None:
    env, peer = LIBRARIES[library].make(f"{game}-mixed-v0"), Dopamine(game, seed=3)
    assert env.action_space.n == len(peer.actions)
    assert env.get_action_meanings() == [action.name for action in peer.actions]
    observation, _ = env.reset(seed=3)
    assert (observation == peer.reset()).all()
    games = 0
    for action in actions_of(env, 600):
        observation, reward, terminated, truncated, info = env.step(action)
        expected, unclipped, is_terminal = peer.step(action)
        assert (observation == expected).all()
        assert (reward, terminated, truncated) == (np.clip(unclipped, -1, 1), is_terminal, False)
        assert type(reward) is float
        assert type(terminated) is type(truncated) is bool
        assert info["lives"] == peer.ale.lives()
        assert info["episode_frame_number"] == peer.ale.getEpisodeFrameNumber()
        assert info["frame_number"] == peer.ale.getFrameNumber()
        if terminated:
            games += 1
            assert (env.reset()[0] == peer.reset()).all()
    assert games or game not in ("breakout", "ms-pacman")


@pytest.mark.parametrize("game", ["breakout", "carnival", "ms-pacman", "pong"])
def test_it_is_gymnasium_s_preprocessing_but_where_a_game_ends(game: str) -> None:
    env = gymnasium.make(f"{game}-mixed-v0", clip_reward=False)
    bare = gymnasium.make(f"ALE/{find_game(game).folder}-v5", frameskip=1, disable_env_checker=True)
    peer = AtariPreprocessing(bare, noop_max=0)
    assert env.observation_space == peer.observation_space
    assert env.action_space == peer.action_space
    assert (env.reset(seed=4)[0] == peer.reset(seed=4)[0]).all()
    for action in actions_of(env, 500):
        observation, *rest = env.step(action)
        expected, *expected_rest = peer.step(action)
        assert rest == expected_rest
        if rest[1]:
            assert (env.reset()[0] == peer.reset()[0]).all()
        else:
            assert (observation == expected).all()


@both_libraries
@pytest.mark.parametrize("game", ["breakout", "seaquest"])
def test_a_stack_is_the_last_four_frames_and_black_before_them(library: str, game: str) -> None:
    env, peer = LIBRARIES[library].make(f"{game}-mixed-v0", stack=True), Dopamine(game, seed=3)
    assert env.observation_space == LIBRARIES[library].spaces.Box(0, 255, (4, 84, 84), np.uint8)
    frames = [np.zeros((84, 84), np.uint8)] * 3 + [peer.reset()]
    stacks, expected = [env.reset(seed=3)[0]], [np.stack(frames[-4:])]
    for action in actions_of(env, 400):
        observation, _, terminated, _, _ = env.step(action)
        frames.append(peer.step(action)[0])
        stacks.append(observation)
        expected.append(np.stack(frames[-4:]))
        if terminated:
            frames = [np.zeros((84, 84), np.uint8)] * 3 + [peer.reset()]
            stacks.append(env.reset()[0])
            expected.append(np.stack(frames[-4:]))
    assert (np.stack(stacks) == np.stack(expected)).all()


def test_a_stack_of_gymnasium_s_own_wrapper_is_the_same() -> None:
    env = gymnasium.make("breakout-mixed-v0", stack=True)
    peer = FrameStackObservation(gymnasium.make("breakout-mixed-v0"), 4, padding_type="zero")
    assert (env.reset(seed=1)[0] == peer.reset(seed=1)[0]).all()
    for action in actions_of(env, 20):
        assert (env.step(action)[0] == peer.step(action)[0]).all()


@both_libraries
@pytest.mark.parametrize("stack", [False, True])
def test_observations_are_the_caller_s_to_keep_and_to_change(library: str, stack: bool) -> None:
    env, peer = (LIBRARIES[library].make("breakout-mixed-v0", stack=stack) for _ in range(2))
    kept = [env.reset(seed=1)[0]]
    kept += [env.step(action)[0] for action in actions_of(env, 10)]
    expected = [peer.reset(seed=1)[0].copy()]
    for action in actions_of(env, 10):
        observation = peer.step(action)[0]
        expected.append(observation.copy())
        observation.fill(7)
    assert all((one == other).all() for one, other in zip(kept, expected, strict=True))


@pytest.mark.parametrize("game", ["breakout", "ms-pacman"])
def test_losing_a_life_terminates_if_so_wished(game: str) -> None:
    env = gymnasium.make(f"{game}-mixed-v0", terminal_on_life_loss=True)
    peer = Dopamine(game, seed=3, life_loss=True)
    assert (env.reset(seed=3)[0] == peer.reset()).all()
    lost = 0
    for action in actions_of(env, 600):
        observation, _, terminated, _, info = env.step(action)
        expected, _, is_terminal = peer.step(action)
        assert (observation == expected).all()
        assert terminated == is_terminal
        if terminated and not info["lives"]:
            assert (env.reset()[0] == peer.reset()).all()
        # Else the game goes on where it is, with one life less.
        lost += terminated
    assert lost > 1


def test_a_reset_after_a_lost_life_begins_a_new_game() -> None:
    env = gymnasium.make("breakout-mixed-v0", terminal_on_life_loss=True)
    env.reset(seed=1)
    terminated = False
    while not terminated:
        *_, terminated, _, info = env.step(1)
    assert info["lives"] == 4
    assert env.reset()[1] == {"lives": 5, "episode_frame_number": 0, "frame_number": info["frame_number"]}


@both_libraries
def test_d4rl_atari_s_defaults_are_one_switch(library: str) -> None:
    env = LIBRARIES[library].make("seaquest-mixed-v0", d4rl_defaults=True, stack=True)
    peer = Dopamine("seaquest", seed=3, sticky=0.0, noops=30)
    first = peer.reset()
    observation, info = env.reset(seed=3)
    assert (observation == np.stack([first] * 4)).all()
    assert 1 <= info["episode_frame_number"] <= 30
    rewards = []
    for action in actions_of(env, 500):
        observation, reward, terminated, _, _ = env.step(action)
        expected, unclipped, is_terminal = peer.step(action)
        assert (observation[-1] == expected).all()
        assert (reward, terminated) == (unclipped, is_terminal)
        rewards.append(reward)
        if terminated:
            first = peer.reset()
            assert (env.reset()[0] == np.stack([first] * 4)).all()
    assert max(rewards) > 1


@pytest.mark.parametrize("d4rl_defaults", [False, True])
@pytest.mark.parametrize("choice", [False, True])
@pytest.mark.parametrize(("game", "reward"), [("asterix", 50.0), ("journey-escape", -300.0)])
def test_what_is_said_comes_before_the_defaults(
    d4rl_defaults: bool, choice: bool, game: str, reward: float
) -> None:
    env = gymnasium.make(
        f"{game}-mixed-v0", sticky_action=choice, clip_reward=choice, d4rl_defaults=d4rl_defaults
    )
    assert env.ale.getFloat("repeat_action_probability") == (0.25 if choice else 0.0)
    env.reset(seed=1)
    rewards = (env.step(2)[1] for _ in range(300))
    assert next(filter(None, rewards)) == (np.sign(reward) if choice else reward)


def test_an_episode_is_truncated_after_as_many_steps_as_the_agents_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert environment.STEPS_LIMIT == 27_000
    monkeypatch.setattr(environment, "STEPS_LIMIT", 30)
    env = gymnasium.make("pong-mixed-v0")
    for _ in range(2):
        env.reset()
        ends = [env.step(0)[2:4] for _ in range(30)]
        assert ends == [(False, False)] * 29 + [(False, True)]
        with pytest.raises(RecordingError, match=r"expected reset\(\) before step\(\)"):
            env.step(0)


def test_d4rl_atari_s_limit_counts_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment._D4RL_LIMIT == 108_000
    monkeypatch.setattr(environment, "_D4RL_LIMIT", 100)
    env = gymnasium.make("pong-mixed-v0", d4rl_defaults=True)
    _, info = env.reset(seed=1)
    steps = -(-(100 - info["episode_frame_number"]) // 4)
    ends = [env.step(0)[2:4] for _ in range(steps)]
    assert ends == [(False, False)] * (steps - 1) + [(False, True)]
    with pytest.raises(RecordingError, match=r"expected reset\(\) before step\(\)"):
        env.step(0)


@pytest.mark.parametrize(("library", "d4rl_defaults"), [("gymnasium", False), ("gym", True)])
def test_a_seed_fixes_what_happens(library: str, d4rl_defaults: bool) -> None:
    def run(env: Any, seed: int | None) -> list[tuple[int, float]]:
        observation, info = env.reset(seed=seed)
        seen = [(int(observation.sum()), info["episode_frame_number"])]
        for action in actions_of(env, 60):
            observation, reward, terminated, _, _ = env.step(action)
            seen.append((int(observation.sum()), reward))
            if terminated:
                env.reset()
        return seen

    one, other = (LIBRARIES[library].make("breakout-mixed-v0", d4rl_defaults=d4rl_defaults) for _ in range(2))
    first, second = run(one, 7), run(one, None)
    assert (run(other, 7), run(other, None)) == (first, second)
    assert run(one, 7) == first
    assert run(one, 8) != first
    assert first != second


@pytest.mark.parametrize("game", GAMES, ids=lambda game: game.name)
def test_every_game_can_be_played(game: Any) -> None:
    env = gymnasium.make(f"{game.name}-mixed-v0")
    observation, info = env.reset()
    assert observation in env.observation_space
    assert info.keys() == {"lives", "episode_frame_number", "frame_number"}
    for action in range(env.action_space.n):
        observation, reward, terminated, truncated, _ = env.step(action)
        assert observation in env.observation_space
        assert -1 <= reward <= 1
        assert (terminated, truncated) == (False, False)
    assert env.get_action_meanings()[0] == "NOOP"


@both_libraries
def test_stepping_without_a_game_is_a_clear_error(library: str) -> None:
    env = LIBRARIES[library].make("breakout-mixed-v0")
    with pytest.raises(RecordingError, match=r"expected reset\(\) before step\(\)"):
        env.step(0)
    env.reset(seed=1)
    terminated = False
    while not terminated:
        _, _, terminated, _, _ = env.step(1)
    with pytest.raises(RecordingError, match=r"expected reset\(\) before step\(\)"):
        env.step(0)
    env.reset()
    env.close()
    env.close()
    with pytest.raises(RecordingError, match=r"expected reset\(\) before step\(\)"):
        env.step(0)
    with pytest.raises(RecordingError, match="this env is closed"):
        env.reset()


def test_an_unknown_action_is_a_clear_error() -> None:
    env = gymnasium.make("breakout-mixed-v0")
    env.reset()
    for action in (-1, 4, 1.0, "1", None, np.array([1])):
        with pytest.raises(ChoiceError, match="expected an action from 0 to 3, found "):
            env.step(action)
    env.step(np.array(3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"game": "brekout"}, "did you mean 'breakout'"),
        ({"run": 6}, "expected a run from 1 to 5, found 6"),
        ({"epochs": (1, 51)}, "from 0 to 50"),
    ],
)
def test_an_unknown_choice_is_a_clear_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ChoiceError, match=message):
        gymnasium.make("breakout-mixed-v0", **arguments)


@both_libraries
def test_what_data_is_meant_is_kept(library: str, tmp_path: Path) -> None:
    env = LIBRARIES[library].make(
        "breakout-mixed-v0", run=5, epochs=(2, 4), replay_logs=tmp_path, mirror="http://localhost"
    )
    meant = env.experience
    assert (env.game, meant.run, meant.epochs, env.stack) == (find_game("breakout"), 5, range(2, 5), False)
    assert (meant.places.replay_logs, meant.places.mirror) == (tmp_path, "http://localhost")
    with pytest.raises(PlaceError, match="replay_logs: expected a folder, found nothing"):
        LIBRARIES[library].make("breakout-mixed-v0", replay_logs=tmp_path / "none")


@both_libraries
def test_the_screen_can_be_rendered_in_colour(library: str) -> None:
    env = LIBRARIES[library].make("breakout-mixed-v0", render_mode="rgb_array")
    env.reset(seed=1)
    screen = env.render()
    assert (screen.shape, screen.dtype) == ((210, 160, 3), np.uint8)
    assert len(np.unique(screen.reshape(-1, 3), axis=0)) > 5
    env.step(1)
    assert (screen != env.render()).any()
    assert LIBRARIES[library].make("breakout-mixed-v0").render() is None


@pytest.mark.skipif(not ale_py.SDL_SUPPORT, reason="this ale-py has no window")
def test_a_window_can_be_had() -> None:
    program = """
import gymnasium, gymbag.atari
env = gymnasium.make("breakout-mixed-v0", render_mode="human")
env.reset(seed=1)
for _ in range(4): env.step(1)
env.render()
env.close()
print(env.metadata["render_fps"])
"""
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, "SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (finished.returncode, finished.stdout) == (0, "15\n"), finished.stderr


def test_an_unknown_render_mode_is_a_clear_error() -> None:
    with pytest.raises(ChoiceError, match="expected render_mode 'human', 'rgb_array' or None, found 'ascii'"):
        AtariEnv("breakout", render_mode="ascii")  # as gymnasium.make warns of it, too


@pytest.mark.parametrize("stack", [False, True])
def test_gymnasium_s_check_env_passes(stack: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("SDL_AUDIODRIVER", "dummy")
    env = gymnasium.make("pong-mixed-v0", stack=stack, d4rl_defaults=stack)
    gymnasium_checker.check_env(env, skip_render_check=stack)  # it takes long, and once is enough


@pytest.mark.filterwarnings("ignore:.*neither an image, nor a 1D vector:UserWarning")  # it is one, in grey
def test_gym_s_check_env_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    # The checker itself needs the name that NumPy 2 has dropped.
    monkeypatch.setattr(np, "bool8", np.bool_, raising=False)
    gym_checker.check_env(gym.make("pong-mixed-v0"))


@pytest.mark.parametrize(("library", "stack"), [("gymnasium", True), ("gym", False)])
def test_it_can_be_recorded(library: str, stack: bool, tmp_path: Path) -> None:
    env = gymbag.record_hdf5(
        LIBRARIES[library].make("breakout-mixed-v0", stack=stack), tmp_path / "breakout.h5"
    )
    seen = play(env, steps=200)
    env.close()
    with HDF5Reader(tmp_path / "breakout.h5") as reader:
        assert reader.name == "breakout-mixed-v0"
        assert_recorded(reader, seen)
    assert any(episode.terminated for episode in seen)

"""Read a recording with h5py, NumPy and json alone, as a program without gymbag would."""

import json
from itertools import pairwise

import h5py
import numpy as np


def read_episodes(filename, name):
    """Yield each episode of a data set as a dict of arrays; `docs/format.md` specifies the file."""
    with h5py.File(filename) as file:
        data_set = file[name]
        assert data_set.attrs["format"] == b"gymbag"
        assert data_set.attrs["format_version"].startswith(b"1.")
        table = data_set["episodes"]
        for number, (first, length) in enumerate(zip(table["first_row"], table["length"], strict=True)):
            rows = slice(first, first + length)
            final = table["final_observation"][number : number + 1]
            yield {
                "observations": np.concatenate([data_set["observations"][rows], final]),
                "actions": data_set["actions"][rows],
                "rewards": data_set["rewards"][rows],
                "infos": [
                    *read_texts(table["reset_info"], number, number + 1),
                    *read_texts(data_set["infos"], first, first + length),
                ],
                # What `reset` was given; of seed and options those that were.
                "arguments": read_texts(table["reset_arguments"], number, number + 1)[0],
                "terminated": bool(table["ending"][number] & 1),
                "truncated": bool(table["ending"][number] & 2),
            }


def read_texts(column, start, stop):
    """Read rows of a column of JSON texts; an empty text stands for an empty dict."""
    ends = [0 if start == 0 else column["ends"][start - 1], *column["ends"][start:stop]]
    texts = [column["data"][begin:end].tobytes() for begin, end in pairwise(ends)]
    return [json.loads(text) if text else {} for text in texts]


def record(filename):
    """Make a file to read."""
    import gymnasium

    from gymbag import record_hdf5

    env = record_hdf5(gymnasium.make("CartPole-v1"), filename)
    for seed in range(3):
        env.reset(seed=seed)
        terminated = truncated = False
        while not (terminated or truncated):
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
    env.close()


if __name__ == "__main__":
    record("cartpole.h5")
    for episode in read_episodes("cartpole.h5", "CartPole-v1"):
        print(
            f"seed {episode['arguments']['seed']}: {len(episode['actions'])} steps, "
            f"{episode['observations'].shape} observations, return {episode['rewards'].sum()}"
        )

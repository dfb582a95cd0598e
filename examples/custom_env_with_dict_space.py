"""Record an env of your own whose observations are dicts; they come back as dicts of arrays."""

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Text

from gymbag import HDF5Reader, get_dataset, record_hdf5


class Corridor(gymnasium.Env):
    """Walk right to the end of a corridor, past doors that open at random."""

    action_space = Discrete(3)  # left, stay, right
    observation_space = Dict(
        position=Box(0.0, 5.0, (), np.float32),
        doors=Box(0, 1, (6,), np.uint8),
        sign=Text(max_length=8),
    )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position = 0
        return self._observe(), {}

    def step(self, action):
        self.position = int(np.clip(self.position + action - 1, 0, 5))
        arrived = self.position == 5
        return self._observe(), float(arrived), arrived, False, {"steps to go": 5 - self.position}

    def _observe(self):
        doors = self.np_random.integers(0, 2, 6, dtype=np.uint8)
        sign = ["start", "", "", "halfway", "", "end"][self.position]
        return {"position": np.array(self.position, np.float32), "doors": doors, "sign": sign}


# The wrapper cuts an episode after 30 steps; such an episode is recorded as truncated.
env = gymnasium.wrappers.TimeLimit(Corridor(), max_episode_steps=30)
env = record_hdf5(env, "corridor.h5", info=["steps to go"])
for episode in range(4):
    env.reset(seed=episode)
    done = False
    while not done:
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        done = terminated or truncated
env.close()

reader = HDF5Reader("corridor.h5")  # its only data set is named after the class
print(reader.name, reader.observation_space["doors"])
for episode in reader:
    observations = episode.observations
    print(episode, "got to", observations["position"].max(), "and read", set(observations["sign"]) - {""})

dataset = get_dataset(reader, infos=True)
print("doors:", dataset["observations"]["doors"].shape, dataset["observations"]["doors"].dtype)
print("steps to go:", dataset["infos/steps to go"][:8])

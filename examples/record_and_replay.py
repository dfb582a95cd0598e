"""Record some episodes, read them, replay them, and flatten them into arrays."""

import gymnasium

from gymbag import HDF5Reader, PlaybackEnv, compare, get_dataset, record_hdf5

# Record: wrap the env, and use it as ever.
env = record_hdf5(gymnasium.make("CartPole-v1"), "cartpole.h5", "random actions")
for seed in range(3):
    observation, info = env.reset(seed=seed)
    done = False
    while not done:
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        done = terminated or truncated
env.close()

# Read: a reader holds episodes, an episode holds arrays.
reader = HDF5Reader("cartpole.h5")
print(reader)
for episode in reader:
    print(episode, episode.observations.shape, episode.total_reward)

# Replay: an env that does again what was recorded, whatever the actions. Here it is recorded once more.
env = record_hdf5(PlaybackEnv(reader), "replayed.h5")
for episode in reader:
    env.reset(seed=episode.seed)
    for action in episode.actions:
        env.step(action)
env.close()
print("original and replay:", compare("cartpole.h5", "replayed.h5"))

# Train: flat arrays, as D4RL has them.
for name, rows in get_dataset(reader).items():
    print(f"{name:18} {rows.dtype!s:8} {rows.shape}")

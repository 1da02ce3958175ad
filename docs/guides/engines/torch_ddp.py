"""PyTorch, several processes: DistributedDataParallel, and a DataLoader around a WindowLoader.

torchrun --nproc-per-node 2 torch_ddp.py ETTh1.csv
Without torchrun one process trains alone.
"""

import os
import sys
from pathlib import Path

if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
    sys.exit(__doc__)

os.environ["KERAS_BACKEND"] = "torch"

import keras
import torch
from torch import distributed

import keras_rnnkit as rk

world = int(os.environ.get("WORLD_SIZE", "1"))
if world > 1:
    distributed.init_process_group("gloo")  # "nccl" on GPUs
rank = distributed.get_rank() if world > 1 else 0
keras.utils.set_random_seed(1)

train, val, test = rk.split(rk.read_csv(sys.argv[1]), train=0.7, val=0.15)
loader = rk.WindowLoader(
    train,
    rk.WindowSpec(lookback=24, targets=["OT"]),
    batch_size=64 // world,  # of this process
    shuffle=True,
    seed=1,
    shard="auto",
    scaler=rk.Scaler().fit(train),
    drop_remainder=True,
    squeeze=True,
)
batches = torch.utils.data.DataLoader(
    loader, batch_size=None, num_workers=1, persistent_workers=True
)
inputs = keras.Input((24, len(train.names)))
model = keras.Model(inputs, keras.layers.Dense(1)(rk.GRU(8)(inputs)))
trained = torch.nn.parallel.DistributedDataParallel(model) if world > 1 else model
optimizer = torch.optim.Adam(model.parameters())

backup, first = Path("backup.pt"), 0
found = [torch.load(backup) if rank == 0 and backup.exists() else None]
if world > 1:
    distributed.broadcast_object_list(found)  # all ranks go on from the backup of the first
if (saved := found[0]) is not None:
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    first = saved["epochs"]
for number in range(first, 3):
    loader.epoch = number  # the worker processes follow
    losses = []
    for x, y in batches:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(trained(x)[:, 0], y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"epoch {number + 1}: loss of this rank {sum(losses) / len(losses):.4f}")
    if rank > 0:
        continue
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epochs": number + 1}
    torch.save(state, backup.with_suffix(".new"))
    backup.with_suffix(".new").replace(backup)
if rank == 0:
    model.save("model.keras")
    backup.unlink(missing_ok=True)
if world > 1:
    distributed.destroy_process_group()

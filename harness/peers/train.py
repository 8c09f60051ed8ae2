#!/usr/bin/env python3
"""Trains the small models of regime "trained": harness/peers/train.py --library build/default/libprnn_c.so [--cell C] [--steps N] [--device cuda]

Reads bytes and predicts the next: embedding, projection to pre-activations u, our recurrence (layer.py), linear head; the initialisation of the paper (Danieli et al. 2025,
App. C.1). Writes kernels/ops/trained_<cell>.inc, and to --curve the loss by step: through our kernels, and over the first --compared steps through the framework's
sequential loop, in f32 and, as the truth, in f64. Training amplifies roundings, so the measure of what may differ is what the framework's own f32 differs from f64:
the curves coincide if ours is nowhere further from f64's than --factor times that. Exit status: 2 if they do not, 64 for bad usage."""

import argparse
import json
import math
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import torch  # noqa: E402

import cells  # noqa: E402
import layer  # noqa: E402
import library  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TEXT = "/usr/share/common-licenses/GPL-3"  # what the set-up installs (harness/suite.hpp)
BYTES, WIDTH, CHANNELS, BATCH, LENGTH = 128, 8, 64, 32, 256  # bytes are taken modulo 128, as kernels/ops/trained.hpp does
CLIP, LEARNING_RATE = 0.5, 3e-3
SIZES = {"gru_diag": (3, 3, 1), "lstm_cifg_diag": (3, 5, 2)}  # I, W, K


class Model(torch.nn.Module):
    def __init__(self, cell, seed):
        super().__init__()
        inputs, weights, _ = SIZES[cell]
        torch.manual_seed(seed)
        self.cell = cell
        self.embedding = torch.nn.Parameter(torch.randn(BYTES, WIDTH))
        self.projection = torch.nn.Parameter(torch.empty(WIDTH, inputs * CHANNELS))
        bound = math.sqrt(6 / WIDTH)  # Kaiming uniform
        torch.nn.init.uniform_(self.projection, -bound, bound)
        self.bias = torch.nn.Parameter(torch.zeros(inputs * CHANNELS))
        self.a = torch.nn.Parameter(torch.nn.init.xavier_normal_(torch.empty(weights, CHANNELS)).clamp(-CLIP, CLIP))
        self.head = torch.nn.Parameter(torch.randn(CHANNELS, BYTES) / math.sqrt(CHANNELS))

    def forward(self, text, recur):
        """text [B, L + 1] bytes -> mean cross entropy of the next byte, in nats. recur(u [B, L, I, D], a [W, D]) -> h [B, L, K, D]."""
        u = self.embedding[text[:, :-1]] @ self.projection + self.bias
        h = recur(u.unflatten(-1, (-1, CHANNELS)), self.a)
        scores = h[:, :, -1] @ self.head
        return torch.nn.functional.cross_entropy(scores.flatten(0, 1), text[:, 1:].flatten())


def batches(data, steps, seed):
    """[steps] tensors [BATCH, LENGTH + 1] of bytes, the same for every run."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        first = torch.randint(0, len(data) - LENGTH, (BATCH,), generator=generator)
        yield torch.stack([data[i : i + LENGTH + 1] for i in first.tolist()])


def train(model, data, steps, recur, seed):
    """The loss before each step."""
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    device, losses = model.a.device, []
    for text in batches(data, steps, seed):
        loss = model(text.to(device), recur)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return [float(loss) for loss in losses]


def through_loop(cell):
    inputs, weights, states = SIZES[cell]
    return lambda u, a: cells.loop(cells.STEPS[cell], u.new_zeros(u.shape[0], states, CHANNELS), a, u)


def section(name, tensor, shape):
    numbers = tensor.detach().cpu().reshape(-1, tensor.shape[-1])
    return [" ".join([name, *map(str, shape)])] + [" ".join(f"{x:.5g}" for x in row) for row in numbers.tolist()]


def text_of(model):
    """What kernels/ops/trained.cpp reads."""
    inputs, weights, _ = SIZES[model.cell]
    lines = [f"cell {model.cell}", f"channels {CHANNELS}", f"width {WIDTH}", *section("embedding", model.embedding, (BYTES, WIDTH)),
             *section("projection", model.projection, (WIDTH, inputs, CHANNELS)), *section("bias", model.bias.view(inputs, CHANNELS), (inputs, CHANNELS)),
             *section("weights", model.a, (weights, CHANNELS))]
    return 'R"(' + "\n".join(lines) + '\n)"\n'


def distance(losses, truth):
    return max(abs(a - b) for a, b in zip(losses, truth))


def main(words):
    parser = argparse.ArgumentParser(prog="train.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", required=True)
    parser.add_argument("--cell", choices=list(SIZES), action="append", help="[both]")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--compared", type=int, default=200, help="steps that the framework's loop is run for too [200]")
    parser.add_argument("--factor", type=float, default=4)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cuda", "cpu"])
    parser.add_argument("--text", default=TEXT)
    parser.add_argument("--out", default=str(ROOT / "kernels/ops"), help="folder of the models [kernels/ops]")
    parser.add_argument("--curve", help="JSON file to write the losses to")
    parser.add_argument("--seed", type=int, default=1)
    parser.error = lambda message: parser.exit(64, f"train.py: {message}\n")
    flags = parser.parse_args(words)
    data = torch.tensor([byte % BYTES for byte in pathlib.Path(flags.text).read_bytes()])
    ours = library.Library(flags.library, flags.device)
    curves, coincide = [], True
    for cell in flags.cell or SIZES:
        def start(dtype=torch.float32):
            return Model(cell, flags.seed).to(flags.device, dtype)

        model, loop = start(), through_loop(cell)
        losses = train(model, data, flags.steps, lambda u, a: layer.Recurrence.apply(u, a, ours, cell), flags.seed)
        compared = min(flags.compared, flags.steps)
        framework, truth = (train(start(dtype), data, compared, loop, flags.seed) for dtype in (torch.float32, torch.float64))
        # Roundings of the loss itself: a mean of B L values, each of a few operations.
        allowed = flags.factor * distance(framework, truth) + 16 * 2.0**-24 * max(truth, default=0)
        here = distance(losses, truth) <= allowed
        coincide &= here
        curves.append({"cell": cell, "text": flags.text, "batch": BATCH, "seq_len": LENGTH, "hidden": CHANNELS, "device": flags.device, "torch": torch.__version__, "loss_nats": losses,
                       "loss_loop_f32": framework, "loss_loop_f64": truth, "largest_difference_from_f64": {"ours": distance(losses, truth), "loop_f32": distance(framework, truth)},
                       "allowed": allowed, "coincide": here})
        pathlib.Path(flags.out, f"trained_{cell}.inc").write_text(text_of(model))
        print(f"{cell}: loss {losses[0]:.3f} -> {losses[-1]:.3f} nats in {flags.steps} steps; over {compared} steps ours differs from f64 by at most {distance(losses, truth):.2g}, "
              f"the framework's f32 by {distance(framework, truth):.2g}, allowed {allowed:.2g}: {'coincide' if here else 'DO NOT COINCIDE'}", flush=True)
    if flags.curve:
        pathlib.Path(flags.curve).write_text(json.dumps(curves) + "\n")
    return 0 if coincide else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

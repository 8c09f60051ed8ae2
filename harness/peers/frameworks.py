"""Outside programs: what a user of PyTorch would run instead. A peer is prepared for a problem and then launched; a launch returns its outputs by name.

Steps are those of cells.py in the compute type; stored outputs are rounded to the storage type, as ours are."""

import importlib
import math
import time

import torch

import cells
import library
import oracle


class NotHere(Exception):
    """Why this peer does not run here, or not this problem."""


def compute_of(axes):
    return torch.float64 if axes["storage"] == "f64" else torch.float32


def in_compute(axes, tensors, *names):
    return [tensors[name].to(compute_of(axes)) for name in names]


def stored(axes, h):
    """A pass's states, [B, L, K, D] in storage type, and the last one as computed."""
    return {"h": h.to(library.STORAGE[axes["storage"]]), "last": h[:, -1]}


class Eager:
    """The step loop as it is written: a few launches a step."""

    name, passes, queued = "torch_eager", ["forward"], False

    def prepare(self, axes, tensors):
        step = cells.STEPS[axes["cell"]]

        def launch():
            with torch.no_grad():
                u, a, h0 = in_compute(axes, tensors, "u", "a", "h0")
                return stored(axes, cells.loop(step, h0, a, u))

        return launch


class Compiled:
    """The step loop with torch.compile: `steps` unrolled steps are one compiled function, called L / steps times; the whole loop would take minutes to compile."""

    name, passes, queued = "torch_compiled", ["forward"], False
    steps = 8
    most_versions = 64  # of one function that torch keeps: a cell, a batch, a hidden size and a number of steps each

    def __init__(self, compile_s):
        self._left_s = compile_s

    def prepare(self, axes, tensors):
        if not hasattr(torch, "compile"):
            raise NotHere(f"torch {torch.__version__} has no torch.compile")
        if self._left_s <= 0:
            raise NotHere("the time for compiling (--compile-s) is spent")
        step, steps = cells.STEPS[axes["cell"]], math.gcd(axes["seq_len"], self.steps)

        def unrolled(h, a, u):
            states = []
            for l in range(steps):
                h = step(h, a, u[l])
                states.append(h)
            return torch.stack(states, dim=1), h

        settings = torch._dynamo.config
        setattr(settings, "recompile_limit" if hasattr(settings, "recompile_limit") else "cache_size_limit", self.most_versions)
        compiled = torch.compile(unrolled, dynamic=False, fullgraph=True)

        def launch():
            with torch.no_grad():
                u, a, h = in_compute(axes, tensors, "u", "a", "h0")
                u = u.transpose(0, 1).contiguous()  # time-major: the same strides, and so one compiled function, at every length
                chunks = []
                for l in range(0, axes["seq_len"], steps):
                    states, h = compiled(h, a, u[l : l + steps])
                    chunks.append(states)
                return stored(axes, torch.cat(chunks, dim=1))

        started = time.perf_counter()
        launch()
        self._left_s -= time.perf_counter() - started
        return launch


class Newton:
    """Newton's method with a scan (Danieli et al. 2025, eq. 2.1) in framework operations: derivatives by autograd, the scan by doubling in log2 L rounds; until the
    residual is at rounding level (design section 6.3), which the host looks at."""

    name, passes, queued = "torch_newton", ["forward"], False
    most_iterations = 30

    def prepare(self, axes, tensors):
        step = cells.STEPS[axes["cell"]]
        self.outcome = {}

        def launch():
            u, a, h0 = in_compute(axes, tensors, "u", "a", "h0")
            zero = torch.zeros_like(h0).unsqueeze(1).expand(-1, axes["seq_len"], -1, -1)
            h = step(zero, a, u)  # the paper's guess f(0, x)
            for iteration in range(self.most_iterations + 1):
                after, J, _, _ = cells.derivatives(step, cells.shifted(h0, h), a, u)
                r = after - h
                converged = bool(r.abs().max() <= 8 * oracle.ROUNDOFF[h.dtype] * max(1.0, float(h.abs().max())))
                self.outcome = {"iterations": iteration, "converged": int(converged)}
                if converged or iteration == self.most_iterations:
                    break
                h = h + scan(J, r)
            return stored(axes, h)

        return launch


def scan(J, r):
    """d_l = J_l d_{l-1} + r_l from d_0 = 0, J [B, L, K, K, D], r [B, L, K, D]: maps are composed with those 1, 2, 4 .. steps before (Kogge and Stone 1973)."""
    offset = 1
    while offset < r.shape[1]:
        earlier_r, earlier_J, later_J = r[:, :-offset], J[:, :-offset], J[:, offset:]
        r = torch.cat((r[:, :offset], r[:, offset:] + (later_J * earlier_r.unsqueeze(2)).sum(3)), dim=1)
        J = torch.cat((J[:, :offset], (later_J.unsqueeze(4) * earlier_J.unsqueeze(2)).sum(3)), dim=1)
        offset *= 2
    return r


class Autograd:
    """Gradients by autograd through the eager step loop. Pass backward: the graph of the forward pass is there, and is kept."""

    name, passes, queued = "torch_autograd", ["backward", "both"], False

    def prepare(self, axes, tensors):
        if axes["storage"] not in ("f32", "f64"):
            raise NotHere("autograd differentiates states that are not rounded to 16 bits, so not those that are stored")
        step = cells.STEPS[axes["cell"]]

        def forward():
            leaves = [t.detach().requires_grad_() for t in in_compute(axes, tensors, "u", "a", "h0")]
            with torch.enable_grad():
                h = cells.loop(step, leaves[2], leaves[1], leaves[0])
                return leaves, h, oracle.loss(h, tensors, axes["grad"])

        def outputs(leaves, h, loss, keep):
            du, da, dh0 = torch.autograd.grad(loss, leaves, retain_graph=keep)
            return {**stored(axes, h.detach()), "du": du.to(library.STORAGE[axes["storage"]]), "da": da, "dh0": dh0}

        if axes["pass"] == "both":
            return lambda: outputs(*forward(), False)
        graph = forward()
        return lambda: outputs(*graph, True)


class Cudnn:
    """cuDNN's GRU or LSTM with D inputs: a dense D x D recurrence and its projection, so another function and more work. It is held against itself in f64 without cuDNN."""

    name, passes, queued = "cudnn", ["forward"], True
    modules = {"gru_diag": torch.nn.GRU, "lstm_cifg_diag": torch.nn.LSTM}

    def prepare(self, axes, tensors):
        if axes["cell"] not in self.modules:
            raise NotHere(f"cuDNN has nothing like {axes['cell']}")
        if axes["storage"] != "f32" or axes["h0"] != "zero":
            raise NotHere("cuDNN is compared in f32 from h0 = 0 alone")
        device = tensors["u"].device
        if device.type != "cuda":
            raise NotHere("cuDNN runs on a GPU alone")
        return self.dense(axes, device)

    def dense(self, axes, device):
        torch.manual_seed(axes["seed"])
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        self.module = self.modules[axes["cell"]](axes["hidden"], axes["hidden"], batch_first=True).to(device)
        self.x = torch.randn(axes["batch"], axes["seq_len"], axes["hidden"], device=device)

        def launch():
            with torch.no_grad():
                return {"own": self.module(self.x)[0]}

        return launch

    def judge(self, axes, outputs):
        """(true output, largest error over bound). A gate's argument is two sums of D products of |w| <= 1 / sqrt(D), 1 / (2 sqrt(D)) on average, and |h|, |x| of order 1;
        its rounding error is of order u sqrt(2 D) sum |w h| (Higham and Mary 2019); the next state feels it by at most 2, and with such weights forgets it within 2 steps."""
        exact = self.modules[axes["cell"]](axes["hidden"], axes["hidden"], batch_first=True).to(self.x)
        exact.load_state_dict(self.module.state_dict())
        exact.double()
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=False):
            truth = exact(self.x.double())[0]
        bound = 4 * oracle.ROUNDOFF[torch.float32] * math.sqrt(2 * axes["hidden"]) * math.sqrt(axes["hidden"])
        return truth, float((outputs["own"].double() - truth).abs().max()) / bound


class Pararnn:
    """The published package (ml-pararnn), where the user has built it: its fused kernel, three unchecked iterations, alone: what brings tensors into its layout
    [B, D, L, I], and its states [B, D, L (, K)] back, is not timed."""

    name, passes, queued = "ml_pararnn", ["forward"], True

    @staticmethod
    def operations():
        """Importing the package's extension registers its operations."""
        try:
            importlib.import_module("parallel_reduce_cuda")
        except ImportError as error:
            raise NotHere(f"the package ml-pararnn is not installed ({error})") from None
        return torch.ops.parallel_reduce_cuda

    def prepare(self, axes, tensors):
        operations = self.operations()
        if axes["storage"] != "f32" or axes["h0"] != "zero":
            raise NotHere("ml-pararnn computes in f32 from h0 = 0 alone")
        u, a = tensors["u"].permute(0, 3, 1, 2).contiguous(), tensors["a"].t().contiguous()
        if axes["cell"] == "gru_diag":
            return lambda: {"raw": operations.fused_fwd_gru_diag_mh(a, u).unsqueeze(-1)}
        if axes["cell"] == "lstm_cifg_diag":
            gates, peepholes = a[:, :3].contiguous(), a[:, 3:].contiguous()
            return lambda: {"raw": operations.fused_fwd_lstm_cifg_diag_mh(gates, u, peepholes)}
        raise NotHere(f"ml-pararnn has no {axes['cell']}")

    def unpack(self, outputs):
        h = outputs["raw"].permute(0, 2, 3, 1).contiguous()
        return {"h": h, "last": h[:, -1]}


def peers(compile_s):
    return [Eager(), Compiled(compile_s), Newton(), Autograd(), Cudnn(), Pararnn()]

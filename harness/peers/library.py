"""Our kernels through kernels/c_api.h, on torch tensors: the same memory, the same process, the same stream."""

import ctypes
import functools

try:
    import torch
except ImportError:
    torch = None  # sizes and refusals need none

VERSION = 1  # PRNN_C_API_VERSION
STORAGE = {name: getattr(torch, of_torch, None) for name, of_torch in {"f32": "float32", "f64": "float64", "bf16": "bfloat16", "f16": "float16"}.items()}
TENSORS = ["u", "a", "h0", "h", "last", "grad_h", "grad_last", "du", "da", "dh0"]


class Failed(Exception):
    """A call that did not succeed: its status and one line."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


UNDEFINED, OUT_OF_MEMORY = 65, 66  # of PrnnStatus


class Problem(ctypes.Structure):
    _fields_ = ([("size", ctypes.c_int64)] + [(name, ctypes.c_char_p) for name in ("cell", "solver", "pass_", "storage", "grad", "gates")] +
                [(name, ctypes.c_int64) for name in ("batch", "seq_len", "hidden", "iteration_limit", "accumulate_da")])


class Tensors(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in TENSORS]


class Sizes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("inputs", "states", "weights", "gradients", "bytes_min", "flops")]


class Outcome(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("converged", "iterations", "rounds", "boundaries", "boundaries_failed", "nonfinite_b", "nonfinite_l", "nonfinite_d")]


class Ratios(ctypes.Structure):
    _fields_ = [(name, ctypes.c_double) for name in ("h", "du", "da", "dh0")]


def problem_of(axes, solver="auto", accumulate_da=False):
    """axes: a dict with the names of a record's fields (cell, pass, storage, batch ..)."""
    limit = axes.get("iteration_limit", "adaptive")
    words = [axes["cell"], solver, axes.get("pass", "forward"), axes.get("storage", "f32"), axes.get("grad", "all"), axes.get("gates", "exact")]
    return Problem(ctypes.sizeof(Problem), *(word.encode() for word in words), axes["batch"], axes["seq_len"], axes["hidden"], 0 if limit == "adaptive" else limit, accumulate_da)


class Library:
    """libprnn_c.so and one device, cpu or cuda."""

    def __init__(self, path, device):
        self._c = ctypes.CDLL(str(path))
        self._c.prnn_message.restype = ctypes.c_char_p
        self._c.prnn_plan_solver.restype = ctypes.c_char_p
        if self._c.prnn_c_api_version() != VERSION:
            raise Failed(0, f"{path}: version {self._c.prnn_c_api_version()} of the C interface; expected {VERSION}")
        self.device = device
        self._kept = {}
        self._device = ctypes.c_void_p()
        self._call("prnn_device_open", device.encode(), ctypes.byref(self._device))

    def _call(self, name, *arguments):
        status = getattr(self._c, name)(*arguments)
        if status != 0:
            raise Failed(status, self._c.prnn_message().decode())

    def rates(self):
        """(bytes a second of the best copy, seconds of an empty launch)"""
        copy, launch = ctypes.c_double(), ctypes.c_double()
        self._call("prnn_device_rates", self._device, ctypes.byref(copy), ctypes.byref(launch))
        return copy.value, launch.value

    def sizes(self, axes):
        sizes = Sizes()
        self._call("prnn_sizes", ctypes.byref(problem_of(axes)), ctypes.byref(sizes))
        return sizes

    def tensors(self, axes):
        """Empty tensors of a problem's pass, by name, in the shapes of c_api.h; those that the pass does not use are left out."""
        sizes = self.sizes(axes)
        batch, length, hidden, passes = axes["batch"], axes["seq_len"], axes["hidden"], axes.get("pass", "forward")
        storage = STORAGE[axes.get("storage", "f32")]
        compute = torch.float64 if storage == torch.float64 else torch.float32
        edge, inputs, weights = (batch, sizes.states, hidden), (batch, length, sizes.inputs, hidden), (sizes.weights, hidden)
        shapes = {"u": (inputs, storage), "a": (weights, storage), "h0": (edge, compute), "h": ((batch, length, sizes.states, hidden), storage)}
        if passes != "backward":
            shapes["last"] = (edge, compute)
        if passes != "forward":
            if sizes.gradients:
                shapes["grad_h"] = ((batch, length, sizes.gradients, hidden), storage)
            shapes.update(grad_last=(edge, compute), du=(inputs, storage), da=(weights, compute), dh0=(edge, compute))
        return {name: torch.empty(shape, dtype=dtype, device=self.device) for name, (shape, dtype) in shapes.items()}

    def _pointers(self, tensors):
        return Tensors(**{name: tensor.data_ptr() for name, tensor in tensors.items()})

    def _wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()

    def draw(self, axes, tensors):
        """Every input of the pass as `prnn run` draws it."""
        self._wait()
        self._call("prnn_draw", self._device, ctypes.byref(problem_of(axes)), axes.get("regime", "paper").encode(), axes.get("h0", "zero").encode(),
                   ctypes.c_uint64(axes.get("seed", 1)), ctypes.byref(self._pointers(tensors)))

    def judge(self, axes, tensors):
        """{output: largest error over its bound} by the local test, of the outputs of the pass."""
        self._wait()
        ratios = Ratios()
        self._call("prnn_judge", self._device, ctypes.byref(problem_of(axes)), ctypes.byref(self._pointers(tensors)), ctypes.byref(ratios))
        return {name: getattr(ratios, name) for name, _ in Ratios._fields_ if getattr(ratios, name) != -1}

    def plan(self, axes, solver="auto", accumulate_da=False):
        return Plan(self, axes, solver, accumulate_da)

    def kept_plan(self, axes, solver="auto"):
        """As plan(), made once: for launches that follow each other on one stream, since they share its workspace."""
        key = (solver, *sorted(axes.items()))
        if key not in self._kept:
            self._kept[key] = self.plan(axes, solver)
        return self._kept[key]


class Plan:
    """A solver ready for one problem, with its workspace."""

    def __init__(self, library, axes, solver, accumulate_da=False):
        self._library = library
        problem = problem_of(axes, solver, accumulate_da)
        needed = ctypes.c_int64()
        library._call("prnn_workspace_bytes", library._device, ctypes.byref(problem), ctypes.byref(needed))
        self._memory = torch.empty(needed.value + 256, dtype=torch.uint8, device=library.device)
        base = (self._memory.data_ptr() + 255) // 256 * 256
        self._plan = ctypes.c_void_p()
        library._call("prnn_plan_create", library._device, ctypes.byref(problem), ctypes.c_void_p(base), needed, ctypes.byref(self._plan))

    def __del__(self):
        if getattr(self, "_plan", None):
            self._library._c.prnn_plan_destroy(self._plan)

    def solver(self):
        return self._library._c.prnn_plan_solver(self._plan).decode()

    def bind(self, tensors):
        """A launch of these tensors on torch's current stream, as cheap as a call from Python can be. The tensors must stay."""
        pointers = self._library._pointers(tensors)
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream if self._library.device == "cuda" else None)
        return functools.partial(self._launch, pointers, ctypes.byref(pointers), stream)

    def _launch(self, _, pointers, stream):
        if self._library._c.prnn_launch(self._plan, pointers, stream) != 0:
            raise Failed(-1, self._library._c.prnn_message().decode())

    def outcome(self):
        """Of the last launch, once it is done: {field: number}, -1 fields left out."""
        self._library._wait()
        outcome = Outcome()
        self._library._call("prnn_outcome", self._plan, ctypes.byref(outcome))
        return {name: getattr(outcome, name) for name, _ in Outcome._fields_ if getattr(outcome, name) != -1}

"""Our recurrence as a function that autograd knows: forward and backward through the C interface, on torch's tensors."""

import torch

STORAGE = {torch.float32: "f32", torch.float64: "f64", torch.bfloat16: "bf16", torch.float16: "f16"}


class Recurrence(torch.autograd.Function):
    """u [B, L, I, D], a [W, D], of one storage type -> h [B, L, K, D], from h0 = 0. library: a library.Library of the tensors' device."""

    @staticmethod
    def forward(context, u, a, library, cell, solver="auto"):
        batch, length, _, hidden = u.shape
        axes = {"cell": cell, "storage": STORAGE[u.dtype], "batch": batch, "seq_len": length, "hidden": hidden}
        tensors = {"u": u.contiguous(), "a": a.contiguous(), "h": library.tensors(axes)["h"]}
        library.kept_plan(axes, solver).bind(tensors)()
        context.save_for_backward(tensors["u"], tensors["a"], tensors["h"])
        context.library, context.axes, context.solver = library, {**axes, "pass": "backward"}, solver
        return tensors["h"]

    @staticmethod
    def backward(context, grad_h):
        u, a, h = context.saved_tensors
        tensors = {"u": u, "a": a, "h": h, "grad_h": grad_h.contiguous()}
        tensors.update({name: tensor for name, tensor in context.library.tensors(context.axes).items() if name in ("du", "da")})
        context.library.kept_plan(context.axes, context.solver).bind(tensors)()
        return tensors["du"], tensors["da"].to(a.dtype), None, None, None

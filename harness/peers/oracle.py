"""What autograd in f64 says of states and gradients, and how far a right result may be from it. Nothing here is taken from our kernels or our reference.

States are held against the true ones, h*_l = f(h*_{l-1}, u_l) in f64, and gradients against those of the very states that they were computed from. Bounds, with u_c
and u_s the unit roundoffs of compute and storage type, e the error of a gate (design section 6), n gates and s = max |df/dgate|:
  states      E_l = |J_l| E_{l-1} + n s e + 4 u_c (1 + sum |p|), and u_s |h_l| where it is stored     p: the arguments' terms, |a h| <= |a| and u
  gradients   an entry of J, F or A is a polynomial of the gates, its error at most d = 4 n e + 8 u_c
              E_{l-1} = |J_l|^T E_l + d |g_l| + 2 u_c |g_{l-1}|;  du: |F|^T E + d |g| + u_s |du|;  da: sum over b, l of |A|^T E + d |g|, + u_c |da|
J, F and A are one step's derivatives by the state, u and a (cells.derivatives)."""

import torch

import cells

ROUNDOFF = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}


def gate_error(compute, gates):
    """Stated error of a gate (design section 7), and of the approximate ones (kernels/cells/approximated.hpp)."""
    if gates == "approx":
        return 2.0**-11
    return 3e-16 if compute == torch.float64 else 1.5e-7


class Bounds:
    def __init__(self, cell, storage, gates):
        compute = torch.float64 if storage == torch.float64 else torch.float32
        self.u_c, self.u_s = ROUNDOFF[compute], 0.0 if storage == compute else ROUNDOFF[storage]
        count, slope = cells.GATES[cell]
        self.gates = count * slope * gate_error(compute, gates)
        self.derivative = 4 * count * gate_error(compute, gates) + 8 * self.u_c


def worst(error, bound):
    """The largest error over bound; 0 over 0 is right. NaN stays."""
    ratio = torch.where(error == 0, torch.zeros_like(error), error / bound)
    return float("nan") if ratio.isnan().any() else float(ratio.max())


def true_states(cell, tensors, gates="exact"):
    """(true states in f64, how far stored ones may be from them), [B, L, K, D], of u, a and h0; they are stored in u's type."""
    step, stored = cells.STEPS[cell], tensors["u"].dtype
    a, u, h0 = (tensors[name].double() for name in ("a", "u", "h0"))
    truth = cells.loop(step, h0, a, u)
    _, J, _, _ = cells.derivatives(step, cells.shifted(h0, truth), a, u)
    b = Bounds(cell, stored, gates)
    fresh = b.gates + 4 * b.u_c * (1 + a.abs().sum(0) + u.abs().sum(2, keepdim=True))
    bound, E = torch.empty_like(truth), torch.zeros_like(h0)
    for l in range(u.shape[1]):
        E = (J[:, l].abs() * E.unsqueeze(1)).sum(2) + fresh[:, l]
        bound[:, l] = E + b.u_s * truth[:, l].abs()
    return truth, bound


def judge_states(cell, tensors, gates="exact"):
    """The largest error over bound of the states h [B, L, K, D]."""
    truth, bound = true_states(cell, tensors, gates)
    return worst((tensors["h"].double() - truth).abs(), bound)


def gradients(cell, tensors, grad, gates="exact"):
    """Of the loss (kernels/c_api.h) at the states tensors["h"], by autograd's derivatives in f64: {"du" | "da" | "dh0": (gradient, bound)}."""
    step = cells.STEPS[cell]
    a, u, h0, h, grad_last = (tensors[name].double() for name in ("a", "u", "h0", "h", "grad_last"))
    by_state = torch.zeros_like(h)
    if grad == "squares":
        by_state = 2 * h
    elif grad == "output":
        by_state[:, :, -1:] = tensors["grad_h"].double()
    else:
        by_state = tensors["grad_h"].double()
    _, J, F, A = cells.derivatives(step, cells.shifted(h0, h), a, u)
    b = Bounds(cell, tensors["h"].dtype, gates)
    g, E = grad_last + by_state[:, -1], torch.zeros_like(h0)
    all_g, all_E = torch.empty_like(h), torch.empty_like(h)
    for l in reversed(range(h.shape[1])):
        all_g[:, l], all_E[:, l] = g, E
        E = (J[:, l].abs() * E.unsqueeze(2)).sum(1) + b.derivative * g.abs().sum(1, keepdim=True)
        g = (J[:, l] * g.unsqueeze(2)).sum(1) + (by_state[:, l - 1] if l else 0)
        E = E + 2 * b.u_c * g.abs()
    slack = b.derivative * all_g.abs().sum(2, keepdim=True)
    du = (F * all_g.unsqueeze(3)).sum(2)
    by_step = (A * all_g.unsqueeze(3)).sum(2)
    da = by_step.sum((0, 1))
    da_bound = ((A.abs() * all_E.unsqueeze(3)).sum(2) + slack).sum((0, 1)) + b.u_c * by_step.abs().sum((0, 1))
    return {"du": (du, (F.abs() * all_E.unsqueeze(3)).sum(2) + slack + (b.u_s + b.u_c) * du.abs()), "da": (da, da_bound), "dh0": (g, E)}


def end_to_end(cell, tensors, grad):
    """Autograd through the plain loop in f64, from u, a and h0 to the loss: true states and gradients {"h", "du", "da", "dh0"}."""
    leaves = {name: tensors[name].double().requires_grad_() for name in ("u", "a", "h0")}
    with torch.enable_grad():
        h = cells.loop(cells.STEPS[cell], leaves["h0"], leaves["a"], leaves["u"])
        loss_value = loss(h, tensors, grad)
    du, da, dh0 = torch.autograd.grad(loss_value, [leaves[name] for name in ("u", "a", "h0")])
    return {"h": h.detach(), "du": du, "da": da, "dh0": dh0}


def loss(h, tensors, grad):
    """The loss of kernels/c_api.h, in h's type."""
    value = (tensors["grad_last"].to(h.dtype) * h[:, -1]).sum()
    if grad == "squares":
        return value + (h * h).sum()
    given = tensors["grad_h"].to(h.dtype)
    return value + (given * (h[:, :, -1:] if grad == "output" else h)).sum()

"""The cells' equations, written from the paper (Danieli et al. 2025, arXiv:2510.21450, eq. 3.1), not from kernels/cells/: what autograd differentiates is an oracle of its own.

A step takes the state [.., K, D], the weights [W, D] (or [.., W, D]) and one position's pre-activations [.., I, D], slots in the order of kernels/cells/, and returns
the next state [.., K, D]."""

import torch


def gru_diag(h, a, u):
    """h' = (1 - z) h + z c (eq. 3.1a with a diagonal A). Slots: z, r, c."""
    h = h[..., 0, :]
    a_z, a_r, a_c = a.unbind(-2)
    u_z, u_r, u_c = u.unbind(-2)
    z = torch.sigmoid(a_z * h + u_z)
    r = torch.sigmoid(a_r * h + u_r)
    c = torch.tanh(a_c * (h * r) + u_c)
    return ((1 - z) * h + z * c).unsqueeze(-2)


def lstm_cifg_diag(state, a, u):
    """c' = f c + (1 - f) z, h' = o tanh(c'), peepholes, o sees c' (eq. 3.1b). State: c, h. Weights: a_f, a_o, a_z, c_f, c_o. Slots: f, o, z."""
    c, h = state.unbind(-2)
    a_f, a_o, a_z, c_f, c_o = a.unbind(-2)
    u_f, u_o, u_z = u.unbind(-2)
    f = torch.sigmoid(a_f * h + u_f + c_f * c)
    z = torch.tanh(a_z * h + u_z)
    c_next = f * c + (1 - f) * z
    o = torch.sigmoid(a_o * h + u_o + c_o * c_next)
    return torch.stack((c_next, o * torch.tanh(c_next)), dim=-2)


def elman_diag(h, a, u):
    """h' = tanh(a h + u), Elman 1990 with a diagonal recurrent matrix."""
    return torch.tanh(a * h + u)


STEPS = {"gru_diag": gru_diag, "lstm_cifg_diag": lstm_cifg_diag, "elman_diag": elman_diag}
# Of each: gates, and the largest |df/dgate| with states and gates within [-1, 1]: what an error of a gate does to the next state.
GATES = {"gru_diag": (3, 2), "lstm_cifg_diag": (4, 2), "elman_diag": (1, 1)}


def loop(step, h0, a, u):
    """The plain sequential application: u [B, L, I, D], h0 [B, K, D] -> h [B, L, K, D]."""
    h, states = h0, []
    for l in range(u.shape[1]):
        h = step(h, a, u[:, l])
        states.append(h)
    return torch.stack(states, dim=1)


def shifted(h0, h):
    """The state before each step: [h0, h_1 .. h_{L-1}], [B, L, K, D]."""
    return torch.cat((h0.unsqueeze(1), h[:, :-1]), dim=1)


def derivatives(step, before, a, u):
    """All steps at once by autograd: next [B, L, K, D] and its derivatives by the state before J [B, L, K, K, D], by u F [B, L, K, I, D] and by a A [B, L, K, W, D].
    A step is elementwise in b, l and d, so the gradient of a component's sum holds every one's derivative."""
    leaves = [t.detach().requires_grad_() for t in (before, u, a.expand(*u.shape[:2], *a.shape))]
    with torch.enable_grad():
        after = step(leaves[0], leaves[2], leaves[1])
        rows = [torch.autograd.grad(after[..., k, :].sum(), leaves, retain_graph=True) for k in range(after.shape[-2])]
    J, F, A = (torch.stack([row[i] for row in rows], dim=2) for i in range(3))
    return after.detach(), J, F, A

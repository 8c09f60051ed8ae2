// thresholds.hpp: the constants every verdict rests on, each with the reason for its value. Nothing else sets a tolerance.
#pragma once

#include "kernels/fault.hpp"

namespace prnn {

/// c of design section 6: a row passes iff error <= c x bound. Measured over 3 cells x 7 regimes (paper, public, corners, wide, expansive,
/// long_memory, saturated) x 4 storages, 1500 steps: plain sequential evaluation reaches 0.67 (local) and 0.69 (forward) in f32 and f64, and at most
/// 1 in 16 bits, where storing dominates. A Newton solver may leave a residual of 8 u_c (|h| + |J| |h_before|) (convergence.hpp): up to 8 local, beside
/// the rounding of its last step. Gradients by a plain loop, the same set over 300 steps: du reaches 0.65 (0.99 in 16 bits), dh0 0.60, da 0.03, for the errors
/// of its terms cancel and their bounds do not.
inline constexpr double kErrorFactor = 16;

/// The reference and a witness file of 40 digits agree to this, relative to max(1, |x|).
inline constexpr double kWitnessTolerance = 1e-29;

/// A forward error is judged while its bound E_l stays below this x scale: beyond, first-order bounds say nothing (chaos).
inline constexpr double kJudgedBelow = 0x1p-10;

/// ... and while the two precisions of the reference differ by less than this x the bound.
inline constexpr double kReferenceMargin = 0x1p-10;

/// The part of the time for true gradients that may go to those at the true states, on which no verdict rests.
inline constexpr double kEndToEndShare = 0.25;

/// Whether a ratio of error to bound passes. NaN fails.
constexpr bool passes(double ratio) { return PRNN_FAULT(37, ratio <= kErrorFactor, !(ratio > kErrorFactor)); }

}  // namespace prnn

// reference.hpp: the truth at 50 digits, and the verdict on computed states (design section 6). Plain C++: Boost and Eigen stay in the .cpp files.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/api.hpp"
#include "kernels/ops/recurrence.hpp"
#include "reference/thresholds.hpp"

namespace prnn {

/// Raise it whenever a number of the truth or a byte of the cache changes: it is part of the cache's key.
inline constexpr int kReferenceVersion = 1;
/// What a record says under error.reference.
inline constexpr const char* kReferenceName = "mpfr, 50 digits against 40";

/// A number of the reference, rounded to 32 digits: high + low, high being the nearest double.
struct DoubleDouble {
  double high = 0, low = 0;
};

// ---------------------------------------------------------------------------------------------------------------------
// Sequential truth (sequential.cpp)

using Deadline = std::chrono::steady_clock::time_point;
inline constexpr Deadline kNoDeadline = Deadline::max();

struct Truth {
  std::int64_t steps = 0;            // at most the channel's seq_len
  std::vector<DoubleDouble> states;  // [steps, kState]
  std::vector<float> difference;     // [steps, kState]: |50 digits - 40 digits|
  bool ends = false;                 // no verdict is possible beyond steps: more of them are of no use
};

/// The states of a channel, step by step. Stops early at the deadline and, with until_hopeless set, where the error bound of that compute
/// type is too large for any verdict (Truth::ends).
Truth true_states(const ChannelData&, Deadline = kNoDeadline, std::optional<Storage> until_hopeless = {});

// ---------------------------------------------------------------------------------------------------------------------
// Dynamics (dynamics.cpp)

/// What a recurrence does to a small error of its state.
struct Dynamics {
  double lyapunov = -std::numeric_limits<double>::infinity();  // largest Lyapunov exponent over the sequence, nats a step (Growth in kernels/cells/growth.hpp); above 0: chaos
  double jacobian_max = 0;                                     // largest |entry| of a step's Jacobian
};
/// Of one channel over all its steps, in double: along its true states as far as they are known, and beyond from the last of them on.
Dynamics dynamics(const ChannelData&, const Truth&);

// ---------------------------------------------------------------------------------------------------------------------
// Gradients (gradients.cpp). Loss = <grad_h, h> + <grad_last, last>, at states that are given, exact as the forward pass stored them, or end to end at the true ones:
//   g_L = grad_last + grad_h_L;  (g_{l-1}, da, du_l) = J_l^T g_l at (h_{l-1}, a, u_l), and grad_h_{l-1} added to g_{l-1};  dh0 = J_1^T g_1

/// What the backward pass of one channel (b, d) is given.
struct BackwardChannel {
  ChannelData data;
  std::vector<double> states;  // [L, kState]; empty, for true_gradients(): the true ones, computed from data
  ChannelGradients loss;       // grad_h [L, G], grad_last [kState]; grad_h empty, at the true states alone: 2 h of these (loss |h|^2)
};
/// Channel (b, d) of a problem at the states [L, kState] that its forward pass stored: exact, and where the loss is |h|^2 (squares) grad_h is 2 h of just these.
BackwardChannel channel_at(const Problem&, std::int64_t b, std::int64_t d, std::vector<double> states);

/// Sum over steps of state^2: of all components, or of the last one only (the output).
enum class Loss { all_components, last_component };

/// What depends on the weights, the inputs and the initial state of a channel, one T each.
template <class T>
struct ByArgument {
  std::vector<T> weights;  // [kWeights]
  std::vector<T> inputs;   // [steps, kInputs]: of the last steps of the sequence, in its order
  std::vector<T> initial;  // [kState]
};

/// Gradients of a loss by reverse accumulation, from the last step to the first.
struct Gradients : ByArgument<DoubleDouble> {
  std::int64_t steps = 0;         // known, counted from the end; below seq_len there was no time for more, and weights and initial are empty
  ByArgument<double> difference;  // |50 digits - 40 digits|
};
/// Throws std::invalid_argument where a shape is not the channel's. Stops early at the deadline: with no step at all where it comes before the true states.
Gradients true_gradients(const BackwardChannel&, Deadline = kNoDeadline);
/// End to end, of the sum of squares alone.
Gradients true_gradients(const ChannelData&, Loss);

/// True gradients of all channels of a run: in parallel, within one limit of wall-clock seconds, and none twice while it is remembered.
class GradientReference {
 public:
  explicit GradientReference(double limit_s = std::numeric_limits<double>::infinity()) : limit_s_(limit_s) {}

  /// Of every channel, in order. Where time is short, every `group` that follow each other share it fairly, the first group before the next.
  std::vector<std::shared_ptr<const Gradients>> of(const std::vector<const BackwardChannel*>& channels, std::size_t group) { return within(limit_s_ - spent_s_, channels, group); }
  /// The same of channels without states: all calls together have kEndToEndShare of the limit at most, for no verdict waits for them.
  std::vector<std::shared_ptr<const Gradients>> end_to_end(const std::vector<const BackwardChannel*>&, std::size_t group);

  double spent_s() const { return spent_s_; }

 protected:
  double limit_s_, spent_s_ = 0;

 private:
  std::vector<std::shared_ptr<const Gradients>> within(double seconds, const std::vector<const BackwardChannel*>&, std::size_t group);
  double end_to_end_s_ = 0;                                          // of spent_s_
  std::map<std::uint64_t, std::shared_ptr<const Gradients>> known_;  // by a hash of all that they depend on
};

// ---------------------------------------------------------------------------------------------------------------------
// Cache of truths on disk (cache.cpp)

/// The channels (b, d) of a problem that are held against the truth: at most 4, a function of batch and hidden alone.
std::vector<std::array<std::int64_t, 2>> sampled_channels(const Problem&);

/// One file a channel, written atomically, with a checksum: a damaged file is recomputed, never trusted. A long entry serves every
/// shorter length. Computing shares one limit of wall-clock seconds: when it is spent, truths get shorter, never wrong.
/// Gradients it only remembers, for they depend on what a solver stored; their time is of the same limit.
class ReferenceCache : public GradientReference {
 public:
  /// Makes the directory; throws BadInput where that fails. limit_s: seconds this object may compute for.
  explicit ReferenceCache(std::filesystem::path directory, double limit_s = std::numeric_limits<double>::infinity());

  struct Filled {
    std::int64_t channels = 0, computed = 0, cut_short = 0;
  };
  /// Computes what is missing of the sampled channels of all problems, in parallel, short ones first. progress(done, total) of channels.
  Filled fill(const std::vector<Problem>&, const std::function<void(std::int64_t, std::int64_t)>& progress = {});

  /// The first seq_len steps of a channel, or fewer (hopeless beyond, or out of time). From the file where it serves, else computed and stored.
  /// Throws std::runtime_error where the file cannot be written (disk full).
  Truth truth(const Problem&, std::int64_t b, std::int64_t d);

  /// The largest of each over the sampled channels; remembered.
  Dynamics dynamics(const Problem&);

  /// The last of `count` iterates of a channel, as far as there was time: all of these together have kEndToEndShare of the limit at most, for no verdict waits
  /// for them. Remembered.
  const std::vector<DoubleDouble>& last_iterate(const Problem&, std::int64_t b, std::int64_t d, int count, std::int64_t steps_a_tile, std::int64_t steps);

  std::filesystem::path file_of(const Problem&, std::int64_t b, std::int64_t d) const;

 private:
  std::filesystem::path directory_;
  double iterates_s_ = 0;  // of spent_s_
  std::map<std::string, Dynamics> dynamics_;
  std::map<std::string, std::vector<DoubleDouble>> iterates_;
};

// ---------------------------------------------------------------------------------------------------------------------
// Verdict (judge.cpp)

/// Design section 6, test 2: the sampled channels of `computed` (b, d) -> stored h [L, kState] against the truth. Fills every field of the
/// report but ratio_local; errors are over the judged prefixes. An element that is NaN where the truth is finite makes the ratio NaN.
void judge_forward(const Problem&, const std::function<std::vector<double>(std::int64_t b, std::int64_t d)>& computed, ReferenceCache&, ErrorReport&);

/// E_l of one channel [truth.steps, kState]: E_l = |J_l| E_{l-1} + g_l along the truth, rounding of the compute type of `storage`.
std::vector<double> forward_bound(const ChannelData&, const Truth&, Storage storage, std::string_view gates = "exact");

/// A channel with its truth and what a solver made of it.
struct JudgedChannel {
  std::array<std::int64_t, 2> id{};  // (b, d)
  ChannelData data;
  Truth truth;
  std::vector<double> computed;     // [L, kState]
  std::vector<std::int64_t> steps;  // 0-based, increasing: those judged; empty: all
};
/// The same verdict on any channels.
void judge_channels(const std::vector<JudgedChannel>&, Storage storage, ErrorReport&, std::string_view gates = "exact");

// ---------------------------------------------------------------------------------------------------------------------
// Verdict on gradients (judge_backward.cpp)

/// Bounds on the rounding errors of a backward pass, by running error analysis (kernels/cells/bounded.hpp). weights: of this batch entry alone, and of summing it.
/// What is stored in 16 bits has storing_error() beside them.
struct GradientBounds : ByArgument<double> {
  std::int64_t steps = 0;  // counted from the end; below seq_len numbers leave the range of the compute type, and weights and initial are empty
};
/// Errors that the backward pass is given: of the states [L, kState] and of grad_h [L, G]; empty: exact.
struct GivenErrors {
  std::vector<double> states, loss;
};
GradientBounds gradient_bounds(const BackwardChannel&, Storage storage, std::string_view gates = "exact", const GivenErrors& = {});

/// Hidden channel d over the whole batch, with what a solver made of it.
struct JudgedHidden {
  std::int64_t d = 0;
  std::vector<BackwardChannel> batch;        // [B]
  std::vector<std::vector<double>> inputs;   // du [B][L, kInputs]
  std::vector<std::vector<double>> initial;  // dh0 [B][kState]
  std::vector<double> weights;               // da [kWeights], summed over the batch
};
struct GradientReports {
  ErrorReport du, da, dh0;
};

/// Design section 6, test 2, of gradients: error <= c x bound. Fills every field of the reports but ratio_local. verified_prefix of du: the number of steps
/// judged, counted from the END of the sequence, least over the channels; of da and dh0: the whole sequence or nothing. channels_checked of da: (0, d), for the
/// batch is in the sum. Channels that there was no time to begin are left out. An infinity that storing the truth gives too is no error.
/// Throws std::invalid_argument where a shape is not that of the channels.
void judge_gradients(const std::vector<JudgedHidden>&, Storage storage, std::string_view gates, GradientReference&, GradientReports&);
/// The same against true gradients that are given, of every channel in order.
void judge_gradients(const std::vector<JudgedHidden>&, const std::vector<std::shared_ptr<const Gradients>>&, Storage storage, std::string_view gates, GradientReports&);

/// The error of the same gradients end to end, against the true ones at the true states: what the forward pass has done to them too. It depends on the problem's
/// condition as much as on the solver, so it has no verdict: ratio_forward stays absent. An element is compared where the truth knows itself as well as for a
/// verdict. Where nothing could be, all sizes are absent. squares: the loss is |h|^2.
void compare_end_to_end(const std::vector<JudgedHidden>&, bool squares, Storage storage, std::string_view gates, GradientReference&, GradientReports&);

/// Verdict on the hidden channels in sampled_channels(), whole batch. channel_of(tensor, b, d) is Op::channel of h (as stored: the pass's input), du, dh0 and da.
/// Pass both: compares them end to end too, if asked to.
void judge_backward(const Problem&, const std::function<std::vector<double>(std::string_view tensor, std::int64_t b, std::int64_t d)>& channel_of, GradientReference&,
                    GradientReports&, GradientReports* end_to_end = nullptr);

// ---------------------------------------------------------------------------------------------------------------------
// Newton (newton_system.cpp)

/// The true iterates of eq. 2.1: h^0_l = f(0, u_l), then every unknown of the sequence at once per linear solve.
struct NewtonIterates {
  std::vector<std::vector<double>> states;    // [count + 1][L, kState]
  std::vector<std::vector<double>> residual;  // [count + 1][L, kState]: f(h_{l-1}, u_l) - h_l of the iterate, taken at 50 digits
  double residual_max(std::size_t iterate) const;
};
/// count linear solves of the dense block-bidiagonal system in 50 digits; throws BadInput above L kState = 256.
NewtonIterates true_iterates(const ChannelData&, int count);
/// The same in double, up to L kState = 2048.
NewtonIterates double_iterates(const ChannelData&, int count);
/// Iterate `count` of the first `steps` steps [steps, kState] at 50 digits, tiles of steps_a_tile steps one after the other, each from the last iterate of the one before;
/// fewer steps at the deadline.
std::vector<DoubleDouble> last_iterate(const ChannelData&, int count, std::int64_t steps_a_tile, std::int64_t steps, Deadline = kNoDeadline);

/// The two parts of the error of states that Newton's method was stopped at after `count` solves: what exact arithmetic would have left, and the rest.
/// Over the sampled channels, and their steps as far as truth and iterate are known.
struct Truncation {
  double truncation_max = 0;  // |exact iterate - truth|
  double rounding_max = 0;    // |computed - exact iterate|; NaN never gets lost
  std::int64_t verified_prefix = 0;
  std::vector<std::array<std::int64_t, 2>> channels_checked;  // (b, d)
};
/// computed(b, d) -> stored h [L, kState]. steps_a_tile: as the solver says (Outcome).
Truncation judge_truncation(const Problem&, int count, std::int64_t steps_a_tile, const std::function<std::vector<double>(std::int64_t b, std::int64_t d)>& computed,
                            ReferenceCache&);

/// Running bound on the rounding error of each iterate [count + 1][L, kState], computed in the compute type of `storage`; see newton_system.cpp.
std::vector<std::vector<double>> iterate_bounds(const ChannelData&, const NewtonIterates&, Storage storage);
/// Largest error over bound of iterates 1 .. count of a solver: run(k) returns its stored h [L, kState] with iteration_limit = k (one tile).
/// Judged while the bound is below kJudgedBelow; NaN never passes. `judged`, if given, receives how many elements were.
double iterate_ratio(const ChannelData&, int count, Storage storage, const std::function<std::vector<double>(int iteration_limit)>& run, std::int64_t* judged = nullptr);

// ---------------------------------------------------------------------------------------------------------------------
// Witness files: exact inputs with true states and gradients made by other hands (witness.cpp)

struct WitnessChannel {
  ChannelData data;
  Truth truth;                                                        // the reference's, every step
  std::vector<DoubleDouble> states;                                   // [state_steps, kState]
  std::vector<DoubleDouble> grad_weights, grad_inputs, grad_initial;  // as Gradients; empty without loss
};

struct WitnessFile {
  std::string path, cell, set;
  std::int64_t seq_len = 0;
  std::vector<std::int64_t> state_steps;  // 0-based steps whose states the file has
  std::optional<Loss> loss;               // none: no gradients
  std::vector<WitnessChannel> channels;
};
/// Throws BadInput, one line naming file and key.
WitnessFile read_witness(const std::string& path);

/// Largest difference between the reference and the file, relative to max(1, |x|). NaN fails.
struct WitnessDifference {
  double states = 0, grad_weights = 0, grad_inputs = 0, grad_initial = 0;
  bool agrees() const { return states <= kWitnessTolerance && grad_weights <= kWitnessTolerance && grad_inputs <= kWitnessTolerance && grad_initial <= kWitnessTolerance; }
};
WitnessDifference witness_reference_check(const WitnessFile&);

/// Verdict on a solver's states, computed(channel) -> h [L, kState], against the FILE's values, with the bound along the reference.
void judge_witness(const WitnessFile&, const std::function<std::vector<double>(std::int64_t channel)>& computed, Storage, ErrorReport&);
/// Verdict on the gradients du, da, dh0 of each channel, computed end to end: at the states that the solver itself stored, its loss the file's of these.
/// A channel whose states are beyond the forward test somewhere (a bound of kJudgedBelow and more) is left out.
/// Throws std::invalid_argument where the file has none.
void judge_witness_gradients(const WitnessFile&, const std::function<ByArgument<double>(std::int64_t channel)>& computed, Storage, GradientReports&);
/// What a record says under error.reference.
inline std::string witness_reference_name(const WitnessFile& file) { return "witness " + file.set + ", 40 digits"; }

}  // namespace prnn

// comparison.hpp: how much slower one build is than another: log ratios with intervals that know that every process has luck of its own, and error control over a sweep.
// Pure functions. Samples of one process share its luck (addresses, clocks at its start), so a process, not a sample, is what is counted.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace prnn {

/// What one process says: the log of its median, and how well its own samples know that.
struct RunValue {
  double value = 0;
  double standard_error = 0;  // of a normal law with the width of the 95 % bootstrap interval
};
/// samples: times or ratios above 0, any unit; none is dropped. Throws std::invalid_argument where there are none, or one is not above 0.
RunValue run_value(std::span<const double> samples, std::uint64_t seed);

inline constexpr std::size_t kFewestRuns = 3;  // that are taken at their word on what runs differ by

/// What runs of one build differ by, as a standard deviation of logs.
struct RunNoise {
  double between = 0;                                        // of what runs say, their own standard errors included
  double within = 0;                                         // root mean square of those
  double degrees = std::numeric_limits<double>::infinity();  // of freedom of `between`; infinite: taken as known
};
/// From A/A runs. Throws std::invalid_argument below two.
RunNoise run_noise(std::span<const RunValue> runs);

/// What pairs of processes of one build differ by.
struct PairNoise {
  double spread = 0;  // standard deviation of the log ratio of a pair, its visits included
  double within = 0;  // root mean square of what the visits of a pair say of its own standard error
  double degrees = std::numeric_limits<double>::infinity();
  bool is_of_pairs = false;  // false: inferred from single runs or assumed; pairs that know their spread do without it
};
/// From pairs of A/A sessions, as compare_pairs takes them. Neither side is the slower one, so the truth is 0 and every pair a degree of freedom. Throws std::invalid_argument where there is none.
PairNoise pair_noise(std::span<const std::vector<double>> pairs);
/// Two runs that share nothing.
PairNoise pair_noise(const RunNoise&);

/// log(candidate / baseline): above 0 is more.
struct Comparison {
  double estimate = 0, low = 0, high = 0;  // 95 % interval, Student's t
  double standard_error = 0, degrees = std::numeric_limits<double>::infinity();
  double detectable = 0;  // the smallest margin that equal builds stay below, but for a probability `miss`, once all runs that may be added are there
};

/// Difference of the means over the runs of two sides; the variance of a run is noise.between^2, and what its own samples add to noise.within^2.
/// most_runs: of the candidate, that there may be. Throws std::invalid_argument where a side has no run.
Comparison compare_runs(std::span<const RunValue> candidate, std::span<const RunValue> baseline, const RunNoise& noise, std::size_t most_runs, double miss);

/// Of two programs that took turns. pairs: for each pair of processes the log ratios of its visits. The mean over the medians of the pairs, trimmed by a fifth at each end where there are ten or
/// more: a process that was disturbed is no evidence (Tukey and McLaughlin, Sankhya A 25, 1963; their winsorised variance gives the standard error). From kFewestRuns pairs on their own spread
/// counts: pooled with noise of pairs, or alone where an F test says (1 %) that they are noisier, or nothing measured pairs. Fewer: the noise, and what the visits add to noise.within.
/// most_pairs: that there may be.
Comparison compare_pairs(std::span<const std::vector<double>> pairs, const PairNoise& noise, std::size_t most_pairs, double miss);

/// P(an estimate as large or larger) where the truth is bound.
double p_above(const Comparison&, double bound);

/// Benjamini and Hochberg (1995): which hypotheses are rejected so that of those at most `rate` are true, on average: the k smallest p with the largest k at which p_(k) <= rate k / n.
std::vector<bool> rejected(std::span<const double> p, double rate);

}  // namespace prnn

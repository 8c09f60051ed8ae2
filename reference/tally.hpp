// tally.hpp: errors of many elements gathered into one report.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "kernels/fault.hpp"
#include "reference/reference.hpp"
#include "reference/running_bound.hpp"

namespace prnn {

/// The distance between neighbours of a storage type at x.
inline double unit_in_last_place(Storage storage, double x) { return std::max(2 * storing_error(storage, x == 0 ? 0 : std::ldexp(1.0, std::ilogb(x))), 0x1p-1074); }

/// The smallest value that at least 99 % do not exceed; NaN if one of them is.
inline double percentile_99(std::vector<double> values) {
  for (const double x : values) {
    if (std::isnan(x)) return x;
  }
  const std::size_t rank = PRNN_FAULT(68, (values.size() * 99 + 99) / 100 - 1, values.size() * 99 / 100);
  std::nth_element(values.begin(), values.begin() + std::ptrdiff_t(rank), values.end());
  return values[rank];
}

class Tally {
 public:
  /// One element: allowed is the bound on its error; largest, of its channel, is what rel_max refers to.
  void add(double computed, const DoubleDouble& truth, double allowed, double largest, Storage storage) {
    const double error = std::fabs(PRNN_FAULT(35, (computed - truth.high) - truth.low, computed - truth.high)), ulp = error / unit_in_last_place(storage, truth.high);
    abs_max_ = max_or_nan(abs_max_, error);
    rel_max_ = max_or_nan(rel_max_, error == 0 ? 0 : error / largest);
    ulp_max_ = max_or_nan(ulp_max_, ulp);
    ratio_ = max_or_nan(ratio_, error == 0 ? 0 : error / allowed);
    square_sum_ += error * error;
    ulps_.push_back(ulp);
  }
  /// Of one channel: the steps for which a verdict was given.
  void verified(std::int64_t steps) { verified_ = std::min(verified_.value_or(steps), steps); }

  /// Every field but ratio_local and channels_checked.
  void fill(ErrorReport& report) const {
    report.reference = kReferenceName;
    report.verified_prefix = verified_.value_or(0);
    report.abs_max = report.rel_max = report.ulp_max = report.ulp_p99 = report.rms = report.ratio_forward = std::nullopt;
    if (ulps_.empty()) {
      report.null_reason = "no step could be judged: the reference was out of time or the bound too large";
      return;
    }
    report.abs_max = abs_max_;
    report.rel_max = rel_max_;
    report.ulp_max = ulp_max_;
    report.ulp_p99 = percentile_99(ulps_);
    report.rms = std::sqrt(square_sum_ / double(ulps_.size()));
    report.ratio_forward = ratio_;
  }

 private:
  double abs_max_ = 0, rel_max_ = 0, ulp_max_ = 0, square_sum_ = 0, ratio_ = 0;
  std::vector<double> ulps_;
  std::optional<std::int64_t> verified_;
};

}  // namespace prnn

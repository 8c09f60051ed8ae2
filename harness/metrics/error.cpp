// error.cpp (metric): the sampled channels against the 50-digit truth, beside the local test that every case takes (design section 6).
#include "harness/metrics/metric.hpp"

namespace prnn {
namespace {

void verified(CaseContext& c, CaseRecord& row) {
  ErrorReport& e = c.errors;
  if (c.reference && !c.outcome.nonfinite) {
    judge_forward(
        c.planned.problem, [&](std::int64_t b, std::int64_t d) { return c.op.channel(c.planned.problem, c.machine, c.tensors, "h", b, d); }, *c.reference, e);
  } else {
    e.null_reason = c.outcome.nonfinite ? "the output is not finite" : "no reference was asked for";
  }
  row.error = ErrorSummary{.abs_max = e.abs_max,
                           .rel_max = e.rel_max,
                           .ulp_max = e.ulp_max,
                           .ulp_p99 = e.ulp_p99,
                           .rms = e.rms,
                           .ratio_local = e.ratio_local,
                           .ratio_forward = e.ratio_forward,
                           .test_ratio = e.test_ratio(),
                           .verified_prefix = e.verified_prefix,
                           .channels_checked = e.channels_checked,
                           .reference = e.reference};
  if (!e.null_reason.empty()) {
    for (const char* field : {"abs_max", "rel_max", "ulp_max", "ulp_p99", "rms", "ratio_forward", "verified_prefix", "reference"})
      row.null_reasons[std::string("error.") + field] = e.null_reason;
  }
}

[[maybe_unused]] const bool entered = (add_metric({"error", [](const Suite& s) { return s.metric_error; }, &verified, nullptr, nullptr}), true);

}  // namespace
}  // namespace prnn

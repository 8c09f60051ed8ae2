// error.cpp (metric): the sampled channels against the 50-digit truth, beside the local test that every case takes (design section 6).
#include "harness/metrics/metric.hpp"

namespace prnn {
namespace {

ErrorSummary summary(const std::string& field, const ErrorReport& e, CaseRecord& row) {
  if (!e.null_reason.empty()) {
    for (const char* part : {"abs_max", "rel_max", "ulp_max", "ulp_p99", "rms", "ratio_forward", "verified_prefix", "reference"})
      row.null_reasons[field + "." + part] = e.null_reason;
  }
  return {.abs_max = e.abs_max,
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
}

void verified(CaseContext& c, CaseRecord& row) {
  const Problem& problem = c.planned.problem;
  CaseErrors& errors = c.errors;
  const bool judged = c.reference && !c.outcome.nonfinite;
  for (ErrorReport* report : {&errors.h, &errors.du, &errors.da, &errors.dh0}) {
    if (!judged) report->null_reason = c.outcome.nonfinite ? "the output is not finite" : "no reference was asked for";
  }
  const auto channel = [&](std::string_view tensor, std::int64_t b, std::int64_t d) { return c.op.channel(problem, c.machine, c.tensors, tensor, b, d); };
  if (problem.pass != "backward") {
    if (judged)
      judge_forward(
          problem, [&](std::int64_t b, std::int64_t d) { return channel("h", b, d); }, *c.reference, errors.h);
    row.error = summary("error", errors.h, row);
  }
  if (problem.pass != "forward") {
    if (judged) judge_backward(problem, channel, *c.gradients, errors);
    row.error_du = summary("error_du", errors.du, row);
    row.error_da = summary("error_da", errors.da, row);
    row.error_dh0 = summary("error_dh0", errors.dh0, row);
  }
}

[[maybe_unused]] const bool entered = (add_metric({"error", [](const Suite& s) { return s.metric_error; }, &verified, nullptr, nullptr}), true);

}  // namespace
}  // namespace prnn

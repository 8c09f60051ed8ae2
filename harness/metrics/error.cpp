// error.cpp (metric): the sampled channels against the 50-digit truth, beside the local test that every case takes (design section 6).
#include "harness/metrics/metric.hpp"

namespace prnn {
namespace {

ErrorSize size(const ErrorReport& e) {
  return {.abs_max = e.abs_max,
          .rel_max = e.rel_max,
          .ulp_max = e.ulp_max,
          .ulp_p99 = e.ulp_p99,
          .rms = e.rms,
          .verified_prefix = e.verified_prefix,
          .channels_checked = e.channels_checked,
          .reference = e.reference};
}

ErrorSummary summary(const std::string& field, const ErrorReport& e, CaseRecord& row) {
  if (!e.null_reason.empty()) {
    for (const char* part : {"abs_max", "rel_max", "ulp_max", "ulp_p99", "rms", "ratio_forward", "verified_prefix", "reference"})
      row.null_reasons[field + "." + part] = e.null_reason;
  }
  return {size(e), e.ratio_local, e.ratio_forward, e.test_ratio()};
}

/// Null as a whole where nothing was compared, an output of which nothing was by itself.
std::optional<EndToEndError> end_to_end(const GradientReports& reports, CaseRecord& row) {
  EndToEndError error;
  const auto fill = [&](const char* field, const ErrorReport& e, std::optional<ErrorSize>& out) {
    if (e.abs_max) out = size(e);
    else row.null_reasons[std::string("error_end_to_end.") + field] = row.null_reasons["error_end_to_end"] = e.null_reason;
  };
  fill("du", reports.du, error.du);
  fill("da", reports.da, error.da);
  fill("dh0", reports.dh0, error.dh0);
  return error.du || error.da || error.dh0 ? std::optional(error) : std::nullopt;
}

void verified(CaseContext& c, CaseRecord& row) {
  const Problem& problem = c.planned.problem;
  CaseErrors& errors = c.errors;
  const bool judged = c.reference && !c.outcome.nonfinite;
  for (ErrorReport* report : {&errors.h, &errors.du, &errors.da, &errors.dh0, &errors.end_to_end.du, &errors.end_to_end.da, &errors.end_to_end.dh0}) {
    if (!judged) report->null_reason = c.outcome.nonfinite ? "the output is not finite" : "no reference";
  }
  const auto channel = [&](std::string_view tensor, std::int64_t b, std::int64_t d) { return c.op.channel(problem, c.machine, c.tensors, tensor, b, d); };
  if (problem.pass != "backward") {
    if (judged)
      judge_forward(
          problem, [&](std::int64_t b, std::int64_t d) { return channel("h", b, d); }, *c.reference, errors.h);
    row.error = summary("error", errors.h, row);
  }
  if (problem.pass != "forward") {
    if (judged) judge_backward(problem, channel, *c.gradients, errors, &errors.end_to_end);
    row.error_du = summary("error_du", errors.du, row);
    row.error_da = summary("error_da", errors.da, row);
    row.error_dh0 = summary("error_dh0", errors.dh0, row);
  }
  if (problem.pass == "both") row.error_end_to_end = end_to_end(errors.end_to_end, row);
}

[[maybe_unused]] const bool entered = (add_metric({"error", [](const Suite& s) { return s.metric_error; }, &verified, nullptr, nullptr}), true);

}  // namespace
}  // namespace prnn

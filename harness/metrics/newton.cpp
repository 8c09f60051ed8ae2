// newton.cpp (metric): residual and step of each Newton iteration, from a launch that records them and is never timed; and what a fixed count of them leaves.
#include "harness/metrics/metric.hpp"

namespace prnn {
namespace {

/// Of sampled channels, where there is a reference.
void verified(CaseContext& c, CaseRecord& row) {
  const Problem& p = c.planned.problem;
  if (!c.reference || !p.iteration_limit || !c.outcome.steps_a_tile) return;
  const Truncation t = judge_truncation(
      p, *p.iteration_limit, *c.outcome.steps_a_tile, [&](std::int64_t b, std::int64_t d) { return c.op.channel(p, c.machine, c.tensors, "h", b, d); }, *c.reference);
  if (t.verified_prefix > 0) row.truncation = TruncationSummary{t.truncation_max, t.rounding_max, t.verified_prefix, t.channels_checked};
  else row.null_reasons["truncation"] = "the reference was out of time";
}

void traced(CaseContext& c, CaseRecord& row) {
  if (!c.outcome.iterations && !c.outcome.rounds) return;  // a sequential solver has no iterates
  c.run.trace(c.tensors, c.machine.stream());
  c.machine.synchronise();
  Outcome traced = c.run.outcome();
  row.residual_max = std::move(traced.residual_max);
  row.step_max = std::move(traced.step_max);
}

[[maybe_unused]] const bool entered = (add_metric({"newton", [](const Suite& s) { return s.metric_newton; }, &verified, &traced, nullptr}), true);

}  // namespace
}  // namespace prnn

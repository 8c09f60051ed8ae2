// newton.cpp (metric): residual and step of each Newton iteration, from a launch that records them and is never timed.
#include "harness/metrics/metric.hpp"

namespace prnn {
namespace {

void traced(CaseContext& c, CaseRecord& row) {
  if (!c.outcome.iterations && !c.outcome.rounds) return;  // a sequential solver has no iterates
  c.run.trace(c.tensors, c.machine.stream());
  c.machine.synchronise();
  Outcome traced = c.run.outcome();
  row.residual_max = std::move(traced.residual_max);
  row.step_max = std::move(traced.step_max);
}

[[maybe_unused]] const bool entered = (add_metric({"newton", [](const Suite& s) { return s.metric_newton; }, nullptr, &traced, nullptr}), true);

}  // namespace
}  // namespace prnn

// dynamics.cpp (metric): of the problem, whatever the solver: does its recurrence forget, and how strongly can one step amplify.
#include <cmath>

#include "harness/metrics/metric.hpp"

namespace prnn {
namespace {

void verified(CaseContext& c, CaseRecord& row) {
  if (c.planned.problem.pass == "backward" || !c.reference) return;
  const Dynamics dynamics = c.reference->dynamics(c.planned.problem);
  row.lyapunov = dynamics.lyapunov;
  row.jacobian_max = dynamics.jacobian_max;
  if (std::isinf(dynamics.lyapunov)) row.null_reasons["lyapunov"] = "-infinity: the product of Jacobians of every sampled channel is 0";
}

[[maybe_unused]] const bool entered = (add_metric({"dynamics", [](const Suite& s) { return s.metric_error; }, &verified, nullptr, nullptr}), true);

}  // namespace
}  // namespace prnn

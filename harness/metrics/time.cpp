// time.cpp (metric): what the samples of a case say about its time.
#include "harness/metrics/metric.hpp"
#include "harness/statistics.hpp"

namespace prnn {
namespace {

void timed(CaseContext& c, CaseRecord& row) {
  const Timing& t = *c.timing;
  if (t.samples_s.empty()) return;
  row.samples_s = t.samples_s;
  row.time_s = summary_of(t.samples_s, t.method);
  if (!t.turns.empty()) {
    row.visits.emplace();
    for (const TurnTiming& turn : t.turns) row.visits->push_back({turn.samples, 0, turn.clock_mhz});
  }
  row.host_s = median(t.host_s);
  row.time_graph_s = t.graph_s;
  row.graph_launches = t.graph_launches;
  row.clock_mhz = t.clock_mhz;
  if (!t.graph_s) row.null_reasons["time_graph_s"] = row.null_reasons["graph_launches"] = t.graph_null_reason;
  if (!t.clock_mhz) row.null_reasons["clock_mhz"] = "the clock cannot be read here";
}

[[maybe_unused]] const bool entered = (add_metric({"time", [](const Suite& s) { return s.metric_time; }, nullptr, nullptr, &timed}), true);

}  // namespace

TimeSummary summary_of(const std::vector<double>& samples_s, const std::string& method) {
  const Interval ci95 = median_interval(samples_s);
  return {.median = median(samples_s),
          .min = minimum(samples_s),
          .mean = mean(samples_s),
          .mad = mad(samples_s),
          .ci95_low = ci95.low,
          .ci95_high = ci95.high,
          .samples = std::ssize(samples_s),
          .method = method};
}

}  // namespace prnn

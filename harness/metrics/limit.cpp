// limit.cpp (metric): what the machine could do at best: one pass over the memory, and the arithmetic at full rate.
#include <fmt/format.h>
#include <algorithm>

#include "harness/metrics/metric.hpp"
#include "harness/statistics.hpp"

namespace prnn {
namespace {

void counted(CaseContext& c, CaseRecord& row) {
  row.bytes_min = c.op.bytes_min(c.planned.problem);
  row.flops = c.op.flops(c.planned.problem);
}

/// Arithmetic and special-function units work side by side, so the slower of the two alone is the bound.
void compute_floor(CaseContext& c, CaseRecord& row) {
  const std::optional<GpuInfo> gpu = c.machine.gpu();
  const auto none = [&](const std::string& why) { row.null_reasons["compute_floor_s"] = why; };
  if (!gpu) return none("no table of instruction rates for this processor");
  const std::optional<InstructionRates> rates = instruction_rates(gpu->sm);
  const std::optional<double> clock_mhz = c.timing->clock_mhz;
  if (!rates || gpu->multiprocessors <= 0) return none(fmt::format("no table of instruction rates for sm_{}", gpu->sm));
  if (!clock_mhz) return none("the clock cannot be read here");
  const double clocks_per_s = *clock_mhz * 1e6 * gpu->multiprocessors;
  const auto flops = static_cast<double>(c.op.flops(c.planned.problem)), special = static_cast<double>(c.op.special(c.planned.problem));
  // Double precision has no special-function units: its exponentials are arithmetic of unknown length, left out of a lower bound.
  row.compute_floor_s =
      c.planned.problem.storage == Storage::f64 ? flops / (rates->flops64 * clocks_per_s) : std::max(flops / rates->flops32, special / rates->special32) / clocks_per_s;
}

void timed(CaseContext& c, CaseRecord& row) {
  if (c.timing->samples_s.empty()) return;
  const double floor_s = static_cast<double>(c.op.bytes_min(c.planned.problem)) / c.copy_bytes_per_s;
  row.floor_s = floor_s;
  if (c.planned.cache == "hot") row.null_reasons["floor_fraction"] = "hot buffers need not come from memory";
  else row.floor_fraction = floor_s / median(c.timing->samples_s);
  compute_floor(c, row);
}

[[maybe_unused]] const bool entered = (add_metric({"limit", [](const Suite&) { return true; }, &counted, nullptr, &timed}), true);

}  // namespace

std::optional<InstructionRates> instruction_rates(int sm) {
  switch (sm) {
    case 80: return InstructionRates{2 * 64, 2 * 32, 16};
    case 86:
    case 89: return InstructionRates{2 * 128, 2 * 2, 16};
    case 90: return InstructionRates{2 * 128, 2 * 64, 16};
    default: return std::nullopt;
  }
}

}  // namespace prnn

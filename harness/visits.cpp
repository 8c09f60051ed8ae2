// visits.cpp: see visits.hpp.
#include "harness/visits.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <span>
#include <utility>

#include "harness/metrics/metric.hpp"
#include "harness/statistics.hpp"
#include "kernels/fault.hpp"

namespace prnn {
namespace {

void keep_visits(CaseRecord& row, std::size_t count) {
  row.visits->resize(count);
  std::int64_t samples = 0;
  for (const Visit& visit : *row.visits) samples += visit.samples;
  row.samples_s.resize(static_cast<std::size_t>(samples));
}

/// Of each visit, in their order.
std::vector<double> log_medians(const CaseRecord& row) {
  std::vector<double> medians;
  std::size_t begin = 0;
  for (const Visit& visit : *row.visits) {
    const auto count = static_cast<std::size_t>(visit.samples);
    medians.push_back(std::log(median(std::span(row.samples_s).subspan(begin, count))));
    begin += count;
  }
  return medians;
}

}  // namespace

VisitOrder::VisitOrder(std::size_t cases) : order_(cases) {
  for (std::size_t i = 0; i < cases; ++i) order_[i].index = i;
}

const std::vector<VisitOrder::At>& VisitOrder::next(Random& random) {
  random.shuffle(order_);
  for (At& at : order_) at.swapped = is_second_ ? !at.swapped : random.below(2) == 1;
  is_second_ = !is_second_;
  return order_;
}

std::int64_t processes_of(const CaseRecord& row) { return !row.visits || row.visits->empty() ? 0 : row.visits->back().process + 1; }

void equalise(CaseRecord& a, CaseRecord& b) {
  if (!a.visits || !b.visits) return;
  const std::size_t both = std::min(a.visits->size(), b.visits->size());
  keep_visits(a, both);
  keep_visits(b, both);
}

void unpair(CaseRecord& row) {
  if (!row.visits) return;
  row.visits.reset();
  row.null_reasons["visits"] = "the other program was not there to take turns with";
}

void add_process(CaseRecord& row, CaseRecord next, std::int64_t process) {
  if (next.reason.starts_with("limits.total_s")) return;
  if (next.status != row.status) {
    next.reason = fmt::format("in process {}: {}", process, next.reason);
    unpair(next);
    row = std::move(next);
    return;
  }
  if (!row.visits || !next.visits) return;
  for (Visit visit : *next.visits) {
    visit.process = process;
    row.visits->push_back(visit);
  }
  row.samples_s.insert(row.samples_s.end(), next.samples_s.begin(), next.samples_s.end());
}

void summarise(CaseRecord& row) {
  if (!row.time_s || row.samples_s.empty()) return;
  row.time_s = summary_of(row.samples_s, row.time_s->method);
  if (row.floor_fraction) row.floor_fraction = *row.floor_s / row.time_s->median;
  std::vector<double> clocks_mhz;
  for (const Visit& visit : row.visits.value_or(std::vector<Visit>{})) {
    if (visit.clock_mhz) clocks_mhz.push_back(*visit.clock_mhz);
  }
  if (!clocks_mhz.empty()) row.clock_mhz = median(clocks_mhz);
}

std::vector<std::vector<double>> paired_visits(const CaseRecord& mine, const CaseRecord& theirs) {
  if (!mine.visits || !theirs.visits || mine.visits->size() != theirs.visits->size()) return {};
  std::map<std::pair<std::int64_t, std::int64_t>, std::vector<double>> by_processes;
  const std::vector<double> above = log_medians(mine), below = log_medians(theirs);
  for (std::size_t k = 0; k < above.size(); ++k) {
    const std::size_t other = PRNN_FAULT(73, k, (k + 1) % above.size());
    by_processes[{(*mine.visits)[k].process, (*theirs.visits)[k].process}].push_back(above[k] - below[other]);
  }
  std::vector<std::vector<double>> pairs;
  for (auto& [processes, visits] : by_processes) pairs.push_back(std::move(visits));
  return pairs;
}

}  // namespace prnn

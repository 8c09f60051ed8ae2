// gate.cpp: see gate.hpp.
#include "harness/gate.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>
#include <utility>

#include "harness/statistics.hpp"
#include "kernels/fault.hpp"

namespace prnn {
namespace {

constexpr std::string_view kFindingNames[] = {"wrong", "broken", "not_converged", "slower", "inconclusive", "unenforceable", "pass"};  // in the order of Finding
constexpr int kFindingCodes[] = {2, 5, 3, 1, 4, 0, 0};

double share(double log_ratio) { return std::expm1(log_ratio); }

// --- what runs say -----------------------------------------------------------------------------------------------------

std::vector<RunValue> times_of(const std::vector<const CaseRecord*>& rows) {
  std::vector<RunValue> runs;
  for (const CaseRecord* row : rows) {
    if (!row->samples_s.empty()) runs.push_back(run_value(row->samples_s, hash_text(row->case_id)));
  }
  return runs;
}

/// The negative log of a speedup: more is worse.
std::vector<RunValue> speedups_of(const std::vector<const CaseRecord*>& rows, const std::string& solver) {
  std::vector<RunValue> runs;
  for (const CaseRecord* row : rows) {
    const auto found = row->speedup.find(solver);
    if (found == row->speedup.end()) continue;
    const auto& [ratio, low, high] = found->second;
    if (low > 0 && std::isfinite(high)) runs.push_back({-std::log(ratio), (std::log(high) - std::log(low)) / (2 * 1.96)});
  }
  return runs;
}

/// Device clock over the runs, as a mean of logs; none where one run did not see it.
std::optional<double> log_clock(const std::vector<const CaseRecord*>& rows) {
  double sum = 0;
  for (const CaseRecord* row : rows) {
    if (!row->clock_mhz || !(*row->clock_mhz > 0)) return std::nullopt;
    sum += std::log(*row->clock_mhz);
  }
  return rows.empty() ? std::nullopt : std::optional(sum / static_cast<double>(rows.size()));
}

/// Log ratios of the visits of a case that two programs took turns at, by pair of processes; none where they cannot be paired.
std::vector<std::vector<double>> paired_visits(const CaseRecord& mine, const CaseRecord& theirs) {
  if (!mine.visits || !theirs.visits || mine.visits->size() != theirs.visits->size()) return {};
  std::map<std::pair<std::int64_t, std::int64_t>, std::vector<double>> by_processes;
  const auto log_medians = [](const CaseRecord& row) {
    std::vector<double> medians;
    std::size_t begin = 0;
    for (const Visit& visit : *row.visits) {
      const auto count = static_cast<std::size_t>(visit.samples);
      medians.push_back(std::log(median(std::span(row.samples_s).subspan(begin, count))));
      begin += count;
    }
    return medians;
  };
  const std::vector<double> above = log_medians(mine), below = log_medians(theirs);
  for (std::size_t k = 0; k < above.size(); ++k) {
    const std::size_t other = PRNN_FAULT(73, k, (k + 1) % above.size());
    by_processes[{(*mine.visits)[k].process, (*theirs.visits)[k].process}].push_back(above[k] - below[other]);
  }
  std::vector<std::vector<double>> pairs;
  for (auto& [processes, visits] : by_processes) pairs.push_back(std::move(visits));
  return pairs;
}

// --- one case ----------------------------------------------------------------------------------------------------------

class Judge {
 public:
  Judge(const Runs& candidate, const Runs& baseline, const std::vector<RecordFile>& partners, const Runs* calibration, const GatePolicy& policy)
      : candidate_(candidate), baseline_(baseline), calibration_(calibration), policy_(policy) {
    for (const RecordFile& mine : candidate.files) {
      for (const std::vector<RecordFile>* list : {&baseline.files, &partners}) {
        for (const RecordFile& theirs : *list) {
          if (took_turns(mine.head, theirs.head)) turns_.emplace_back(&mine, &theirs);
        }
      }
    }
  }

  bool took_turns_with_the_first() const { return !turns_.empty() && turns_.front().first == &candidate_.files.front(); }

  Compared time(const CaseVerdict& verdict) const {
    const std::string& id = verdict.case_id;
    const auto mine = rows_of(candidate_.files, id), theirs = rows_of(baseline_.files, id);
    const std::vector<RunValue> my_times = times_of(mine), their_times = times_of(theirs);
    const std::vector<RunValue> calibration = calibration_ ? times_of(rows_of(calibration_->files, id)) : their_times;
    const RunNoise noise = noise_of(calibration, {my_times, their_times}, policy_.uncalibrated_noise);

    std::vector<std::vector<double>> pairs;
    std::vector<const CaseRecord*> mine_paired, theirs_paired;
    std::size_t sessions = 0;
    for (const auto& [my_file, their_file] : turns_) {
      const CaseRecord *my_row = my_file->find(id), *their_row = their_file->find(id);
      if (!my_row || !their_row) continue;
      std::vector<std::vector<double>> more = paired_visits(*my_row, *their_row);
      if (more.empty()) continue;
      std::move(more.begin(), more.end(), std::back_inserter(pairs));
      mine_paired.push_back(my_row), theirs_paired.push_back(their_row);
      ++sessions;
    }
    Compared compared{.metric = "time"};
    compared.margin = policy_.margin_of(id);
    const auto runs_to_come = static_cast<std::size_t>(policy_.resample_runs);
    if (!pairs.empty()) {
      const std::size_t most = pairs.size() / sessions * (1 + runs_to_come);
      compared.basis = fmt::format("{} pairs of processes", pairs.size());
      if (pairs.size() < kFewestRuns) compared.basis += ", " + basis_of(calibration);
      fill(compared, compare_pairs(pairs, noise, most), log_clock(mine_paired), log_clock(theirs_paired));
    } else {
      compared.basis = fmt::format("{} against {} runs, {}", mine.size(), theirs.size(), basis_of(calibration));
      fill(compared, compare_runs(my_times, their_times, noise, 1 + runs_to_come), log_clock(mine), log_clock(theirs));
    }
    return compared;
  }

  std::optional<Compared> speedup(const CaseVerdict& verdict, const std::string& solver) const {
    const std::string& id = verdict.case_id;
    const std::vector<RunValue> mine = speedups_of(rows_of(candidate_.files, id), solver), theirs = speedups_of(rows_of(baseline_.files, id), solver);
    if (mine.empty() || theirs.empty()) return std::nullopt;
    const std::vector<RunValue> calibration = calibration_ ? speedups_of(rows_of(calibration_->files, id), solver) : theirs;
    Compared compared{.metric = "speedup over " + solver};
    compared.margin = policy_.speedup_margin;
    compared.basis = fmt::format("{} against {} runs, {}", mine.size(), theirs.size(), basis_of(calibration));
    const RunNoise noise = noise_of(calibration, {mine, theirs}, std::sqrt(2) * policy_.uncalibrated_noise);  // of two times
    fill(compared, compare_runs(mine, theirs, noise, 1 + static_cast<std::size_t>(policy_.resample_runs)), std::nullopt, std::nullopt);
    return compared;
  }

  /// What a candidate's statuses, errors and iterations say; time and speedups are left to the sweep.
  void judge_results(CaseVerdict& verdict) const {
    const auto mine = rows_of(candidate_.files, verdict.case_id), theirs = rows_of(baseline_.files, verdict.case_id);
    for (const CaseRecord* row : mine) judge_status(verdict, *row, theirs);
    if (theirs.empty()) {
      if (policy_.strict) add(verdict, Finding::broken, "no baseline has this case; save one that does, or --lenient");
      return;
    }
    for (const CaseRecord* row : mine) {
      if (row->status != Status::ok) continue;
      judge_error(verdict, *row, theirs);
      judge_convergence(verdict, *row, theirs);
    }
  }

  static void add(CaseVerdict& verdict, Finding finding, const std::string& reason) {
    if (finding < verdict.finding) verdict.finding = finding;
    if (verdict.reason.find(reason) != std::string::npos) return;  // of an earlier run
    verdict.reason += (verdict.reason.empty() ? "" : "; ") + reason;
  }

 private:
  /// Of A/A runs; of too few, what the policy says, or more where the runs at hand differ by more.
  static RunNoise noise_of(const std::vector<RunValue>& calibration, const std::vector<std::vector<RunValue>>& sides, double otherwise) {
    if (calibration.size() >= kFewestRuns) return run_noise(calibration);
    RunNoise noise{.between = otherwise};
    for (const std::vector<RunValue>& runs : sides) {
      if (runs.size() >= 2) noise.between = std::max(noise.between, run_noise(runs).between);
    }
    return noise;
  }
  static std::string basis_of(const std::vector<RunValue>& calibration) {
    return calibration.size() >= kFewestRuns ? fmt::format("noise of {} A/A runs", calibration.size()) : "noise not calibrated";
  }

  static void fill(Compared& compared, const Comparison& c, const std::optional<double>& my_log_clock, const std::optional<double>& their_log_clock) {
    compared.ratio = std::exp(c.estimate), compared.low = std::exp(c.low), compared.high = std::exp(c.high);
    compared.detectable = share(c.detectable);
    compared.enforced = std::max(compared.margin, compared.detectable);
    const double bound = std::log1p(compared.enforced);
    compared.p = p_above(c, bound);
    if (c.low > bound) compared.finding = Finding::slower;
    else if (!(PRNN_FAULT(74, c.high, c.low) < bound)) compared.finding = Finding::inconclusive;
    else if (!(c.high < std::log1p(compared.margin))) compared.finding = Finding::unenforceable;
    if (!my_log_clock || !their_log_clock) return;
    compared.ratio_in_cycles = std::exp(c.estimate + PRNN_FAULT(75, *my_log_clock - *their_log_clock, *their_log_clock - *my_log_clock));
    const double low_in_cycles = std::log(*compared.ratio_in_cycles) - (c.estimate - c.low);
    if (compared.finding == Finding::slower && !(low_in_cycles > bound)) compared.finding = Finding::inconclusive;
  }

  void judge_status(CaseVerdict& verdict, const CaseRecord& row, const std::vector<const CaseRecord*>& theirs) const {
    const auto said = [&] { return fmt::format("{} where {} is expected{}{}", to_string(row.status), to_string(row.expected_status), row.reason.empty() ? "" : ": ", row.reason); };
    switch (exit_code({row}, {row.case_id})) {
      case 2: return add(verdict, Finding::wrong, said());
      case 5: return add(verdict, Finding::broken, said());
      case 3: return add(verdict, Finding::not_converged, said());
    }
    const bool ran = std::any_of(theirs.begin(), theirs.end(), [](const CaseRecord* other) { return other->status != Status::skipped; });
    if (row.status == Status::skipped && ran) add(verdict, Finding::broken, "skipped where the baseline ran it: " + row.reason);
  }

  void judge_error(CaseVerdict& verdict, const CaseRecord& row, const std::vector<const CaseRecord*>& theirs) const {
    std::optional<double> before;
    for (const CaseRecord* other : theirs) {
      const std::optional<double> ratio = other->status == Status::ok ? other->worst_test_ratio() : std::nullopt;
      if (ratio) before = std::max(before.value_or(0), *ratio);
    }
    if (!before) return;
    const std::optional<double> now = row.worst_test_ratio();
    if (!now) return add(verdict, Finding::broken, "no error was measured where the baseline has one");
    if (!(*now <= std::max(policy_.floor, policy_.growth * *before)))
      add(verdict, Finding::wrong, fmt::format("largest error / bound {:.3g}, baseline {:.3g}: more than {:.3g} times as large", *now, *before, policy_.growth));
  }

  void judge_convergence(CaseVerdict& verdict, const CaseRecord& row, const std::vector<const CaseRecord*>& theirs) const {
    const auto check = [&](const char* what, std::optional<std::int64_t> CaseRecord::*field, std::int64_t more) {
      std::optional<std::int64_t> before;
      for (const CaseRecord* other : theirs) {
        if (other->status == Status::ok && other->*field) before = std::max(before.value_or(0), *(other->*field));
      }
      const std::optional<std::int64_t>& now = row.*field;
      if (before && now && *now - *before > more) add(verdict, Finding::not_converged, fmt::format("{} {}, baseline {}: at most {} more allowed", *now, what, *before, more));
    };
    check("iterations", &CaseRecord::iterations, policy_.more_iterations);
    check("rounds", &CaseRecord::rounds, policy_.more_rounds);
  }

  const Runs &candidate_, &baseline_;
  const Runs* calibration_;  // null: the runs of the baseline
  const GatePolicy& policy_;
  std::vector<std::pair<const RecordFile*, const RecordFile*>> turns_;
};

// --- the sweep ---------------------------------------------------------------------------------------------------------

/// Of the comparisons whose interval is beyond the margin, those that the rate of false alarms lets stand.
void control_false_alarms(std::vector<CaseVerdict>& cases, double rate) {
  std::vector<double> p;
  for (const CaseVerdict& verdict : cases) {
    for (const Compared& compared : verdict.compared) p.push_back(compared.p);
  }
  const std::vector<bool> stands = rejected(p, rate);
  std::size_t i = 0;
  for (CaseVerdict& verdict : cases) {
    for (Compared& compared : verdict.compared) {
      if (!stands[i++] && compared.finding == Finding::slower) compared.finding = Finding::inconclusive;
    }
  }
}

std::string reason_of(const Compared& c) {
  const auto percent = readable_ratio;
  const std::string measured = fmt::format("{} {} ({} .. {})", c.metric == "time" ? c.metric : "lost " + c.metric, percent(c.ratio), percent(c.low), percent(c.high));
  const std::string margin = fmt::format("margin {}", percent(1 + c.margin));
  const std::string enforced = c.enforced > c.margin ? fmt::format("smallest effect detectable, {}", percent(1 + c.enforced)) : margin;
  switch (c.finding) {
    case Finding::unenforceable: return fmt::format("{}: {} is unenforceable, the smallest effect detectable is {}", measured, margin, percent(1 + c.detectable));
    case Finding::inconclusive:
      if (c.low - 1 > c.enforced && c.ratio_in_cycles && !(*c.ratio_in_cycles * c.low / c.ratio - 1 > c.enforced))
        return fmt::format("{}: the clock moved, {} in cycles", measured, percent(*c.ratio_in_cycles));
      return fmt::format("{}: {}", measured, c.low - 1 > c.enforced ? "too likely by chance in so large a sweep" : "on both sides of the " + enforced);
    default: return fmt::format("{}: beyond the {}", measured, enforced);
  }
}

std::optional<double> median_of_first(const std::vector<RecordFile>& files, const std::string& case_id) {
  const auto rows = rows_of(files, case_id);
  if (rows.empty() || rows.front()->samples_s.empty()) return std::nullopt;
  return median(rows.front()->samples_s);
}

CaseVerdict verdict_of(const CaseRecord& row, const Runs& candidate, const Runs& baseline) {
  return {.case_id = row.case_id,
          .group_id = row.group_id,
          .time_s = median_of_first(candidate.files, row.case_id),
          .baseline_s = median_of_first(baseline.files, row.case_id),
          .runs = rows_of(candidate.files, row.case_id).size()};
}

/// Why absolute times of two records mean nothing beside each other; empty: they do.
std::string why_not_times(const RecordFile& candidate, const RecordFile& baseline, bool took_turns) {
  for (const RecordFile* file : {&candidate, &baseline}) {
    if (!file->head.copy_bytes_per_s) return file->path + " was not timed";
  }
  if (took_turns || candidate.head.fingerprint == baseline.head.fingerprint) return "";
  return fmt::format("{} is of another machine or build than {} (fingerprints {}, {})", candidate.path, baseline.path, candidate.head.fingerprint, baseline.head.fingerprint);
}

void require_common_cases(const RecordFile& candidate, const Runs& baseline) {
  const RecordFile& first = baseline.files.front();
  if (candidate.rows.front().device != first.rows.front().device)
    throw BadInput(fmt::format("{}: of device {}; expected one of {}, as {}", candidate.path, candidate.rows.front().device, first.rows.front().device, first.path));
  const auto is_common = [&](const CaseRecord& row) { return !rows_of(baseline.files, row.case_id).empty(); };
  if (std::none_of(candidate.rows.begin(), candidate.rows.end(), is_common))
    throw BadInput(fmt::format("{}: has no case in common with {}; expected records of one suite", candidate.path, first.path));
}

}  // namespace

std::string readable_ratio(double ratio) { return ratio < 10 ? fmt::format("{:+.1f} %", 100 * (ratio - 1)) : fmt::format("x {:.3g}", ratio); }

std::string_view to_string(Finding finding) { return kFindingNames[static_cast<int>(finding)]; }
int exit_code(Finding finding) { return kFindingCodes[static_cast<int>(finding)]; }

bool CaseVerdict::worth_a_run(std::int64_t most) const {
  if (static_cast<std::int64_t>(runs) > most) return false;
  return finding == Finding::inconclusive || (finding == Finding::slower && runs < 2);
}

Finding GateVerdict::finding() const {
  Finding first = Finding::pass;
  for (const CaseVerdict& verdict : cases) first = std::min(first, verdict.finding);
  return first;
}

std::size_t GateVerdict::count(Finding finding) const {
  return static_cast<std::size_t>(std::count_if(cases.begin(), cases.end(), [&](const CaseVerdict& verdict) { return verdict.finding == finding; }));
}

GateVerdict judge(const Runs& candidate, const Runs& baseline, const std::vector<RecordFile>& partners, const Runs* calibration, const GatePolicy& policy) {
  require_common_cases(candidate.files.front(), baseline);
  const RecordFile &first = candidate.files.front(), &theirs = baseline.files.front();
  const Judge judge(candidate, baseline, partners, calibration, policy);
  GateVerdict gate{.candidate = candidate.name, .baseline = baseline.name};
  if (first.head.suite_sha256 != theirs.head.suite_sha256) gate.notes.push_back("the suite is not the one of the baseline; cases are matched by their case_id");

  const std::string no_times = policy.time == GatePolicy::Time::off ? "the policy leaves them out" : why_not_times(first, theirs, judge.took_turns_with_the_first());
  if (!no_times.empty() && policy.time == GatePolicy::Time::require)
    throw BadInput(fmt::format("{}; expected times of one machine and build, or a policy with time.gate = \"same_machine\" and speedup.baselines", no_times));
  if (!no_times.empty()) gate.notes.push_back("times are not compared: " + no_times);
  for (const std::string& solver : policy.speedup_baselines) {
    const auto has_speedup = [&](const CaseRecord& row) { return row.speedup.contains(solver); };
    if (std::none_of(theirs.rows.begin(), theirs.rows.end(), has_speedup))
      throw BadInput(fmt::format("speedup.baselines: {} has no speedup over {}; expected a baseline that the suite names", theirs.path, solver));
  }

  for (const CaseRecord& row : first.rows) {
    CaseVerdict verdict = verdict_of(row, candidate, baseline);
    judge.judge_results(verdict);
    const auto others = rows_of(baseline.files, row.case_id);
    const bool comparable = !others.empty() && row.status == others.front()->status && verdict.baseline_s;
    if (comparable && no_times.empty()) {
      if (verdict.time_s) verdict.compared.push_back(judge.time(verdict));
      else Judge::add(verdict, Finding::broken, "was not timed where the baseline was");
    }
    for (const std::string& solver : policy.speedup_baselines) {
      if (!comparable || row.solver == solver || !others.front()->speedup.contains(solver)) continue;
      if (std::optional<Compared> compared = judge.speedup(verdict, solver)) verdict.compared.push_back(std::move(*compared));
      else Judge::add(verdict, Finding::broken, "has no speedup over " + solver + " where the baseline has one");
    }
    gate.cases.push_back(std::move(verdict));
  }
  control_false_alarms(gate.cases, policy.fdr);
  for (CaseVerdict& verdict : gate.cases) {
    for (const Compared& compared : verdict.compared) {
      if (compared.finding != Finding::pass) Judge::add(verdict, compared.finding, reason_of(compared));
    }
  }

  std::set<std::string> seen;
  for (const RecordFile& file : baseline.files) {
    for (const CaseRecord& row : file.rows) {
      if (first.find(row.case_id) || !seen.insert(row.case_id).second) continue;
      CaseVerdict verdict = verdict_of(row, candidate, baseline);
      Judge::add(verdict, Finding::broken, "not in " + first.path + ", where the baseline has it");
      gate.cases.push_back(std::move(verdict));
    }
  }
  return gate;
}

std::vector<CaseVerdict> compare(const Runs& candidate, const Runs& baseline, const std::vector<RecordFile>& partners, const GatePolicy& policy) {
  require_common_cases(candidate.files.front(), baseline);
  const Judge judge(candidate, baseline, partners, nullptr, policy);
  std::vector<CaseVerdict> cases;
  for (const CaseRecord& row : candidate.files.front().rows) {
    CaseVerdict verdict = verdict_of(row, candidate, baseline);
    if (!verdict.time_s || !verdict.baseline_s) continue;
    verdict.compared.push_back(judge.time(verdict));
    cases.push_back(std::move(verdict));
  }
  return cases;
}

std::vector<NoiseFloor> noise_floors(const Runs& runs) {
  std::vector<NoiseFloor> floors;
  for (const CaseRecord& row : runs.files.front().rows) {
    const std::vector<RunValue> values = times_of(rows_of(runs.files, row.case_id));
    if (values.empty()) continue;
    std::vector<double> logs;
    for (const RunValue& value : values) logs.push_back(value.value);
    NoiseFloor floor{.case_id = row.case_id, .time_s = std::exp(median(logs)), .runs = values.size()};
    if (values.size() >= kFewestRuns) {
      floor.noise = run_noise(values);
      floor.detectable = share(compare_runs(std::span(values).first(1), values, *floor.noise, 1).detectable);
    }
    floors.push_back(std::move(floor));
  }
  return floors;
}

}  // namespace prnn

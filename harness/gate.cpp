// gate.cpp: see gate.hpp.
#include "harness/gate.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>
#include <utility>

#include "harness/statistics.hpp"
#include "harness/visits.hpp"
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

// --- one case ----------------------------------------------------------------------------------------------------------

class Judge {
 public:
  Judge(const Runs& candidate, const Runs& baseline, const std::vector<RecordFile>& partners, const Runs* calibration, const GatePolicy& policy)
      : candidate_(candidate), baseline_(baseline), calibration_(calibration), policy_(policy), turns_(sessions(candidate.files, {&baseline.files, &partners})) {
    if (calibration) calibration_turns_ = sessions(calibration->files, {&partners});
    std::erase_if(calibration_turns_, [](const Session& session) { return !are_of_one_build(session.first->head, session.second->head); });
    const auto is_common = [&](const CaseRecord& row) { return !rows_of(baseline.files, row.case_id).empty(); };
    const std::vector<CaseRecord>& rows = candidate.files.front().rows;
    const auto common = static_cast<std::size_t>(std::count_if(rows.begin(), rows.end(), is_common));
    miss_ = policy.inconclusive / static_cast<double>(std::max<std::size_t>(1, common * ((policy.time != GatePolicy::Time::off) + policy.speedup_baselines.size())));
  }

  bool took_turns_with_the_first() const { return !turns_.empty() && turns_.front().first == &candidate_.files.front(); }

  Compared time(const CaseVerdict& verdict) const {
    const std::string& id = verdict.case_id;
    Compared compared{.metric = "time"};
    compared.margin = policy_.margin_of(id);
    const Pairs pairs = pairs_of(turns_, id);
    if (pairs.visits.empty()) compare_by_runs(compared, id);
    else compare_by_pairs(compared, id, pairs);
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
    fill(compared, compare_runs(mine, theirs, noise, most_runs(), miss_), std::nullopt, std::nullopt);
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
  using Session = std::pair<const RecordFile*, const RecordFile*>;  // its two records

  static std::vector<Session> sessions(const std::vector<RecordFile>& files, const std::vector<const std::vector<RecordFile>*>& others) {
    std::vector<Session> list;
    for (const RecordFile& mine : files) {
      for (const std::vector<RecordFile>* of : others) {
        for (const RecordFile& theirs : *of) {
          if (took_turns(mine.head, theirs.head)) list.emplace_back(&mine, &theirs);
        }
      }
    }
    return list;
  }

  static bool are_of_one_build(const Provenance& a, const Provenance& b) {
    return a.commit == b.commit && a.dirty == b.dirty && a.fingerprint == b.fingerprint && a.inject.empty() && b.inject.empty();
  }

  /// What sessions say of a case; mine and theirs: its rows in those that can be paired.
  struct Pairs {
    std::vector<std::vector<double>> visits;
    std::vector<const CaseRecord*> mine, theirs;
  };
  static Pairs pairs_of(const std::vector<Session>& sessions, const std::string& case_id) {
    Pairs pairs;
    for (const auto& [my_file, their_file] : sessions) {
      const CaseRecord *my_row = my_file->find(case_id), *their_row = their_file->find(case_id);
      if (!my_row || !their_row) continue;
      std::vector<std::vector<double>> more = paired_visits(*my_row, *their_row);
      if (more.empty()) continue;
      std::move(more.begin(), more.end(), std::back_inserter(pairs.visits));
      pairs.mine.push_back(my_row), pairs.theirs.push_back(their_row);
    }
    return pairs;
  }

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

  /// Noise of a case's runs, and what it rests on.
  std::pair<RunNoise, std::string> noise_of_times(const std::string& id) const {
    const std::vector<RunValue> mine = times_of(rows_of(candidate_.files, id)), theirs = times_of(rows_of(baseline_.files, id));
    const std::vector<RunValue> calibration = calibration_ ? times_of(rows_of(calibration_->files, id)) : theirs;
    return {noise_of(calibration, {mine, theirs}, policy_.uncalibrated_noise), basis_of(calibration)};
  }

  void compare_by_runs(Compared& compared, const std::string& id) const {
    const auto mine = rows_of(candidate_.files, id), theirs = rows_of(baseline_.files, id);
    const auto [noise, basis] = noise_of_times(id);
    compared.basis = fmt::format("{} against {} runs, {}", mine.size(), theirs.size(), basis);
    fill(compared, compare_runs(times_of(mine), times_of(theirs), noise, most_runs(), miss_), log_clock(mine), log_clock(theirs));
  }

  void compare_by_pairs(Compared& compared, const std::string& id, const Pairs& pairs) const {
    const std::size_t count = pairs.visits.size(), most = count / pairs.mine.size() * most_runs();
    compared.basis = fmt::format("{} pairs of processes", count);
    const std::vector<std::vector<double>> of_one_build = pairs_of(calibration_turns_, id).visits;
    PairNoise noise;
    if (of_one_build.size() >= kFewestRuns) {
      noise = pair_noise(of_one_build);
      compared.basis += fmt::format(", noise of {} A/A pairs", of_one_build.size());
    } else if (count < kFewestRuns) {
      const auto [of_runs, basis] = noise_of_times(id);
      noise = pair_noise(of_runs);
      compared.basis += ", " + basis;
    }
    fill(compared, compare_pairs(pairs.visits, noise, most, miss_), log_clock(pairs.mine), log_clock(pairs.theirs));
  }

  std::size_t most_runs() const { return 1 + static_cast<std::size_t>(policy_.resample_runs); }

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
  std::vector<Session> turns_, calibration_turns_;
  double miss_ = 0;  // of one comparison
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
  const double miss = GatePolicy{}.inconclusive / static_cast<double>(runs.files.front().rows.size());
  for (const CaseRecord& row : runs.files.front().rows) {
    const std::vector<RunValue> values = times_of(rows_of(runs.files, row.case_id));
    if (values.empty()) continue;
    std::vector<double> logs;
    for (const RunValue& value : values) logs.push_back(value.value);
    NoiseFloor floor{.case_id = row.case_id, .time_s = std::exp(median(logs)), .runs = values.size()};
    if (values.size() >= kFewestRuns) {
      floor.noise = run_noise(values);
      floor.detectable = share(compare_runs(std::span(values).first(1), values, *floor.noise, 1, miss).detectable);
    }
    floors.push_back(std::move(floor));
  }
  return floors;
}

}  // namespace prnn

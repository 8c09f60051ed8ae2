// sweep.cpp: see sweep.hpp.
#include "harness/sweep.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "harness/metrics/metric.hpp"
#include "harness/statistics.hpp"
#include "harness/timer.hpp"
#include "harness/turns.hpp"
#include "kernels/fault.hpp"

namespace prnn {
namespace {

/// Charges the time since the last call to one phase.
class PhaseClock {
 public:
  PhaseClock(PhaseTimes& phases, std::function<double()> now) : phases_(phases), now_(std::move(now)), last_s_(now_()) {}
  void charge(double PhaseTimes::*phase) {
    const double now = now_();
    phases_.*phase += now - last_s_;
    last_s_ = now;
  }

 private:
  PhaseTimes& phases_;
  std::function<double()> now_;
  double last_s_;
};

/// Copies of all outputs of a launch, one after the other.
class OutputCopy {
 public:
  OutputCopy() = default;
  OutputCopy(Machine& machine, const Tensors& tensors) {
    std::int64_t bytes = 0;
    for (const auto& item : tensors.items) bytes += item.spec.written() ? item.spec.bytes() : 0;
    copy_ = Buffer(machine, bytes);
    each(tensors, [&](void* kept, const Tensors::Item& item) {
      machine.copy(kept, item.data, item.spec.bytes());
      return true;
    });
  }
  explicit operator bool() const { return copy_.data() != nullptr; }
  bool equals(Machine& machine, const Tensors& tensors) const {
    return each(tensors, [&](void* kept, const Tensors::Item& item) { return machine.equal(kept, item.data, item.spec.bytes()); });
  }

 private:
  template <class F>
  bool each(const Tensors& tensors, F&& f) const {
    auto* at = copy_.as<char>();
    for (const auto& item : tensors.items) {
      if (!item.spec.written()) continue;
      if (!f(at, item)) return false;
      at += item.spec.bytes();
    }
    return true;
  }
  Buffer copy_;
};

/// A case of the group in flight.
struct Live {
  const Case* planned;
  CaseRecord row;
  const Solver* solver = nullptr;
  std::unique_ptr<Run> run;
  InjectedRun* injected = nullptr;  // run, where it does damage that was asked for
  std::optional<CaseContext> context;
  OutputCopy verified;
  double spent_s = 0;
  bool to_run = true;  // false: its row is known before

  void set(Status status, std::string reason) {
    row.status = status;
    row.reason = std::move(reason);
  }
  bool as_expected() const { return row.status == Status::ok || row.status == row.expected_status; }
};

/// Of a row whose states are wrong: what of it a fixed count of iterations has left, and what rounding added.
std::string stopped_early(const CaseRecord& row) {
  if (!row.truncation || !row.truncation->truncation_max || !row.truncation->rounding_max) return "";
  return fmt::format("; {} iterations in exact arithmetic leave {:.2g}, rounding {:.2g}", *row.problem.iteration_limit, *row.truncation->truncation_max,
                     *row.truncation->rounding_max);
}

/// f(); what it throws becomes the row's status.
template <class F>
void guarded(Live& live, F&& f) {
  try {
    f();
  } catch (const OutOfMemory& error) {
    live.set(Status::skipped, too_large(error.what()));
  } catch (const std::exception& error) {
    live.set(Status::error, error.what());
  } catch (...) {
    live.set(Status::error, "an exception that is not a std::exception");
  }
}

class Sweeper {
 public:
  Sweeper(const Suite& suite, Machine& machine, const SweepOptions& options)
      : suite_(suite),
        machine_(machine),
        options_(options),
        now_(options.now ? options.now : steady_now_s),
        clock_(result_.phases, now_),
        arena_(machine),
        scratch_(machine),
        copy_bytes_per_s_(!time_wanted()             ? std::nan("")
                          : options.copy_bytes_per_s ? *options.copy_bytes_per_s
                                                     : machine.copy_bytes_per_s()),
        deadline_s_(now_() + suite.limits.total_s - options.spent_s) {
    if (!options_.in_flight) options_.in_flight = [](const std::string&) {};
    if (!options_.interrupted) options_.interrupted = [] { return false; };
    if (!options_.progress) options_.progress = [](std::int64_t, std::int64_t, const std::string&) {};
  }

  SweepResult run(const std::vector<Group>& groups) {
    for (const Group& group : groups) {
      total_ += static_cast<std::int64_t>(group.cases.size());
      gradient_groups_ += has_gradients(group);
    }
    prefetch(groups);
    for (const Group& group : groups) {
      std::vector<CaseRecord> rows = run_group(group);
      if (options_.interrupted()) {  // a group is whole in the record or absent
        result_.interrupted = true;
        break;
      }
      if (options_.write) options_.write(rows);
      std::move(rows.begin(), rows.end(), std::back_inserter(result_.rows));
      clock_.charge(&PhaseTimes::other_s);
    }
    clock_.charge(&PhaseTimes::other_s);
    return std::move(result_);
  }

 private:
  bool time_wanted() const { return options_.time && suite_.metric_time; }

  /// All truths first: together they keep every core busy, and long ones serve short ones.
  void prefetch(const std::vector<Group>& groups) {
    clock_.charge(&PhaseTimes::other_s);
    if (!options_.reference || !suite_.metric_error) return;
    std::vector<Problem> problems;
    for (const Group& group : groups) {
      const auto runs = std::find_if(group.cases.begin(), group.cases.end(), [](const Case& c) { return c.skip.empty(); });
      if (runs != group.cases.end() && runs->problem.pass != "backward") problems.push_back(runs->problem);  // whose states are given
    }
    options_.reference->fill(problems, [&](std::int64_t done, std::int64_t total) { options_.progress(done, total, "reference"); });
    clock_.charge(&PhaseTimes::reference_s);
  }

  static bool has_gradients(const Group& group) { return !group.cases.empty() && group.cases.front().problem.pass != "forward"; }

  /// True gradients depend on stored states, so a group gets its own, and of the time for references that is left as much as any other to come.
  void share_gradient_reference(const Group& group) {
    if (gradients_) gradient_s_ += gradients_->spent_s();
    gradients_.reset();
    if (!options_.reference || !suite_.metric_error || !has_gradients(group)) return;
    const double left_s = std::max(0.0, suite_.limits.reference_s - options_.reference->spent_s() - gradient_s_);
    gradients_.emplace(left_s / static_cast<double>(gradient_groups_--));
  }

  std::vector<CaseRecord> run_group(const Group& group) {
    share_gradient_reference(group);
    std::vector<Live> cases;
    for (const Case& c : group.cases) {
      cases.push_back({.planned = &c, .row = record_of(c, suite_, machine_.gpu()), .run = nullptr, .context = {}, .verified = {}});
      Live& live = cases.back();
      if (!c.skip.empty()) live.set(Status::skipped, c.skip);
      const auto end = options_.ended.find(c.case_id);
      if (end != options_.ended.end()) live.set(end->second.status, end->second.reason);
      live.to_run = c.skip.empty() && end == options_.ended.end();
    }
    if (out_of_time(cases)) {
      done_ += static_cast<std::int64_t>(cases.size());
    } else {
      std::optional<BufferSets> buffers;
      try {
        buffers = draw(cases);
      } catch (...) {
        for (Live& live : cases) {
          if (live.to_run) guarded(live, [] { throw; });
        }
        for (const Live& live : cases) {
          if (live.to_run) require_machine(live);
        }
      }
      clock_.charge(&PhaseTimes::draw_s);
      if (buffers) {
        for (Live& live : cases) {
          options_.progress(done_++, total_, live.planned->case_id);
          if (live.to_run) verify(live, buffers->first());
        }
        if (time_wanted()) time(group, cases, *buffers);
      } else {
        done_ += static_cast<std::int64_t>(cases.size());
      }
    }
    options_.in_flight("");
    if (options_.turns) options_.turns->wait_for_end(group.group_id);
    std::vector<CaseRecord> rows;
    for (Live& live : cases) {
      explain_absent_time(live);
      rows.push_back(std::move(live.row));
    }
    if (time_wanted()) add_speedups(rows, suite_.baselines, options_.order_seed);
    options_.progress(done_, total_, group.group_id);
    clock_.charge(&PhaseTimes::other_s);
    return rows;
  }

  /// With total_s spent, what has not started never will.
  bool out_of_time(std::vector<Live>& cases) {
    if (now_() < deadline_s_) return false;
    for (Live& live : cases) {
      if (live.to_run) live.set(Status::timeout, fmt::format("limits.total_s = {} was spent before this case", suite_.limits.total_s));
    }
    return true;
  }

  /// Allocates the sets of the group and draws the first; none where no case runs.
  std::optional<BufferSets> draw(const std::vector<Live>& cases) {
    const auto first = std::find_if(cases.begin(), cases.end(), [](const Live& live) { return live.to_run; });
    if (first == cases.end()) return std::nullopt;
    const Case& c = *first->planned;
    options_.in_flight(c.case_id);
    const Op& op = find_op(c.problem.op);
    BufferSets buffers(arena_, scratch_, op.tensors(c.problem), time_wanted() ? c.sets : 1, c.cache == "hot");
    op.draw(c.problem, machine_, buffers.first());
    machine_.synchronise();
    return buffers;
  }

  void verify(Live& live, const Tensors& tensors) {
    const Case& c = *live.planned;
    if (options_.interrupted()) return;
    const auto spent_on_reference_s = [&] { return (gradients_ ? gradients_->spent_s() : 0) + (options_.reference ? options_.reference->spent_s() : 0); };
    const double start = now_(), reference_before_s = spent_on_reference_s();
    if (start >= deadline_s_) return live.set(Status::timeout, fmt::format("limits.total_s = {} was spent before this case", suite_.limits.total_s));
    options_.in_flight(c.case_id);
    guarded(live, [&] {
      live.solver = find_solver(c.solver, c.device, c.problem);
      if (!live.solver) throw DeviceError(fmt::format("no solver {} for {} on {}", c.solver, c.problem.cell, c.device));
      prepare(live);
      live.row.policy = live.run->policy();
      live.row.policy_solver = live.run->solver();
      live.row.deterministic = live.solver->deterministic;
      poison(machine_, tensors);
      live.run->launch(tensors, machine_.stream());
      machine_.synchronise();
      CaseContext& context = live.context.emplace(
          CaseContext{suite_, c, find_op(c.problem.op), *live.solver, machine_, *live.run, tensors, options_.reference, gradients_ ? &*gradients_ : nullptr, copy_bytes_per_s_});
      context.outcome = live.run->outcome();
      context.errors = CaseErrors(context.op.local_ratios(c.problem, machine_, tensors));
      if (time_wanted()) keep(live, tensors);
      const Outcome& outcome = context.outcome;
      live.row.iterations = outcome.iterations;
      live.row.converged = outcome.converged;
      live.row.rounds = outcome.rounds;
      live.row.boundaries = outcome.boundaries;
      live.row.boundaries_failed = outcome.boundaries_failed;
      each_metric(context, live.row, &Metric::verified);
      const Verdict verdict = judge_outcome(outcome, context.errors.worst(), c.expect);
      live.set(verdict.status, verdict.reason + (verdict.status == Status::wrong ? stopped_early(live.row) : ""));
      each_metric(context, live.row, &Metric::traced);
    });
    require_machine(live);
    const double reference_s = spent_on_reference_s() - reference_before_s;
    live.spent_s = std::max(0.0, now_() - start - reference_s);
    if (live.row.status == Status::ok && live.spent_s > suite_.limits.case_s) {
      live.set(Status::timeout, fmt::format("verification alone took {:.3g} s, limits.case_s = {}", live.spent_s, suite_.limits.case_s));
    }
    clock_.charge(&PhaseTimes::verify_s);
    result_.phases.verify_s -= reference_s;
    result_.phases.reference_s += reference_s;
  }

  void prepare(Live& live) {
    const Problem& problem = live.planned->problem;
    if (!options_.injection.applies_to(*live.solver)) {
      live.run = live.solver->prepare(problem, machine_);
    } else {
      auto injected = prepare_injected(options_.injection, *live.solver, problem, machine_);
      live.injected = injected.get();
      live.run = std::move(injected);
    }
  }

  /// After an error: the machine still answers, or this is the end of the sweep in this process.
  void require_machine(const Live& live) {
    if (live.row.status != Status::error) return;
    try {
      machine_.synchronise();
    } catch (const std::exception&) {
      throw DeviceLost(live.planned->case_id, live.row.reason);
    }
  }

  /// The verified output, to hold every timed one against; where memory is too short for it, the full local test takes its place.
  void keep(Live& live, const Tensors& tensors) {
    try {
      live.verified = OutputCopy(machine_, tensors);
    } catch (const OutOfMemory&) {
    }
  }

  void each_metric(CaseContext& context, CaseRecord& row, void (*Metric::*step)(CaseContext&, CaseRecord&)) {
    for (const Metric& metric : metrics()) {
      if (metric.wanted(suite_) && metric.*step) (metric.*step)(context, row);
    }
  }

  /// What is wrong with the output of a timed launch: bitwise the verified one, or right by the full local test where a solver need not repeat itself.
  std::string check(const Live& live, const Tensors& tensors) {
    if (live.verified && PRNN_FAULT(40, live.verified.equals(machine_, tensors), live.solver->deterministic)) return "";
    if (live.verified && live.solver->deterministic) return "the output of a timed launch is not that of the verified one";
    if (live.row.status != Status::ok) return "";
    const double ratio = live.context->op.ratio_local(live.planned->problem, machine_, tensors);
    return passes(ratio) ? "" : fmt::format("the output of a timed launch fails the local test: error {:.3g} x bound, at most {} allowed", ratio, kErrorFactor);
  }

  void time(const Group& group, std::vector<Live>& cases, BufferSets& buffers) {
    std::vector<Live*> timed;
    std::vector<Subject> subjects;
    for (Live& live : cases) {
      if (!live.run || !live.context || !live.as_expected()) continue;
      timed.push_back(&live);
      subjects.push_back({.launch = [run = live.run.get()](const Tensors& tensors, Stream stream) { run->launch(tensors, stream); },
                          .launches = live.run->launches(),
                          .capturable = live.run->capturable(),
                          .check = [this, &live](const Tensors& tensors) { return check(live, tensors); },
                          .spent_s = live.spent_s,
                          .before = [this, &live] { options_.in_flight(live.planned->case_id); },
                          .failed =
                              [this, &live](const std::exception_ptr& error) {
                                guarded(live, [&] { std::rethrow_exception(error); });
                                require_machine(live);
                              }});
    }
    if (subjects.empty() || options_.interrupted()) return;
    std::vector<Timing> timings;
    try {
      buffers.replicate();
      for (Live* live : timed) {
        if (!live->injected) continue;
        live->injected->calibrate(machine_, [&] { return buffers.set(buffers.next()); });
        buffers.replicate();
      }
      TimerOptions timer{.paper = suite_.protocol == "paper",
                         .order_seed = options_.order_seed ^ hash_text(group.group_id),
                         .case_s = suite_.limits.case_s,
                         .deadline_s = deadline_s_,
                         .now = now_,
                         .interrupted = options_.interrupted};
      if (options_.turns) give_turns(timer, group.group_id, timed);
      timings = time_group(machine_, buffers, subjects, timer).cases;
    } catch (const DeviceLost&) {
      throw;
    } catch (...) {
      for (Live* live : timed) guarded(*live, [] { throw; });
      for (const Live* live : timed) require_machine(*live);
    }
    for (std::size_t i = 0; i < timings.size(); ++i) take(*timed[i], timings[i]);
    clock_.charge(&PhaseTimes::time_s);
  }

  /// The group is announced once all of its cases are warm.
  void give_turns(TimerOptions& timer, const std::string& group_id, const std::vector<Live*>& timed) {
    std::vector<std::string> case_ids;
    for (const Live* live : timed) case_ids.push_back(live->planned->case_id);
    timer.next_turn = [this, group_id, case_ids, announced = false]() mutable {
      options_.in_flight("");  // who waits for a turn does not hang
      if (!std::exchange(announced, true)) options_.turns->ready(group_id, case_ids);
      return options_.turns->next();
    };
    timer.turn_taken = [this](const Turn& turn, std::int64_t samples, double spent_s) { options_.turns->visited(turn.subject, samples, spent_s); };
  }

  /// The verdict on the timed launches, and the row's times if it stands.
  void take(Live& live, const Timing& timing) {
    guarded(live, [&] {
      if (timing.error) std::rethrow_exception(timing.error);
      if (!timing.wrong.empty()) return live.set(Status::wrong, timing.wrong);
      if (timing.samples_s.empty()) {
        return live.set(Status::timeout, timing.stop == Stop::total_time ? fmt::format("limits.total_s = {} was spent before it could be timed", suite_.limits.total_s)
                                                                         : fmt::format("limits.case_s = {} was spent before it could be timed", suite_.limits.case_s));
      }
      const Verdict last = judge_outcome(live.run->outcome(), live.context->errors.worst(), live.planned->expect);
      if (last.status != live.row.status) return live.set(last.status, "in a timed launch: " + last.reason);
      live.context->timing = &timing;
      each_metric(*live.context, live.row, &Metric::timed);
      if (live.injected && live.row.time_s) live.row.time_s->method += "; " + live.injected->describe();
    });
    require_machine(live);
  }

  void explain_absent_time(Live& live) {
    if (live.row.time_s) return;
    const std::string why = !options_.time        ? "verified only"
                            : !suite_.metric_time ? "the suite does not ask for time"
                            : live.as_expected()  ? "not timed"
                                                  : fmt::format("a row that is {} is not timed", to_string(live.row.status));
    for (const char* field : {"time_s", "samples_s", "time_graph_s", "graph_launches", "host_s", "clock_mhz", "floor_s", "floor_fraction", "compute_floor_s"})
      live.row.null_reasons.emplace(field, why);
  }

  const Suite& suite_;
  Machine& machine_;
  SweepOptions options_;
  SweepResult result_;
  std::function<double()> now_;
  PhaseClock clock_;
  Arena arena_, scratch_;
  double copy_bytes_per_s_;
  double deadline_s_;
  std::int64_t total_ = 0, done_ = 0;
  std::optional<GradientReference> gradients_;  // of the group in flight
  std::int64_t gradient_groups_ = 0;            // to come
  double gradient_s_ = 0;                       // spent on those before
};

/// How alike two rows of a group are in the axes in which a group's rows differ besides the solver.
int likeness(const CaseRecord& a, const CaseRecord& b) {
  return 4 * (a.problem.gates == b.problem.gates) + 2 * (a.problem.policy == b.problem.policy) + (a.problem.iteration_limit == b.problem.iteration_limit);
}

}  // namespace

std::vector<Metric>& metrics() {
  static std::vector<Metric> list;
  return list;
}

std::string PhaseTimes::line() const {
  const double total = std::max(total_s(), 1e-9);
  const auto part = [&](const char* name, double seconds) { return fmt::format("{} {:.1f} s ({:.0f} %)", name, seconds, 100 * seconds / total); };
  return fmt::format("{:.1f} s: {}, {}, {}, {}, {}", total_s(), part("verifying", verify_s), part("measuring", time_s), part("reference", reference_s), part("drawing", draw_s),
                     part("other", other_s));
}

Json to_json(const PhaseTimes& p) {
  return {{"total_s", p.total_s()}, {"verify_s", p.verify_s}, {"time_s", p.time_s}, {"reference_s", p.reference_s}, {"draw_s", p.draw_s}, {"other_s", p.other_s}};
}

Verdict judge_outcome(const Outcome& outcome, const ErrorReport& errors, Status expected) {
  const bool fails = !passes(errors.test_ratio());
  if (outcome.nonfinite) {
    const auto [b, l, d] = *outcome.nonfinite;
    const std::string reason = fmt::format("not finite at (b, l, d) = ({}, {}, {})", b, l, d);
    if (expected == Status::not_converged && outcome.converged == false) return {expected, reason};
    return {expected == Status::wrong ? expected : Status::error, reason};
  }
  if (PRNN_FAULT(38, outcome.converged == false, outcome.iterations && outcome.converged == false))
    return {Status::not_converged, outcome.iterations ? fmt::format("not converged after {} iterations", *outcome.iterations) : "not converged"};
  if (fails) {
    const char* test = passes(errors.ratio_local) ? "forward" : "local";
    return {Status::wrong, fmt::format("the {} test finds an error of {:.3g} x its bound, at most {} allowed", test, errors.test_ratio(), kErrorFactor)};
  }
  return {};
}

void add_speedups(std::vector<CaseRecord>& group, const std::vector<std::string>& baselines, std::uint64_t seed) {
  const auto usable = [](const CaseRecord& row) { return row.status == Status::ok && !row.samples_s.empty(); };
  for (const std::string& baseline : baselines) {
    for (CaseRecord& row : group) {
      const auto none = [&](const std::string& why) { row.null_reasons["speedup." + baseline] = why; };
      if (!usable(row)) {
        none("this row is not ok");
        continue;
      }
      const CaseRecord* best = nullptr;
      const CaseRecord* any = nullptr;
      for (const CaseRecord& other : group) {
        if (other.solver != baseline) continue;
        any = &other;
        if (usable(other) && (!best || PRNN_FAULT(39, likeness(row, other) > likeness(row, *best), likeness(row, other) < likeness(row, *best)))) best = &other;
      }
      if (!best) {
        none(any ? fmt::format("{} is {}", baseline, to_string(any->status)) : baseline + " is not in this group");
      } else if (best == &row) {
        row.speedup[baseline] = {1, 1, 1};
      } else {
        const Ratio r = median_ratio(best->samples_s, row.samples_s, seed);
        row.speedup[baseline] = {r.ratio, r.ci95_low, r.ci95_high};
      }
    }
  }
}

SweepResult sweep(const Suite& suite, const std::vector<Group>& groups, Machine& machine, const SweepOptions& options) { return Sweeper(suite, machine, options).run(groups); }

}  // namespace prnn

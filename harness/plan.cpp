// plan.cpp: the product of a suite's axes, with the reason for every row that will not run.
#include "harness/plan.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <functional>
#include <regex>
#include <unordered_map>

#include "kernels/fault.hpp"

namespace prnn {
namespace {

constexpr std::string_view kUndefined = "undefined combination: ", kMemory = "memory: ";

/// One axis while it is expanded: so many values, and how the i-th is put into a case.
struct Dial {
  std::size_t count;
  std::function<void(Case&, std::size_t)> set;
};

/// visit(case) for every combination, the last dial turning fastest.
void turn(const std::vector<Dial>& dials, std::size_t at, Case& c, const std::function<void(const Case&)>& visit) {
  if (at == dials.size()) return visit(c);
  for (std::size_t i = 0; i < dials[at].count; ++i) {
    dials[at].set(c, i);
    turn(dials, at + 1, c, visit);
  }
}

template <class T, class Member>
Dial dial(const std::vector<T>& values, Member member) {
  return {values.size(), [&values, member](Case& c, std::size_t i) { std::invoke(member, c.problem) = values[i]; }};
}

std::string limit_text(const Problem& p) { return p.iteration_limit ? std::to_string(*p.iteration_limit) : "adaptive"; }

/// The axes before `gates` in case_id; the cache follows in both ids.
std::string shape_text(const Problem& p) {
  return fmt::format("{}/{}/{}/{}/{}/{}/B{}/D{}/L{}/{}{}/h0={}/seed={}", p.op, p.scope, p.cell, p.pass, p.grad, to_string(p.storage), p.batch, p.hidden, p.seq_len, p.regime,
                     p.weight_std ? fmt::format("/weight_std={}", *p.weight_std) : "", p.h0, p.seed);
}

void name(Case& c) {
  const std::string shape = shape_text(c.problem);
  c.group_id = PRNN_FAULT(49, shape + "/" + c.cache, shape);
  c.case_id = fmt::format("{}/{}/{}/{}/{}", shape, c.problem.gates, limit_text(c.problem), c.cache, c.solver);
  char before = '/';
  for (const auto& [key, value] : c.problem.policy) {
    c.case_id += fmt::format("{}{}={}", before, key, value);
    before = ',';
  }
}

/// Why a case is not defined on this device; empty: it is.
std::string undefined(const Case& c, const Solver* solver) {
  if (const std::string why = find_op(c.problem.op).why_not(c.problem); !why.empty()) return why;
  if (!solver) {
    const std::vector<std::string> of_op = solver_names(c.problem.op);
    if (std::find(of_op.begin(), of_op.end(), c.solver) == of_op.end()) return fmt::format("{} is no solver of op {}", c.solver, c.problem.op);
    std::string elsewhere;
    for (const MachineEntry& machine : machines()) {
      if (find_solver(c.solver, machine.device, c.problem)) elsewhere += (elsewhere.empty() ? "" : ", ") + machine.device;
    }
    if (elsewhere.empty() && c.problem.pass != "forward") return fmt::format("{} has no pass {}", c.solver, c.problem.pass);
    return fmt::format("{} does not run on {}{}", c.solver, c.device, elsewhere.empty() ? "" : " (it does on " + elsewhere + ")");
  }
  if (c.problem.iteration_limit && !solver->iterates) return c.solver + " does not iterate, so a fixed count means nothing";
  return solver->why_not(c.problem);
}

/// Memory of a case and whether it may run.
void judge(Case& c, const Limits& limits, const PlanOptions& options) {
  for (const TensorSpec& tensor : find_op(c.problem.op).tensors(c.problem)) c.set_bytes += tensor.bytes();
  if (c.cache == "rotating") c.sets = rotating_sets(c.set_bytes, options.last_level_cache_bytes);
  const Solver* solver = find_solver(c.solver, c.device, c.problem);
  if (const std::string why = undefined(c, solver); !why.empty()) {
    c.skip = undefined_combination(why);
    return;
  }
  c.workspace_bytes = solver->workspace_bytes(c.problem);
  if (c.bytes() > limits.bytes) c.skip = too_large(fmt::format("the case needs {}, limits.bytes allows {}", readable_bytes(c.bytes()), readable_bytes(limits.bytes)));
}

/// A group is prepared together: the cases that no longer fit beside those before them are left out.
void fit(Group& group, std::int64_t free_bytes) {
  std::int64_t used = 0;
  for (Case& c : group.cases) {
    if (!c.skip.empty()) continue;
    const std::int64_t needed = c.set_bytes * c.sets + used + c.workspace_bytes;
    if (needed > free_bytes) c.skip = too_large(fmt::format("the group needs {} with this case, {} are free on {}", readable_bytes(needed), readable_bytes(free_bytes), c.device));
    else used += c.workspace_bytes;
  }
}

class Collector {
 public:
  void add(const Case& c) {
    const auto [found, is_new] = group_at_.try_emplace(c.group_id, groups.size());
    if (is_new) groups.push_back({c.group_id, {}});
    std::vector<Case>& cases = groups[found->second].cases;
    const auto same = std::find_if(cases.begin(), cases.end(), [&](const Case& other) { return other.case_id == c.case_id; });
    if (same == cases.end()) cases.push_back(c);
    else same->expect = c.expect;
  }
  std::vector<Group> groups;

 private:
  std::unordered_map<std::string, std::size_t> group_at_;
};

void expand(const Grid& grid, const Op& op, const Suite& suite, const std::string& device, Collector& collector) {
  const Axes& a = grid.axes;
  const std::vector<std::string> solvers = a.all_solvers ? solver_names(op.name) : a.solvers;
  std::vector<Dial> dials = {dial(a.scope, &Problem::scope),
                             dial(names_for(a, op), &Problem::cell),
                             dial(a.passes, &Problem::pass),
                             dial(a.grad, &Problem::grad),
                             dial(a.storage, &Problem::storage),
                             dial(a.regime, &Problem::regime),
                             dial(a.weight_std, &Problem::weight_std),
                             dial(a.h0, &Problem::h0),
                             dial(a.seed, &Problem::seed),
                             {a.cache.size(), [&](Case& c, std::size_t i) { c.cache = a.cache[i]; }},
                             dial(a.batch, &Problem::batch),
                             dial(a.hidden, &Problem::hidden),
                             dial(a.seq_len, &Problem::seq_len),
                             {solvers.size(), [&](Case& c, std::size_t i) { c.solver = solvers[i]; }},
                             dial(a.gates, &Problem::gates),
                             dial(a.iteration_limit, &Problem::iteration_limit)};
  for (const auto& [key, values] : a.policy) {
    dials.push_back({values.size(), [&key = key, &values = values](Case& c, std::size_t i) { c.problem.policy[key] = values[i]; }});
  }
  Case c;
  c.problem.op = op.name;
  c.device = device;
  c.expect = grid.expect;
  turn(dials, 0, c, [&](const Case& complete) {
    Case named = complete;
    if (reads_text(named.problem.regime)) named.problem.text = suite.text_bytes;
    name(named);
    collector.add(named);
  });
}

/// A speedup needs its baseline in the group: one that `solvers` leaves out, or that is there at a fixed count only, is added as shipped.
void add_baselines(const Suite& suite, Group& group) {
  const std::vector<std::string> of_op = solver_names(group.cases.front().problem.op);
  for (const std::string& baseline : suite.baselines) {
    if (std::find(of_op.begin(), of_op.end(), baseline) == of_op.end()) continue;
    const bool there = std::any_of(group.cases.begin(), group.cases.end(), [&](const Case& c) { return c.solver == baseline && c.skip.empty(); });
    if (there) continue;
    Case c = group.cases.front();
    c.solver = baseline;
    c.expect = Status::ok;
    c.skip.clear();
    c.set_bytes = 0;
    c.problem.gates = "exact";
    c.problem.iteration_limit.reset();
    c.problem.policy.clear();
    name(c);
    const bool planned = std::any_of(group.cases.begin(), group.cases.end(), [&](const Case& other) { return other.case_id == c.case_id; });
    if (!planned) group.cases.push_back(c);
  }
}

}  // namespace

std::string undefined_combination(const std::string& why) { return std::string(kUndefined) + why; }
std::string too_large(const std::string& why) { return std::string(kMemory) + why; }
bool is_undefined(std::string_view reason) { return reason.starts_with(kUndefined); }
bool excused(std::string_view reason) { return is_undefined(reason) || reason.starts_with(kMemory); }

std::int64_t Group::bytes() const {
  std::int64_t tensors = 0, workspaces = 0;
  for (const Case& c : cases) {
    if (!c.skip.empty()) continue;
    tensors = c.set_bytes * c.sets;
    workspaces += c.workspace_bytes;
  }
  return tensors + workspaces;
}

std::int64_t rotating_sets(std::int64_t set_bytes, std::int64_t cache_bytes) { return 3 * cache_bytes / set_bytes + 1; }

std::string readable_bytes(std::int64_t bytes) {
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes);
  const char* unit = "KMGTPE";
  for (value /= 1024; value >= 1024; value /= 1024) ++unit;
  return fmt::format("{:.1f} {}iB", value, *unit);
}

std::function<bool(const std::string&)> name_filter(std::string_view flag, const std::string& expression) {
  try {
    return [pattern = std::regex(expression)](const std::string& name) { return std::regex_search(name, pattern); };
  } catch (const std::regex_error& error) {
    throw BadInput(fmt::format("{} {}: bad regular expression: {}", flag, expression, error.what()));
  }
}

std::vector<Group> make_plan(const Suite& suite, const PlanOptions& options) {
  Collector collector;
  for (const Grid& grid : suite.grids) {
    for (const std::string& op : grid.axes.op) expand(grid, find_op(op), suite, options.device, collector);
  }
  std::vector<Group> groups = std::move(collector.groups);
  std::size_t count = 0;
  for (Group& group : groups) {
    for (Case& c : group.cases) judge(c, suite.limits, options);
    const std::size_t named = group.cases.size();
    add_baselines(suite, group);
    for (std::size_t i = named; i < group.cases.size(); ++i) judge(group.cases[i], suite.limits, options);
    count += group.cases.size();
  }
  if (!options.only.empty()) {
    const auto matches = name_filter("--only", options.only);
    for (Group& group : groups) std::erase_if(group.cases, [&](const Case& c) { return !matches(c.case_id); });
    std::erase_if(groups, [](const Group& group) { return group.cases.empty(); });
    if (groups.empty()) throw BadInput(fmt::format("--only {}: matches none of the {} cases of {}", options.only, count, suite.path));
  }
  for (Group& group : groups) fit(group, options.free_bytes);
  return groups;
}

}  // namespace prnn

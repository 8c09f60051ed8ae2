// auto_table.cpp: see auto_table.hpp.
#include "harness/auto_table.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <tuple>

#include "harness/progress.hpp"
#include "harness/sha256.hpp"
#include "harness/statistics.hpp"

namespace prnn {
namespace {

/// Slow by design, or what is being fitted.
bool can_be_fastest(const std::string& solver) {
  constexpr std::string_view left_out[] = {"seq_stepwise", "seq_graph", "newton_unfused", "scan_stepwise", "cub", "auto"};
  return std::find(std::begin(left_out), std::end(left_out), solver) == std::end(left_out);
}

bool is_measurement(const CaseRecord& row) {
  const Problem& p = row.problem;
  return row.status == Status::ok && row.time_s && can_be_fastest(row.solver) && p.scope == "kernel" &&
         (p.pass == "forward" || (p.pass == "backward" && p.grad == "all")) && p.regime == "paper" && !p.weight_std && !p.iteration_limit && row.cache == "rotating";
}

/// "" where a record's device has no times of its own: the emulated GPU.
std::string architecture_of(const CaseRecord& row, const Provenance& head) {
  if (row.device == "cpu") return "cpu";
  return row.device == "cuda" && head.gpu ? fmt::format("sm_{}", head.gpu->sm) : "";
}

std::string candidate_text(const CaseRecord& row) {
  std::string text = row.solver;
  for (const auto& [key, value] : suite_overrides(row)) text += fmt::format(" {}={}", key, value);
  return text;
}

/// Values in the order in which they were first seen: ranks to sort by.
class Order {
 public:
  std::size_t operator()(const std::string& name) {
    const auto found = std::find(names_.begin(), names_.end(), name);
    if (found != names_.end()) return std::size_t(found - names_.begin());
    names_.push_back(name);
    return names_.size() - 1;
  }
  const std::string& name(std::size_t rank) const { return names_[rank]; }
  std::size_t size() const { return names_.size(); }

 private:
  std::vector<std::string> names_;
};

/// (architecture, backward, cell, storage, approximate), ranks.
using Kind = std::tuple<std::size_t, bool, std::size_t, Storage, bool>;
/// (batch x hidden, batch, seq_len): the order of a table.
using Size = std::tuple<std::int64_t, std::int64_t, std::int64_t>;
using Times = std::map<std::string, double>;  // seconds by candidate
using Fitted = std::map<Kind, std::map<Size, Times>>;

void drop_the_hopeless(std::map<Size, Times>& sizes) {
  std::map<std::string, double> nearest;  // to the best, by candidate
  for (const auto& [size, times] : sizes) {
    double best = INFINITY;
    for (const auto& [candidate, time_s] : times) best = std::min(best, time_s);
    for (const auto& [candidate, time_s] : times) {
      const double ratio = time_s / best;
      const auto known = nearest.try_emplace(candidate, ratio).first;
      known->second = std::min(known->second, ratio);
    }
  }
  for (auto& [size, times] : sizes) std::erase_if(times, [&](const auto& time) { return nearest.at(time.first) > kKeptWithin; });
}

std::string microseconds(double time_s) { return time_s < 1e-3 ? fmt::format("{:.4g}", time_s * 1e6) : fmt::format("{:.0f}", time_s * 1e6); }

/// Numbers in [0, 1) that a text determines.
class Draws {
 public:
  explicit Draws(std::string seed) : seed_(std::move(seed)) {}
  double next() { return double(std::stoull(sha256(fmt::format("{} {}", seed_, count_++)).substr(0, 13), nullptr, 16)) * 0x1p-52; }
  /// Log-uniform on first .. last.
  std::int64_t integer(double first, double last) { return std::int64_t(std::floor(first * std::pow((last + 1) / first, next()))); }

 private:
  std::string seed_;
  int count_ = 0;
};

}  // namespace

Policy suite_overrides(const CaseRecord& row) {
  Policy overrides;
  std::string_view rest = row.case_id;
  const std::string solver = "/" + row.solver + "/";
  const std::size_t at = rest.rfind(solver);
  if (at == std::string_view::npos) return overrides;
  rest.remove_prefix(at + solver.size());
  while (!rest.empty()) {
    const std::string_view pair = rest.substr(0, rest.find(','));
    const std::string key(pair.substr(0, pair.find('=')));
    std::int64_t value = 0;
    std::from_chars(pair.data() + std::min(key.size() + 1, pair.size()), pair.data() + pair.size(), value);
    if (row.policy.contains(key)) overrides[key] = value;
    rest.remove_prefix(std::min(pair.size() + 1, rest.size()));
  }
  return overrides;
}

std::string fitted_table(const std::vector<NamedRecords>& inputs, const FitOptions& options) {
  Order architectures, cells;
  std::map<std::size_t, std::string> described;
  Fitted fitted;
  std::string files;
  for (const auto& [path, records] : inputs) {
    std::map<Kind, std::map<Size, std::map<std::string, std::vector<double>>>> mine;
    std::size_t rows = 0;
    const Provenance& head = records.head;
    for (const CaseRecord& row : records.rows) {
      const std::string architecture = architecture_of(row, head);
      if (!is_measurement(row) || architecture.empty()) continue;
      const Problem& p = row.problem;
      const std::size_t rank = architectures(architecture);
      described[rank] = head.gpu && row.device == "cuda" ? fmt::format("{} {}", options.multiprocessors, head.gpu->name) : fmt::format("{} {}", head.cores, head.cpu);
      mine[{rank, p.pass == "backward", cells(p.cell), p.storage, p.gates != "exact"}][{p.batch * p.hidden, p.batch, p.seq_len}][candidate_text(row)].push_back(row.time_s->median);
      ++rows;
    }
    for (const auto& [kind, sizes] : mine) {
      for (const auto& [size, times] : sizes) {
        for (const auto& [candidate, samples] : times) fitted[kind][size][candidate] = median(samples);
      }
    }
    files += fmt::format("# {}: commit {}{}, {}, {}, {} rows\n", path, head.commit, head.dirty ? " (dirty)" : "", head.time_utc, head.gpu ? head.gpu->name : head.cpu, rows);
  }
  if (fitted.empty()) throw BadInput("nothing to fit: expected records with timed rows of pass forward or backward, of regime paper, on cuda or cpu");

  std::string text = fmt::format(
      "R\"prnn(# Measured times that solver auto chooses by; written by prnn_fit_auto, never by hand (how to: kernels/solvers/auto.cpp):\n# {}\n{}"
      "# architecture, pass, cell, storage, gates, batch, hidden, seq_len, candidate (a solver, its policy overrides if any), median time in us\n",
      options.command, files);
  for (const auto& [rank, description] : described) text += fmt::format("architecture {} {}\n", architectures.name(rank), description);
  for (auto& [kind, sizes] : fitted) {
    drop_the_hopeless(sizes);
    const auto& [architecture, backward, cell, storage, approximate] = kind;
    for (const auto& [size, times] : sizes) {
      const auto& [channels, batch, seq_len] = size;
      for (const auto& [candidate, time_s] : times) {
        text += fmt::format("{} {} {} {} {} {} {} {} {} {}\n", architectures.name(architecture), backward ? "backward" : "forward", cells.name(cell), to_string(storage),
                            approximate ? "approx" : "exact", batch, channels / batch, seq_len, candidate, microseconds(time_s));
      }
    }
  }
  return text + ")prnn\"\n";
}

std::string unseen_suite(std::string_view table, std::string_view pass) {
  const bool backward = pass == "backward";
  const std::string digest = sha256(table);
  Draws draws(digest);
  std::string text = fmt::format(
      "# Sizes that nobody chose: log-uniform draws from the SHA-256 of the table of solver auto, {1}.\n# Printed by prnn_fit_auto --unseen{2}; judged by prnn_fit_auto --check.\n"
      "title = \"auto at sizes that nobody chose, pass {0}\"\ncells = [\"gru_diag\", \"lstm_cifg_diag\"]\nsolvers = [\"seq_fused\", \"{3}\", \"shooting\", \"auto\"]\n"
      "passes = \"{0}\"\n"
      "storage = [\"f32\", \"bf16\"]\ncache = \"rotating\"\nregime = \"paper\"\nlimits = {{ case_s = 5, total_s = 570, bytes = 6e10, reference_s = 60 }}\n",
      pass, digest, backward ? " --pass backward" : "", backward ? "reduction" : "newton_fused");
  for (int point = 0; point < kUnseenPoints;) {
    const std::int64_t batch = draws.integer(1, 16), hidden = draws.integer(16, 8192), seq_len = draws.integer(8, 65536), bytes = 4 * batch * hidden * seq_len;
    if (bytes < std::int64_t(16) << 10 || bytes > std::int64_t(4) << 30) continue;
    text += fmt::format("{}batch = {}\nhidden = {}\nseq_len = {}\n", point ? "\n[[point]]\n" : "", batch, hidden, seq_len);
    ++point;
  }
  return text;
}

AutoCheck check_auto(const std::vector<NamedRecords>& inputs, double within) {
  AutoCheck check;
  double worst = 0;
  int judged = 0, failed = 0;
  for (const auto& [path, records] : inputs) {
    struct Rows {
      std::vector<const CaseRecord*> chosen;
      const CaseRecord* best = nullptr;
    };
    Order groups;
    std::map<std::size_t, Rows> of;
    for (const CaseRecord& row : records.rows) {
      if (row.problem.iteration_limit) continue;
      Rows& rows = of[groups(row.group_id + " " + row.problem.gates)];
      if (row.solver == "auto") rows.chosen.push_back(&row);
      else if (row.status == Status::ok && row.time_s && (!rows.best || row.time_s->median < rows.best->time_s->median)) rows.best = &row;
    }
    for (const auto& [rank, rows] : of) {
      if (rows.chosen.empty()) throw BadInput(fmt::format("{}: {}: no row of auto", path, groups.name(rank)));
      if (!rows.best) continue;
      for (const CaseRecord* row : rows.chosen) {
        const bool timed = row->status == Status::ok && row->time_s;
        const double ratio = timed ? row->time_s->median / rows.best->time_s->median : INFINITY;
        const bool passes = ratio <= within;
        ++judged, failed += !passes, worst = std::max(worst, ratio);
        check.text += fmt::format("{:6.3f}  {}  {} {}  auto {} {}  best {} {}\n", ratio, passes ? "within" : "BEYOND", row->group_id, row->problem.gates,
                                  timed ? row->policy_solver : to_string(row->status), timed ? readable_time(row->time_s->median) : "-", rows.best->solver,
                                  readable_time(rows.best->time_s->median));
      }
    }
  }
  if (judged == 0) throw BadInput("nothing to check: expected records with rows of auto beside other solvers' that are ok");
  check.passes = failed == 0;
  check.text += fmt::format("{} of {} beyond {:.3g} x the best; the worst {:.3f}\n", failed, judged, within, worst);
  return check;
}

}  // namespace prnn

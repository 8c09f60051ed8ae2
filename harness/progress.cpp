// progress.cpp: see progress.hpp.
#include "harness/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <set>

#include "harness/timer.hpp"

namespace prnn {
namespace {

constexpr double kTerminalEvery_s = 0.1, kPlainEvery_s = 5;
std::atomic<int> interrupts = 0;

std::size_t width_of(const std::string& text) {  // code points: none of ours is wider than one column
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

struct Column {
  std::string title;
  bool right;
  std::function<std::string(const CaseRecord&)> text;
  bool optional = false;  // shown only where rows differ in it
};

std::string text_of(const std::optional<std::int64_t>& n) { return n ? std::to_string(*n) : "-"; }

std::string text_of(const Policy& policy) {
  std::string text;
  for (const auto& [key, value] : policy) text += (text.empty() ? "" : ",") + key + "=" + std::to_string(value);
  return text;
}

/// Counts against the sweep (design section 1).
bool surprising(const CaseRecord& row) { return row.status != row.expected_status && !(row.status == Status::skipped && excused(row.reason)); }

std::vector<Column> columns(const std::vector<std::string>& baselines) {
  using R = CaseRecord;
  std::vector<Column> list = {
      {"op", false, [](const R& r) { return r.problem.op; }, true},
      {"scope", false, [](const R& r) { return r.problem.scope; }, true},
      {"cell", false, [](const R& r) { return r.problem.cell; }},
      {"pass", false, [](const R& r) { return r.problem.pass; }, true},
      {"grad", false, [](const R& r) { return r.problem.grad; }, true},
      {"storage", false, [](const R& r) { return std::string(to_string(r.problem.storage)); }, true},
      {"B", true, [](const R& r) { return std::to_string(r.problem.batch); }},
      {"D", true, [](const R& r) { return std::to_string(r.problem.hidden); }},
      {"L", true, [](const R& r) { return std::to_string(r.problem.seq_len); }},
      {"regime", false, [](const R& r) { return r.problem.regime; }},
      {"std", true, [](const R& r) { return r.problem.weight_std ? fmt::format("{}", *r.problem.weight_std) : "-"; }, true},
      {"h0", false, [](const R& r) { return r.problem.h0; }, true},
      {"seed", true, [](const R& r) { return std::to_string(r.problem.seed); }, true},
      {"cache", false, [](const R& r) { return r.cache; }, true},
      {"gates", false, [](const R& r) { return r.problem.gates; }, true},
      {"limit", true, [](const R& r) { return r.problem.iteration_limit ? std::to_string(*r.problem.iteration_limit) : "-"; }, true},
      {"solver", false, [](const R& r) { return r.solver; }},
      {"asked policy", false, [](const R& r) { return text_of(r.problem.policy); }, true},
      {"status", false, [](const R& r) { return std::string(to_string(r.status)); }},
      {"time", true, [](const R& r) { return r.time_s ? readable_time(r.time_s->median) : "-"; }},
  };
  for (const std::string& baseline : baselines) {
    list.push_back({"x " + baseline, true, [baseline](const R& r) {
                      const auto found = r.speedup.find(baseline);
                      return found == r.speedup.end() ? "-" : fmt::format("{:.3g}", found->second.ratio);
                    }});
  }
  list.push_back({"iterations", true, [](const R& r) { return text_of(r.iterations); }});
  list.push_back({"error/bound", true, [](const R& r) { return r.worst_test_ratio() ? fmt::format("{:.2g}", *r.worst_test_ratio()) : "-"; }});
  return list;
}

}  // namespace

Progress::Progress(std::ostream* out, bool terminal, std::function<double()> now)
    : out_(out), terminal_(terminal), now_(now ? std::move(now) : steady_now_s), start_s_(now_()), last_s_(-1e300) {}

void Progress::show(std::int64_t done, std::int64_t total, const std::string& what) {
  if (!out_) return;
  const double now = now_();
  if (total != last_total_) {  // another kind of step: its pace is its own
    start_s_ = now;
    last_total_ = total;
  }
  if (now - last_s_ < (terminal_ ? kTerminalEvery_s : kPlainEvery_s) && done != total) return;
  last_s_ = now;
  std::string line = fmt::format("[{}/{}] {}", done, total, what);
  if (done > 0 && done < total) {
    line += fmt::format(", about {} left", readable_time((now - start_s_) * static_cast<double>(total - done) / static_cast<double>(done)));
  }
  drawn_ = terminal_;
  *out_ << (terminal_ ? "\r\x1b[K" + line : line + "\n") << std::flush;
}

void Progress::end() {
  if (drawn_) *out_ << "\r\x1b[K" << std::flush;
  drawn_ = false;
}

bool stderr_is_terminal() {
  const char* term = std::getenv("TERM");
  return isatty(STDERR_FILENO) && term && std::string_view(term) != "dumb";
}

bool stdout_has_color() {
  const char* no_color = std::getenv("NO_COLOR");
  return isatty(STDOUT_FILENO) && !(no_color && *no_color);
}

std::string readable_time(double time_s) {
  if (!std::isfinite(time_s)) return "-";
  if (time_s >= 5400) return fmt::format("{:.3g} h", time_s / 3600);
  if (time_s >= 90) return fmt::format("{:.3g} min", time_s / 60);
  for (const auto& [unit, scale] : {std::pair{"s", 1.0}, {"ms", 1e-3}, {"us", 1e-6}}) {
    if (time_s >= 0.9995 * scale) return fmt::format("{:.3g} {}", time_s / scale, unit);
  }
  return fmt::format("{:.3g} ns", time_s / 1e-9);
}

std::string table(const std::vector<CaseRecord>& rows, const std::vector<std::string>& baselines, bool color) {
  std::vector<Column> shown;
  for (Column& column : columns(baselines)) {
    std::set<std::string> values;
    for (const CaseRecord& row : rows) values.insert(column.text(row));
    if (!column.optional || values.size() > 1) shown.push_back(std::move(column));
  }
  std::vector<std::vector<std::string>> cells(rows.size() + 1);
  std::vector<std::size_t> widths;
  for (const Column& column : shown) {
    cells[0].push_back(column.title);
    for (std::size_t r = 0; r < rows.size(); ++r) cells[r + 1].push_back(column.text(rows[r]));
    std::size_t width = 0;
    for (const auto& line : cells) width = std::max(width, width_of(line.back()));
    widths.push_back(width);
  }
  std::string text;
  for (std::size_t r = 0; r < cells.size(); ++r) {
    const CaseRecord* row = r > 0 ? &rows[r - 1] : nullptr;
    std::string line;
    for (std::size_t i = 0; i < shown.size(); ++i) {
      const std::string& cell = cells[r][i];
      const std::string pad(widths[i] - width_of(cell), ' ');
      const bool red = color && row && shown[i].title == "status" && surprising(*row);
      const std::string painted = red ? "\x1b[31m" + cell + "\x1b[0m" : cell;
      line += (i ? "  " : "") + (shown[i].right ? pad + painted : painted + pad);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    if (row && row->status != row->expected_status) line += "  " + (row->reason.empty() ? fmt::format("expected {}", to_string(row->expected_status)) : row->reason);
    text += line + "\n";
  }
  return text;
}

void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = [](int signal) {
    if (interrupts++) {
      ::signal(signal, SIG_DFL);
      ::raise(signal);
    }
  };
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() { return interrupts != 0; }

}  // namespace prnn

// progress.hpp: what a person sees of a sweep: where it stands on stderr, the table of its rows on stdout, and the interrupt key.
#pragma once

#include <cstdint>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "harness/record.hpp"

namespace prnn {

/// On a terminal one line that is rewritten, with the time left; elsewhere a plain line every few seconds. `out` null: silent.
class Progress {
 public:
  Progress(std::ostream* out, bool terminal, std::function<double()> now = {});
  /// done of total steps of what is going on; what: "reference", a case_id.
  void show(std::int64_t done, std::int64_t total, const std::string& what);
  void end();  // leaves the line

 private:
  std::ostream* out_;
  bool terminal_, drawn_ = false;
  std::function<double()> now_;
  double start_s_, last_s_;
  std::int64_t last_total_ = -1;
};

/// stderr is a terminal and TERM is not "dumb".
bool stderr_is_terminal();
/// stdout is a terminal and NO_COLOR (https://no-color.org) is not set.
bool stdout_has_color();

/// 1.234e-5 -> "12.3 us"; three digits, any magnitude from ns to h.
std::string readable_time(double time_s);

/// One line a row, aligned; axes that have one value in all rows are left out but for cell, B, D, L. A status that is not the expected one is red where color is set.
std::string table(const std::vector<CaseRecord>& rows, const std::vector<std::string>& baselines, bool color);

/// From now on SIGINT and SIGTERM only set interrupted(); a second one ends the program.
void catch_interrupts();
bool interrupted();

}  // namespace prnn
